"""Finding and reading the YAML files that ship with the package."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from recbole_gserec.config_files import read_config_files
from recbole_gserec.errors import SettingError
from recbole_gserec.yaml_values import read_yaml

_PACKAGE = Path(__file__).parent

_MODEL_FILES: dict[str, Path] = {}
"""Files with the settings of models of other packages; see :func:`registration.register_model`."""
_PLAIN: set[str] = set()
"""Those of them that are RecBole's in all else, and read no searches."""


def properties_folder() -> Path:
    """``properties`` inside the installed package, or beside it in a checkout."""
    installed = _PACKAGE / "properties"
    return installed if installed.is_dir() else _PACKAGE.parent / "properties"


@cache
def _read(path: Path) -> dict[str, Any]:
    return read_yaml(path.read_text(encoding="utf-8")) if path.is_file() else {}


def add_model_file(model: str, path: Path, *, is_plain: bool = False) -> None:
    """Read the default settings of a model from a file of its own.

    Args:
        model: Name of the model.
        path: The file.
        is_plain: Whether it is a model of RecBole's kind, which needs no such file.

    Raises:
        SettingError: If there is none.
        DataError: If it does not map names to values.
    """
    if path.is_file():
        read_config_files([path])
    elif not is_plain:
        raise SettingError(f"{path}: no such file. The settings of {model} and their defaults belong there")
    # In a notebook it may have been changed since.
    _read.cache_clear()
    _MODEL_FILES[model] = path
    (_PLAIN.add if is_plain else _PLAIN.discard)(model)


def forget_model_file(model: str) -> None:
    """Undo :func:`add_model_file`."""
    _MODEL_FILES.pop(model, None)
    _PLAIN.discard(model)


def model_file(model: str) -> Path | None:
    """The file with the settings of a registered model; None for others."""
    return _MODEL_FILES.get(model)


def registered_models() -> set[str]:
    """Names of the models of other packages."""
    return set(_MODEL_FILES)


def _own_settings(model: str) -> dict[str, Any]:
    """What the file of a model says; for a registered one, also what follows from the files of the dataset it reads."""
    if model not in _MODEL_FILES:
        return _read(properties_folder() / "model" / f"{model}.yaml")
    if model in _PLAIN:
        return _read(_MODEL_FILES[model])
    own = {"additional_feat_suffix": ["search", "query"], "reduce_lr_on_plateau": None, **_read(_MODEL_FILES[model])}
    suffixes = own["additional_feat_suffix"] = own["additional_feat_suffix"] or []
    aliases = {"alias_of_user_id": [f"{suffix}_user_id" for suffix in ("search", "code") if suffix in suffixes]}
    if "search" in suffixes:
        aliases["alias_of_item_id"] = ["search_item_ids"]
    return {**aliases, **own}


def model_settings(model: str) -> dict[str, Any]:
    """Defaults of one of our models, or a registered one, with the offline stage's if it reads it; else empty."""
    own = _own_settings(model)
    if "code" in own.get("additional_feat_suffix", []) or reads_text_vectors(model):
        return {**preprocess_settings(), **own}
    return dict(own)


def reads_text_vectors(model: str) -> bool:
    """Whether a model is one of ours that reads the vectors of texts."""
    return "preprocess_missing_vectors" in _own_settings(model)


def is_search_aware(model: str) -> bool:
    """Whether a model is one of ours that needs a search-extended dataset: by default it loads the searches."""
    return "search" in model_settings(model).get("additional_feat_suffix", [])


def preprocess_settings() -> dict[str, Any]:
    """Default settings of the offline stage."""
    return dict(_read(properties_folder() / "preprocess.yaml"))


def preset_file(name: str, kind: str = "preset") -> Path:
    """The file of a preset.

    Args:
        name: Of the preset.
        kind: ``preset`` of the offline stage, or ``benchmark``.

    Raises:
        SettingError: If there is none of this name.
    """
    folder = properties_folder() / kind
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise SettingError(f"there is no preset '{name}'; there is: {known}")
    return path


def tune_file(model: str) -> Path | None:
    """The search space that ships for a model, ours or RecBole's; None where there is none."""
    path = properties_folder() / "tune" / f"{model}.yaml"
    return path if path.is_file() else None


def dataset_settings(dataset: str) -> dict[str, Any]:
    """Default settings of a dataset we ship settings for; empty for any other."""
    return dict(_read(properties_folder() / "dataset" / f"{dataset}.yaml"))


def protocol_settings() -> dict[str, Any]:
    """Default settings of every search-extended dataset."""
    return dict(_read(properties_folder() / "search_dataset.yaml"))
