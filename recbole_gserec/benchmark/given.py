"""The settings that a benchmark's runs are given."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_gserec.config import gpu_ids
from recbole_gserec.config_files import read_config_files
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.json_files import plain
from recbole_gserec.settings import check_model, models_reading, read_settings, unread

logger = getLogger(__name__)

SettingsOf = Callable[[str, str], Mapping[str, Any]]
"""Settings of one model on one dataset, by the names of both; a search for good settings is one."""

OPTIONS = {
    "model": "--model",
    "dataset": "--dataset",
    "seed": "--seeds",
    "checkpoint_dir": "--output",
    "data_path": "--data-path",
    "config_files": "--config-files",
    "nproc": "--workers",
}
"""Settings that the command decides."""

_NAMES = (
    "model dataset seeds preset output data-path data_path workers address cpus-per-run gpus-per-run reference tune "
    "report-only retry-failed no-retry-failed config-files model-settings"
).split()


def no_settings(model: str, dataset: str) -> Mapping[str, Any]:
    """No settings of one model."""
    return {}


def read_model_settings(path: Path) -> SettingsOf:
    """Settings of single models from a YAML file of the form ``{GSERec: {lambda_u_cl: 0.1}, ...}``.

    Raises:
        DataError: If the file is of another form.
        SettingError: If there is no such model.
    """
    content = read_config_files([path])
    for model, settings in content.items():
        check_model(model)
        if not isinstance(settings, dict):
            raise DataError(path, f"no settings of {model} in it", "Write 'MODEL: {name: value}', one model a line.")
    by_model = {model: canonical(settings) for model, settings in content.items()}
    return lambda model, dataset: by_model.get(model, {})


def canonical(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON can hold them, and each value in one form only: RecBole takes ``1e-3`` and ``'0.001'`` alike.

    Paths count from the current folder, which is another one where a run is made.
    """
    result = {}
    for name, value in settings.items():
        if isinstance(value, str):
            value = _literal(value)
        if isinstance(value, str) and name.endswith("_path"):
            value = str(Path(value).absolute())
        if name == "gpu_id":
            value = gpu_ids(value)
        result[name] = plain(value)
    return result


def _literal(text: str) -> Any:
    """A number or another literal that somebody wrote as a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def check_given(names: Iterable[str], models: Iterable[str]) -> None:
    """Refuse settings that the command decides, and those that no model reads; warn of those of other models.

    Raises:
        SettingError: Naming the setting.
    """
    models = list(models)
    known = set().union(*(read_settings(model) for model in models))
    for name in names:
        if name in OPTIONS:
            raise SettingError(f"'{name}' is no setting of a benchmark's runs: it is given by {OPTIONS[name]}")
        if name in known:
            continue
        if not models_reading(name):
            raise SettingError.unknown(name, [*_NAMES, *sorted(known)])
        for model in models:
            logger.warning(unread(name, model))


def of_config_files(files: Sequence[Path], models: Iterable[str], datasets: Iterable[str]) -> dict[str, Any]:
    """Settings of config files, which may be the ``best.yaml`` of a sweep.

    Such a file also tells its model, dataset and seed, and where the dataset is; the command decides these. They are
    left out where model and dataset are the command's own.

    Raises:
        SettingError: If a file is of another model or dataset than the only one of the command.
    """
    settings = read_config_files(files)
    for name, wanted in (("model", list(models)), ("dataset", list(datasets))):
        if name in settings and wanted != [settings[name]]:
            raise SettingError(
                f"{', '.join(map(str, files))}: the {name} is '{settings[name]}', and the settings would be given to "
                f"{', '.join(wanted) or 'all'}. Give this {name} alone, or take the line out"
            )
    decided = ("model", "dataset", "seed", "data_path")
    return {name: value for name, value in settings.items() if name not in decided}
