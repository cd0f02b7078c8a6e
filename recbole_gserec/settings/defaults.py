"""The YAML files that ship with the package, and the settings files of users."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import recbole
import yaml

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.files import YAMLLimitError, read_yaml


def read_config_files(files: Iterable[str | Path]) -> dict[str, Any]:
    """Read the settings in RecBole config files; later files override earlier ones.

    RecBole reads the files itself, and reports invalid ones only with the messages of its libraries.

    Raises:
        DataError: With the name of the file.
    """
    settings = {}
    for file in files:
        try:
            with open(file, encoding="utf-8") as opened:
                content = read_yaml(opened)
        except FileNotFoundError as error:
            raise DataError(file, "file not found", "Check the path; it is relative to the current folder.") from error
        except OSError as error:
            raise DataError(file, f"cannot be read ({error.strerror})", "Give a YAML file with settings.") from error
        except UnicodeDecodeError as error:
            raise DataError(file, "not UTF-8 text", "Give a YAML file with settings.") from error
        except yaml.YAMLError as error:
            mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
            line = mark.line + 1 if mark else None
            what = "not a file of settings" if isinstance(error, YAMLLimitError) else "not YAML"
            raise DataError(
                file, f"{what} ({problem or 'malformed'})", "Write settings as 'name: value', one per line.", line=line
            ) from error
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
            raise DataError(file, "no settings in it", "Write them as 'name: value', one per line.")
        settings.update(content)
    return settings


_PACKAGE = Path(__file__).parents[1]

_MODEL_FILES: dict[str, Path] = {}
"""Files with settings of other packages' models; see :func:`registration.register_model`."""
_PLAIN: set[str] = set()
"""Those of them that read no searches and are like RecBole's own models."""


def properties_folder() -> Path:
    """Return the ``properties`` folder inside the installed package, or next to it in a checkout."""
    installed = _PACKAGE / "properties"
    return installed if installed.is_dir() else _PACKAGE.parent / "properties"


def recbole_properties() -> Path:
    """Return the ``properties`` folder of RecBole."""
    return Path(recbole.__file__).parent / "properties"


def recbole_model_file(model: str) -> Path:
    """Return where RecBole has the settings of a model of its own."""
    return recbole_properties() / "model" / f"{model}.yaml"


@cache
def read_shipped(path: Path) -> dict[str, Any]:
    """Read a YAML file of a package, which does not change; empty if there is none."""
    return (read_yaml(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}


def add_model_file(model: str, path: Path, *, is_plain: bool = False) -> None:
    """Read the default settings of a model from its own file.

    Args:
        model: Name of the model.
        path: The file.
        is_plain: Whether it is a model of RecBole's kind, which needs no such file.

    Raises:
        SettingError: If the file is missing.
        DataError: If it does not map names to values.
    """
    if path.is_file():
        read_config_files([path])
    elif not is_plain:
        raise SettingError(f"{path}: no such file. It must have the default settings of {model}")
    # In a notebook, the file may have changed since.
    read_shipped.cache_clear()
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
    """Return the names of the models of other packages."""
    return set(_MODEL_FILES)


def _own_settings(model: str) -> dict[str, Any]:
    """Return the settings in a model's file; for a registered model, add those implied by the files it reads."""
    if model not in _MODEL_FILES:
        own = read_shipped(properties_folder() / "model" / f"{model}.yaml")
        return {**objective_settings(), **own} if "additional_feat_suffix" in own else own
    if model in _PLAIN:
        return read_shipped(_MODEL_FILES[model])
    own = read_shipped(_MODEL_FILES[model])
    implied = {"additional_feat_suffix": ["search", "query"], "reduce_lr_on_plateau": None}
    if "loss_type" in own or _MODEL_FILES[model].parent == properties_folder() / "model":
        # Others may have a loss of their own.
        implied |= objective_settings()
    own = {**implied, **own}
    suffixes = own["additional_feat_suffix"] = own["additional_feat_suffix"] or []
    aliases = {"alias_of_user_id": [f"{suffix}_user_id" for suffix in ("search", "code") if suffix in suffixes]}
    if "search" in suffixes:
        aliases["alias_of_item_id"] = ["search_item_ids"]
    return {**aliases, **own}


def model_settings(model: str) -> dict[str, Any]:
    """Return the defaults of our or a registered model, with the offline stage's if it reads it; otherwise empty."""
    own = _own_settings(model)
    if "code" in own.get("additional_feat_suffix", []) or reads_text_vectors(model):
        return {**preprocess_settings(), **own}
    return dict(own)


def for_train_rows(defaults: Mapping[str, Any], requested: Mapping[str, Any]) -> dict[str, Any]:
    """Return defaults with the learning rate of the form of training: ``learning_rate_of_windows`` for windows."""
    rate = defaults.get("learning_rate_of_windows")
    if rate is None or {**defaults, **requested}.get("train_rows") != "users":
        return dict(defaults)
    return {**defaults, "learning_rate": rate}


def reads_text_vectors(model: str) -> bool:
    """Return whether a model of ours reads text vectors."""
    return "preprocess_missing_vectors" in _own_settings(model)


def is_search_aware(model: str) -> bool:
    """Return whether a model of ours needs a search-extended dataset, because it loads searches by default."""
    return "search" in model_settings(model).get("additional_feat_suffix", [])


RECBOLE_MODELS_WITH_OBJECTIVE = ("SASRec", "GRU4Rec", "CL4SRec")
"""Sequential models of RecBole's kind that can also be trained by our losses."""


def objective_settings() -> dict[str, Any]:
    """Return the default settings of what our sequential models are trained for."""
    return dict(read_shipped(properties_folder() / "objective.yaml"))


def preprocess_settings() -> dict[str, Any]:
    """Return the default settings of the offline stage."""
    return dict(read_shipped(properties_folder() / "preprocess.yaml"))


def preset_file(name: str, kind: str = "preset") -> Path:
    """Return the file of a preset.

    Args:
        name: Name of the preset.
        kind: ``preset`` for the offline stage or a model, or ``benchmark``.

    Raises:
        SettingError: If there is no preset with this name.
    """
    folder = properties_folder() / kind
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise SettingError(f"there is no preset '{name}'; choose from: {known}")
    return path


def tune_file(model: str) -> Path | None:
    """Return the search space in this package for a model, ours or RecBole's; None if there is none."""
    path = properties_folder() / "tune" / f"{model}.yaml"
    return path if path.is_file() else None


def dataset_settings(dataset: str) -> dict[str, Any]:
    """Return the default settings of a dataset in this package; empty for any other."""
    return dict(read_shipped(properties_folder() / "dataset" / f"{dataset}.yaml"))


def protocol_settings() -> dict[str, Any]:
    """Return the default settings of every search-extended dataset."""
    return dict(read_shipped(properties_folder() / "search_dataset.yaml"))
