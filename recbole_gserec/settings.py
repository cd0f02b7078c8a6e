"""Default settings by model and dataset, and the check that every setting given is one that somebody reads."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Container, Iterable, Mapping
from functools import cache
from logging import getLogger
from pathlib import Path
from typing import Any

import recbole
import yaml
from recbole.evaluator import metric_types
from recbole.utils import EvaluatorType

from recbole_gserec.errors import SettingError
from recbole_gserec.properties_files import (
    dataset_settings,
    model_settings,
    properties_folder,
    protocol_settings,
)

DEFAULT_DATASET = "ml-100k-search"

# Settings that RecBole or its launcher reads and none of its YAML files has.
_UNLISTED = """
    model dataset config_files nproc world_size ip port group_offset offset local_rank queue
    loss_type ft_ratio double_tower numerical_features discretization neg_sampling training_neg_sample_num reg_weight
    encoding valid_metric_bigger tail_ratio wandb_project eval_neg_sample_args train_rec_step train_kg_step single_spec
""".split()

# Whole numbers that must not be 0.
_COUNTS = """
    embedding_size n_heads inner_size train_batch_size MAX_ITEM_LIST_LENGTH MAX_SEARCH_LIST_LENGTH
    MAX_CLICK_LIST_LENGTH
""".split()

# RecBole takes these in several forms, and checks them itself.
_OF_RECBOLE = "load_col metrics topk additional_feat_suffix".split()


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


def check_names(given: Iterable[str], model: str, lenient: Container[str] = ()) -> None:
    """Refuse a setting that nothing reads, most often a typing error.

    For RecBole's own and for users' models, which may read settings of their own, it is only warned of.

    Args:
        given: Names of settings.
        model: The model's name.
        lenient: Names that are only warned of.

    Raises:
        SettingError: With the nearest known name.
    """
    ours = model_settings(model)
    known = _recbole_settings() | set(ours) | set(protocol_settings())
    for name in given:
        if name in known:
            continue
        error = SettingError.unknown(name, sorted(known))
        if ours and name not in lenient:
            raise error
        getLogger().warning(str(error))


def check_values(given: Mapping[str, Any], model: str) -> None:
    """Refuse values of one of our models' settings that are of another kind than its default, or negative.

    Raises:
        SettingError: Naming the setting.
    """
    for name, default in {**protocol_settings(), **model_settings(model)}.items():
        if name not in given or default is None or name in _OF_RECBOLE:
            continue
        value, wanted = given[name], None
        if isinstance(default, bool):
            wanted = None if isinstance(value, bool) else "True or False"
        elif isinstance(default, int):
            smallest = int(name in _COUNTS)
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= smallest
            wanted = None if fits else f"a whole number of at least {smallest}"
        elif isinstance(default, float):
            fits = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
            wanted = None if fits else "a number of at least 0"
            if name.endswith("dropout_prob") and (not fits or value >= 1):
                wanted = "a number from 0 to less than 1"
            if name in ("tau_2", "tau_3") and (not fits or value <= 0.01):
                wanted = "a number above 0.01"
        elif isinstance(default, (list, dict)) and not isinstance(value, type(default)):
            wanted = f"a {type(default).__name__}"
        if wanted:
            raise SettingError(f"{name} is {value!r}; it takes {wanted}")


def check_evaluation(settings: Mapping[str, Any]) -> None:
    """Refuse metrics our models are not evaluated by, and a ``valid_metric`` that is not among the metrics.

    RecBole would find out about the latter after the first epoch.

    Raises:
        SettingError: Naming the metrics there are.
    """
    metrics, topk = settings["metrics"], settings["topk"]
    metrics = [metrics] if isinstance(metrics, str) else metrics
    topk = [topk] if isinstance(topk, int) else topk
    values = [metric for metric in metrics if metric_types.get(metric.lower()) == EvaluatorType.VALUE]
    if values:
        raise SettingError(f"metrics has '{values[0]}': search-aware models are evaluated by ranking metrics")
    name, _, depth = settings["valid_metric"].partition("@")
    if name.lower() not in [metric.lower() for metric in metrics] or (depth and depth not in map(str, topk)):
        raise SettingError(
            f"valid_metric is '{settings['valid_metric']}', which is not computed: "
            f"metrics are {metrics}, topk is {topk}"
        )


def check_model(model: str) -> None:
    """Refuse the name of a model that neither RecBole nor this package has.

    Raises:
        SettingError: With the nearest known name.
    """
    folders = (properties_folder(), Path(recbole.__file__).parent / "properties")
    known = {path.stem for folder in folders for path in (folder / "model").glob("*.yaml")}
    # The first has no settings, the files of the others are not named like them.
    known = known - {"lightgbm", "xgboost"} | {"Random", "LightGBM", "XGBoost"}
    if model not in known:
        by_lower = {name.lower(): name for name in known}
        near = difflib.get_close_matches(model.lower(), by_lower, n=1)
        raise SettingError(f"there is no model '{model}'." + (f" Did you mean '{by_lower[near[0]]}'?" if near else ""))
