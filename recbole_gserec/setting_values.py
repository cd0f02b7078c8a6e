"""The check that a setting's value is one that our models can work with.

Most kinds follow from the defaults in the YAML files, and those of the offline stage from its own settings.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from math import isfinite
from numbers import Integral
from pathlib import Path
from typing import Any

import recbole

from recbole_gserec.errors import SettingError
from recbole_gserec.narrowing import is_number
from recbole_gserec.properties_files import is_search_aware, model_settings, protocol_settings, registered_models
from recbole_gserec.yaml_values import read_yaml

_LONGEST_VALUE = 200

OPTIMIZERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop")

# Whole numbers that must not be 0.
_COUNTS = """
    embedding_size n_heads inner_size train_batch_size eval_batch_size MAX_ITEM_LIST_LENGTH MAX_SEARCH_LIST_LENGTH
    MAX_CLICK_LIST_LENGTH hidden_size max_tokens session_length n_align_negatives expert_size
    n_specific_experts n_windows
""".split()

# RecBole takes these in several forms. The evaluation has a check of its own.
_OF_RECBOLE = "load_col metrics topk additional_feat_suffix".split()

_OF_PLATEAUS = ("factor", "patience", "threshold", "cooldown", "min_lr")

_NEGATIVES = ("distribution", "sample_num", "alpha", "dynamic", "candidate_num")


def check_values(given: Mapping[str, Any], model: str) -> None:
    """Refuse values that a model cannot work with.

    These are the settings of the protocol, those of RecBole that every run reads, the model's, and for ours those of
    the offline stage. Of the own settings of RecBole's models and of registered ones only the kind is known: a number,
    True or False, a list or a dict.

    Args:
        given: Settings.
        model: The model's name.

    Raises:
        SettingError: Naming the setting and what it takes.
    """
    ours = model_settings(model)
    offline = _offline_readers() if ours else {}
    shared = {**_recbole_defaults(), **protocol_settings()}
    if ours and model not in registered_models():
        defaults, of_others = {**shared, **ours}, set[str]()
    else:
        # What RecBole and the protocol know is judged by their defaults, however a file writes its own: 0 or 0.0.
        own = ours or _defaults_of_recbole(model)
        shared = {name: default for name, default in shared.items() if default is not None}
        defaults, of_others = {**own, **shared}, own.keys() - shared.keys()
    special = dict(_SPECIAL)
    if not is_search_aware(model):
        special["train_neg_sample_args"] = _train_neg_sample_args_or_none
    if not ours:
        special["learner"] = _learner_of_recbole
        special["stopping_step"] = _whole
    for name, value in given.items():
        if name in offline:
            wanted = _wanted_offline(value, *offline[name])
        elif name in special:
            wanted = special[name](value)
        elif defaults.get(name) is None or name in _OF_RECBOLE:
            continue
        elif name in of_others:
            wanted = _wanted_kind(value, defaults[name])
        else:
            wanted = _wanted(name, value, defaults[name])
        if wanted:
            shown = repr(value)
            shown = shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}\u2026"
            raise SettingError(f"{name} is {shown}; it takes {wanted}")


def _wanted_kind(value: Any, default: Any) -> str | None:
    """What a setting takes, judged by its default's kind; None where the value is such."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "True or False"
    if is_number(default):
        return None if _is_finite(value) else "a number"
    if isinstance(default, (list, dict)):
        return None if isinstance(value, type(default)) else f"a {type(default).__name__}"
    return None


def _wanted(name: str, value: Any, default: Any) -> str | None:
    """What a setting takes, judged by its default and its name; None where the value is such."""
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
    """Whether a value is a number, and neither endless nor none: ``1e400`` and ``.nan`` are read as such."""
    return is_number(value) and (isinstance(value, Integral) or isfinite(value))


@cache
def _recbole_defaults() -> dict[str, Any]:
    """RecBole's defaults for all models."""
    path = Path(recbole.__file__).parent / "properties" / "overall.yaml"
    return read_yaml(path.read_text(encoding="utf-8"))


@cache
def _defaults_of_recbole(model: str) -> dict[str, Any]:
    """RecBole's defaults for one of its models, where these tell what a setting takes."""
    path = Path(recbole.__file__).parent / "properties" / "model" / f"{model}.yaml"
    content = read_yaml(path.read_text(encoding="utf-8")) if path.is_file() else None
    # Where RecBole has 0 for none, or a list of one, it takes other kinds too.
    return {name: value for name, value in (content or {}).items() if is_number(value)}


def _offline_readers() -> dict[str, tuple[Callable[[Any], Any], str]]:
    """The readers of the offline stage's own settings, and what they say they take."""
    # Imported here: what lies below the command line's help knows nothing of the stage.
    from recbole_gserec.preprocess.settings import PreprocessSettings

    return {field.name: (field.metadata["read"], field.metadata["allowed"]) for field in fields(PreprocessSettings)}


def _wanted_offline(value: Any, read: Callable[[Any], Any], allowed: str) -> str | None:
    if value is None:
        return None  # Stands for the default.
    try:
        read(value)
    except (ValueError, TypeError):
        return allowed
    return None


# ---- settings whose default does not tell what they take -------------------------------------------------------------


def _seed(value: Any) -> str | None:
    return None if _is_whole(value, 0) and value < 2**32 else "a whole number from 0 to 4294967295"


def _whole(value: Any) -> str | None:
    # RecBole: no evaluation below an eval_step of 1; a stopping_step below 0 ends at the first step that is no better.
    return None if _is_whole(value) else "a whole number"


def _loss_decimal_place(value: Any) -> str | None:
    # RecBole: 4 where there is none.
    return None if value is None or _is_whole(value, 0) else "nothing, or a whole number of at least 0"


def _learner(value: Any) -> str | None:
    fits = isinstance(value, str) and value.lower() in OPTIMIZERS
    return None if fits else " or ".join(f"'{name}'" for name in OPTIMIZERS)


def _learner_of_recbole(value: Any) -> str | None:
    """RecBole takes Adam, with a warning, for a name that it does not know."""
    return None if isinstance(value, str) else "the name of an optimiser, such as 'adam'"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "a text; quote what would be read as a number"


def _folder(value: Any) -> str | None:
    """Programs give paths too."""
    return None if isinstance(value, os.PathLike) else _text(value)


def _clip_grad_norm(value: Any) -> str | None:
    names = {"max_norm", "norm_type", "error_if_nonfinite", "foreach"}
    fits = isinstance(value, dict) and "max_norm" in value and set(value) <= names
    return None if value is None or fits else "nothing, or a dict such as {'max_norm': 5, 'norm_type': 2}"


def _reduce_lr_on_plateau(value: Any) -> str | None:
    example = "nothing, or a dict such as {'factor': 0.1, 'patience': 3, 'min_lr': 0.000001}"
    if value is None:
        return None
    if not isinstance(value, dict) or not set(value) <= set(_OF_PLATEAUS):
        return f"{example}; there are {', '.join(_OF_PLATEAUS)}"
    for name, part in value.items():
        whole = name in ("patience", "cooldown")
        if not (_is_whole(part, 0) if whole else _is_finite(part) and part >= 0):
            return f"a {name} that is a {'whole ' * whole}number of at least 0"
    # PyTorch takes no factor that would not lower the rate; 0 would end the training without a word.
    return None if 0 < value.get("factor", 0.1) < 1 else "a factor above 0 and below 1"


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
        return f"a dict of {', '.join(_NEGATIVES)}"
    if not _is_whole(value.get("sample_num", 1), 1):
        return "a sample_num that is a whole number of at least 1"
    alpha = value.get("alpha", 1)
    return None if _is_finite(alpha) and alpha >= 0 else "an alpha that is a number of at least 0"


def _train_neg_sample_args_or_none(value: Any) -> str | None:
    """The same where RecBole's own loaders draw negatives: they are told so where a loss takes none."""
    return None if value is None else _train_neg_sample_args(value)


_SPECIAL: dict[str, Callable[[Any], str | None]] = {
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
}


def check_choice(name: str, value: object, choices: tuple) -> None:
    """Raise SettingError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise SettingError(f"{name} is '{value}'; it takes {' or '.join(repr(choice) for choice in choices)}")


def check_heads(config: Mapping[str, Any], size: str = "embedding_size") -> None:
    """Raise SettingError unless the attention heads share the vectors' size evenly."""
    if config[size] % config["n_heads"]:
        raise SettingError(f"{size} {config[size]} is not a multiple of n_heads {config['n_heads']}")


def check_positive(config: Mapping[str, Any], name: str) -> None:
    """Raise SettingError unless a number is above 0."""
    if config[name] <= 0:
        raise SettingError(f"{name} is {config[name]}; it takes a number above 0")


def check_some_layers(config: Mapping[str, Any]) -> None:
    """Raise SettingError where there are no ``n_layers``."""
    if config["n_layers"] < 1:
        raise SettingError(f"n_layers is {config['n_layers']}; it takes a whole number of at least 1")


def check_negatives(config: Mapping[str, Any], loss: str) -> None:
    """Raise SettingError where a loss has no negatives."""
    if config["train_neg_sample_args"]["distribution"] == "none":
        raise SettingError(f"train_neg_sample_args: the {loss} loss takes negatives; set distribution and sample_num")
