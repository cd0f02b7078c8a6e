"""Registration with RecBole: all hooks into it, in their order, and those into the libraries that it uses.

The other hooks are in the modules ``*_hooks`` of this package; nothing else changes RecBole. Written for RecBole 1.2.0
and 1.2.1, whose code is the same in all places touched here.
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
    """Make RecBole know this package. Safe to call more than once.

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
    replace_entry_points()
    let_exhaustive_search_draw()
    find_models_in_files()
    recbole._gserec_registered = True
    add_models_of_others()
    load_named_files()


def _restore_numpy_names() -> None:
    """NumPy 2 removed names that RecBole reads, some of them before it builds the Config that would define them."""
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
    """SciPy 1.13 removed ``dok_matrix._update``, with which LightGCN, NGCF, NCL, ... build their graphs."""
    if hasattr(dok_matrix, "_update"):
        return

    def _update(self: Any, data: Any) -> None:
        self._dict.update(data)

    dok_matrix._update = _update


def _silence_deprecations() -> None:
    """What RecBole does in ways of its time works in the versions this package allows; the warnings help no user.

    Chained assignments of pandas are meant, and the sparse matrices of LightGCN and other models of graphs.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module="recbole")
    warnings.filterwarnings("ignore", message=r"torch\.sparse\.SparseTensor\(", module="recbole")


def _keep_anomaly_detection_off() -> None:
    """RecBole's SINE turns on autograd's anomaly detection when it is imported, and with it all sequential models are.

    It makes every training step of every model slower; imported now, it can be undone once for all.
    """
    enabled = torch.is_anomaly_enabled()
    importlib.import_module("recbole.model.sequential_recommender.sine")
    torch.autograd.set_detect_anomaly(enabled)


def _clean_worker_arguments() -> None:
    """Config reads ``sys.argv``; in a Ray worker it holds Ray's own arguments, which would outrank the user's."""
    if Path(sys.argv[0]).name == "default_worker.py":
        sys.argv = sys.argv[:1]
