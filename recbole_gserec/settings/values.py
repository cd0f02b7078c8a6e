"""Checks that the values of settings work for our models.

Most types follow from the defaults in the YAML files, and those of the offline stage from its own settings.
"""

import codecs
import os
from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite
from numbers import Integral
from typing import Any

from recbole_gserec.errors import SettingError, is_number
from recbole_gserec.settings.defaults import (
    is_search_aware,
    model_settings,
    objective_settings,
    preprocess_settings,
    protocol_settings,
    read_shipped,
    recbole_model_file,
    recbole_properties,
    registered_models,
)
from recbole_gserec.settings.names import models_reading
from recbole_gserec.settings.offline import PreprocessSettings

OPTIMIZERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop")

# Whole numbers above 0.
_COUNTS = """
    embedding_size n_heads inner_size train_batch_size eval_batch_size MAX_ITEM_LIST_LENGTH MAX_SEARCH_LIST_LENGTH
    MAX_CLICK_LIST_LENGTH hidden_size max_tokens session_length n_align_negatives expert_size
    n_specific_experts n_windows
""".split()

# RecBole accepts several forms of these. The evaluation has its own check.
_OF_RECBOLE = "load_col metrics topk additional_feat_suffix".split()

_OF_PLATEAUS = ("factor", "patience", "threshold", "cooldown", "min_lr")

_NEGATIVES = ("distribution", "sample_num", "alpha", "dynamic", "candidate_num")


def check_values(requested: Mapping[str, Any], model: str) -> None:
    """Refuse values that a model cannot work with.

    This covers the settings of the protocol, RecBole's settings that every run reads, and the model's settings, with
    those of the offline stage for our models. For the own settings of RecBole's and registered models, only the type is
    known: a number, True or False, a list or a dict.

    Args:
        requested: The requested settings.
        model: The model's name.

    Raises:
        SettingError: With the setting and its allowed values.
    """
    ours = model_settings(model)
    offline = preprocess_settings().keys() if ours else ()
    shared = {**_recbole_defaults(), **protocol_settings(), **objective_settings()}
    if ours and model not in registered_models():
        defaults, of_others = {**shared, **ours}, set[str]()
    else:
        # Settings of RecBole and the protocol are checked by their own defaults, whether a file writes 0 or 0.0.
        own = ours or _defaults_of_recbole(model)
        shared = {name: default for name, default in shared.items() if default is not None}
        defaults, of_others = {**own, **shared}, own.keys() - shared.keys()
    special = dict(_SPECIAL)
    if "train_rows" not in ours:
        special["train_rows"] = partial(_train_rows_of_others, model)
    if not is_search_aware(model):
        special["train_neg_sample_args"] = _train_neg_sample_args_or_none
    if not ours:
        special["learner"] = _learner_of_recbole
        special["stopping_step"] = _whole
    for name, value in requested.items():
        if name in offline:
            PreprocessSettings.read_one(name, value)
            continue
        if name in special:
            wanted = special[name](value)
        elif defaults.get(name) is None or name in _OF_RECBOLE:
            continue
        elif name in of_others:
            wanted = _wanted_kind(value, defaults[name])
        else:
            wanted = _wanted(name, value, defaults[name])
        if wanted:
            raise SettingError.wrong(name, value, wanted)


def _wanted_kind(value: Any, default: Any) -> str | None:
    """Describe what a setting allows, by its default's type; None if the value is valid."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "True or False"
    if is_number(default):
        return None if _is_finite(value) else "a number"
    if isinstance(default, (list, dict)):
        return None if isinstance(value, type(default)) else f"a {type(default).__name__}"
    return None


def _wanted(name: str, value: Any, default: Any) -> str | None:
    """Describe what a setting allows, by its default and its name; None if the value is valid."""
    if isinstance(default, bool):
        return _wanted_kind(value, default)
    if isinstance(default, int):
        smallest = int(name in _COUNTS)
        return None if _is_whole(value, smallest) else f"a whole number of at least {smallest}"
    if isinstance(default, float):
        fits = _is_finite(value) and value >= 0
        if name.endswith("dropout_prob"):
            return None if fits and value < 1 else "a number from 0 to less than 1"
        if name in ("tau_2", "tau_3", "tau_align", "tau_his"):
            return None if fits and value > 0.01 else "a number above 0.01"
        return None if fits else "a number of at least 0"
    if isinstance(default, list) and all(isinstance(element, int) for element in default):
        fits = isinstance(value, list) and all(_is_whole(element, 1) for element in value)
        return None if fits else "a list of whole numbers of at least 1"
    return _wanted_kind(value, default)


def _is_whole(value: Any, smallest: int | None = None) -> bool:
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    return fits and (smallest is None or value >= smallest)


def _is_finite(value: Any) -> bool:
    """Return whether a value is a finite number: ``1e400`` and ``.nan`` are read as numbers too."""
    return is_number(value) and (isinstance(value, Integral) or isfinite(value))


def _recbole_defaults() -> dict[str, Any]:
    """Return RecBole's defaults for all models."""
    return read_shipped(recbole_properties() / "overall.yaml")


def _defaults_of_recbole(model: str) -> dict[str, Any]:
    """Return RecBole's defaults for one of its models, if they show what a setting allows."""
    # If RecBole's default is 0 for "none", or a list of one, it also accepts other types.
    return {name: value for name, value in read_shipped(recbole_model_file(model)).items() if is_number(value)}


# ---- settings whose default does not show what they allow ------------------------------------------------------------


def _seed(value: Any) -> str | None:
    return None if _is_whole(value, 0) and value < 2**32 else "a whole number from 0 to 4294967295"


def _whole(value: Any) -> str | None:
    # RecBole: an eval_step below 1 means no evaluation; a stopping_step below 0 stops at the first epoch without
    # improvement.
    return None if _is_whole(value) else "a whole number"


def _loss_decimal_place(value: Any) -> str | None:
    # RecBole uses 4 if there is none.
    return None if value is None or _is_whole(value, 0) else "None or a whole number of at least 0"


def _learner(value: Any) -> str | None:
    fits = isinstance(value, str) and value.lower() in OPTIMIZERS
    return None if fits else " or ".join(f"'{name}'" for name in OPTIMIZERS)


def _learner_of_recbole(value: Any) -> str | None:
    """RecBole uses Adam, with a warning, for an unknown name."""
    return None if isinstance(value, str) else "the name of an optimiser, such as 'adam'"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "a text. Quote it if it looks like a number"


def _folder(value: Any) -> str | None:
    """Programs may also pass paths."""
    return None if isinstance(value, os.PathLike) else _text(value)


def _clip_grad_norm(value: Any) -> str | None:
    names = {"max_norm", "norm_type", "error_if_nonfinite", "foreach"}
    fits = isinstance(value, dict) and "max_norm" in value and set(value) <= names
    return None if value is None or fits else "None or a dict such as {'max_norm': 5, 'norm_type': 2}"


def _reduce_lr_on_plateau(value: Any) -> str | None:
    example = "None or a dict such as {'factor': 0.1, 'patience': 3, 'min_lr': 0.000001}"
    if value is None:
        return None
    if not isinstance(value, dict) or not set(value) <= set(_OF_PLATEAUS):
        return f"{example}, with keys from {', '.join(_OF_PLATEAUS)}"
    for name, part in value.items():
        whole = name in ("patience", "cooldown")
        if not (_is_whole(part, 0) if whole else _is_finite(part) and part >= 0):
            return f"a dict whose {name} is a {'whole ' * whole}number of at least 0"
    # PyTorch refuses a factor that would not lower the rate; 0 would end the training without a message.
    return None if 0 < value.get("factor", 0.1) < 1 else "a dict whose factor is above 0 and below 1"


def _encoding(value: Any) -> str | None:
    try:
        codecs.lookup(value or "utf-8")
    except (LookupError, TypeError):
        return "the name of an encoding, such as 'utf-8'"
    return None


def _train_neg_sample_args(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "a dict"
    if not set(value) <= set(_NEGATIVES):
        return f"a dict with keys from {', '.join(_NEGATIVES)}"
    if not _is_whole(value.get("sample_num", 1), 1):
        return "a dict whose sample_num is a whole number of at least 1"
    alpha = value.get("alpha", 1)
    return None if _is_finite(alpha) and alpha >= 0 else "a dict whose alpha is a number of at least 0"


def _train_rows(value: Any) -> str | None:
    return None if value in ("targets", "users") else "'targets' or 'users'"


def _train_rows_of_others(model: str, value: Any) -> str | None:
    if value == "targets":
        return None
    return f"'targets' for {model}: only {', '.join(models_reading('train_rows'))} train on windows of users' events"


def _train_neg_sample_args_or_none(value: Any) -> str | None:
    """Also allow "none", which means to RecBole's own loaders that a loss needs no negatives."""
    return None if value is None else _train_neg_sample_args(value)


_SPECIAL: dict[str, Callable[[Any], str | None]] = {
    "all_items_users": partial(_wanted, "all_items_users", default=0),
    "seed": _seed,
    "eval_step": _whole,
    "loss_decimal_place": _loss_decimal_place,
    "learner": _learner,
    "clip_grad_norm": _clip_grad_norm,
    "reduce_lr_on_plateau": _reduce_lr_on_plateau,
    "encoding": _encoding,
    "data_path": _folder,
    "checkpoint_dir": _folder,
    "state": _text,
    "train_neg_sample_args": _train_neg_sample_args,
    "train_rows": _train_rows,
}


def check_choice(name: str, value: object, choices: tuple) -> None:
    """Raise SettingError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise SettingError(f"{name} is '{value}'; it must be {' or '.join(repr(choice) for choice in choices)}")


def check_heads(config: Mapping[str, Any], size: str = "embedding_size") -> None:
    """Raise SettingError unless the size of the vectors is a multiple of the number of attention heads."""
    if config[size] % config["n_heads"]:
        raise SettingError(f"{size} {config[size]} is not a multiple of n_heads {config['n_heads']}")


def check_positive(config: Mapping[str, Any], name: str) -> None:
    """Raise SettingError unless a number is above 0."""
    if config[name] <= 0:
        raise SettingError(f"{name} is {config[name]}; it must be a number above 0")


def check_some_layers(config: Mapping[str, Any]) -> None:
    """Raise SettingError if ``n_layers`` is below 1."""
    if config["n_layers"] < 1:
        raise SettingError(f"n_layers is {config['n_layers']}; it must be a whole number of at least 1")


def check_negatives(config: Mapping[str, Any], loss: str) -> None:
    """Raise SettingError if a loss has no negatives."""
    if config["train_neg_sample_args"]["distribution"] == "none":
        raise SettingError(f"train_neg_sample_args: the {loss} loss needs negatives; set distribution and sample_num")
