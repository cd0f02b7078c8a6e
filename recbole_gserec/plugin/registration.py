"""Registration with RecBole: calls all hooks in order, and adapts the libraries that RecBole uses.

The hooks are in the modules ``*_hooks`` of this package. Nothing else changes RecBole. Written for RecBole 1.2.0 and
1.2.1, which have the same code wherever the hooks change it.
"""

import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import recbole
import torch
from scipy.sparse import dok_matrix

from recbole_gserec.errors import VersionError
from recbole_gserec.plugin.data_hooks import add_dataset_downloads, check_search_data, replace_evaluation
from recbole_gserec.plugin.model_registry import add_models, add_models_of_others, load_named_files
from recbole_gserec.plugin.run_hooks import (
    explain_failed_training,
    keep_runs_apart,
    let_exhaustive_search_draw,
    replace_checkpoints,
    replace_entry_points,
    train_by_our_losses,
    unpickle_only_when_asked,
)
from recbole_gserec.plugin.settings_hooks import (
    add_settings,
    evaluate_nothing,
    find_models_in_files,
    name_missing_models,
)

SUPPORTED_VERSIONS = ("1.2.0", "1.2.1")


def register() -> None:
    """Register this package with RecBole. Safe to call more than once.

    Raises:
        VersionError: For a RecBole version this module was not written for.
    """
    if recbole.__version__ not in SUPPORTED_VERSIONS:
        raise VersionError(
            f"RecBole {recbole.__version__} is installed, but this version of recbole-gserec works with "
            f"{' and '.join(SUPPORTED_VERSIONS)}. Install one of them: pip install 'recbole=={SUPPORTED_VERSIONS[0]}'"
        )
    if getattr(recbole, "_gserec_registered", False):
        return
    _restore_numpy_names()
    _restore_scipy_method()
    _silence_deprecations()
    _keep_anomaly_detection_off()
    _clean_worker_arguments()
    evaluate_nothing()
    add_settings()
    add_models()
    name_missing_models()
    add_dataset_downloads()
    check_search_data()
    unpickle_only_when_asked()
    keep_runs_apart()
    replace_evaluation()
    replace_checkpoints()
    explain_failed_training()
    train_by_our_losses()
    replace_entry_points()
    let_exhaustive_search_draw()
    find_models_in_files()
    recbole._gserec_registered = True
    add_models_of_others()
    load_named_files()


def _restore_numpy_names() -> None:
    """Restore names that NumPy 2 removed. RecBole reads some of them before its Config would define them."""
    names = {
        "float_": np.float64,
        "complex_": np.complex128,
        "unicode_": np.str_,
        "bool8": np.bool_,
        "float": np.float64,
        "int": np.int_,
        "object": np.object_,
        "str": np.str_,
        "complex": np.complex128,
        "unicode": np.str_,
    }
    for name, value in names.items():
        if name not in np.__dict__:
            setattr(np, name, value)


def _restore_scipy_method() -> None:
    """Restore ``dok_matrix._update``, removed in SciPy 1.13. LightGCN, NGCF, NCL, ... build their graphs with it."""
    if hasattr(dok_matrix, "_update"):
        return

    def _update(self: Any, data: Any) -> None:
        self._dict.update(data)

    dok_matrix._update = _update


def _silence_deprecations() -> None:
    """Silence deprecation warnings about RecBole's code, which works in the supported versions.

    They are about chained assignments of pandas, and the sparse matrices of LightGCN and other graph models.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module="recbole")
    warnings.filterwarnings("ignore", message=r"torch\.sparse\.SparseTensor\(", module="recbole")


def _keep_anomaly_detection_off() -> None:
    """Turn off autograd's anomaly detection, which slows down every training step.

    RecBole's SINE turns it on when it is imported, which happens with all sequential models. So SINE is imported now,
    and the change is undone.
    """
    enabled = torch.is_anomaly_enabled()
    importlib.import_module("recbole.model.sequential_recommender.sine")
    torch.autograd.set_detect_anomaly(enabled)


def _clean_worker_arguments() -> None:
    """Hide Ray's own arguments in its workers. Config reads ``sys.argv``, so they would override settings."""
    if Path(sys.argv[0]).name == "default_worker.py":
        sys.argv = sys.argv[:1]
