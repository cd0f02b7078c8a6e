"""Default settings by model and dataset, and the check that every setting given is one that somebody reads."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cache
from logging import getLogger
from pathlib import Path
from typing import Any

import recbole
import yaml

from recbole_gserec.errors import SettingError
from recbole_gserec.properties_files import dataset_settings, model_settings, protocol_settings

DEFAULT_DATASET = "ml-100k-search"

# Settings that RecBole or its launcher reads and none of its YAML files has.
_UNLISTED = """
    model dataset config_files nproc world_size ip port group_offset offset local_rank queue
    loss_type ft_ratio double_tower numerical_features discretization neg_sampling training_neg_sample_num reg_weight
    encoding valid_metric_bigger wandb_project eval_neg_sample_args train_rec_step train_kg_step single_spec
""".split()


def plugin_defaults(model: str, dataset: str, data_path: str, is_sequential: bool) -> dict[str, Any]:
    """Defaults that go on top of RecBole's.

    Args:
        model: The model's name.
        dataset: The dataset's name.
        data_path: Folder of all datasets.
        is_sequential: Whether the model is one of RecBole's sequential models.

    Returns:
        Settings, empty for RecBole's own model on a dataset without searches.
    """
    ours = model_settings(model)
    searchable = dataset == DEFAULT_DATASET or (Path(data_path) / dataset / f"{dataset}.search").is_file()
    settings = {}
    if ours or searchable:
        settings.update(protocol_settings())
        settings.update(ours)
        settings.update(dataset_settings(dataset))
        if is_sequential:
            settings["repeatable"] = True
    return copy.deepcopy(settings)


@cache
def _recbole_settings() -> frozenset[str]:
    names = set(_UNLISTED)
    for path in (Path(recbole.__file__).parent / "properties").rglob("*.yaml"):
        # RecBole reads these files with a full loader; the names of the settings are all that is wanted here.
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        names.update(content if isinstance(content, dict) else ())
    return frozenset(names)


def check_names(given: Iterable[str], model: str) -> None:
    """Refuse a setting that nothing reads, most often a typing error.

    For RecBole's own and for users' models, which may read settings of their own, it is only warned of.

    Raises:
        SettingError: With the nearest known name.
    """
    ours = model_settings(model)
    known = _recbole_settings() | set(ours) | set(protocol_settings())
    for name in given:
        if name in known:
            continue
        error = SettingError.unknown(name, sorted(known))
        if ours:
            raise error
        getLogger().warning(str(error))
