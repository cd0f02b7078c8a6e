"""The plan of a benchmark: which runs there are, with which requested settings."""

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

from recbole.utils import get_model

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.files import plain, read_yaml
from recbole_gserec.models import LOSSES, SAMPLED, SearchRecommender, is_of_recbole
from recbole_gserec.settings import (
    check_choice,
    check_dataset_name,
    check_model,
    dataset_settings,
    gpu_ids,
    models_reading,
    preset_file,
    read_config_files,
    read_settings,
    split_machine,
    takes_objective,
    unread,
)

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
    "objective beside report-only retry-failed no-retry-failed config-files model-settings"
).split()


def no_settings(model: str, dataset: str) -> Mapping[str, Any]:
    """Return no settings for any model and dataset."""
    return {}


def read_model_settings(path: Path) -> SettingsOf:
    """Read settings of single models from a YAML file of the form ``{GSERec: {lambda_u_cl: 0.1}, ...}``.

    Raises:
        DataError: If the file has another form.
        SettingError: If a model is unknown.
    """
    content = read_config_files([path])
    for model, settings in content.items():
        check_model(model)
        if not isinstance(settings, dict):
            raise DataError(path, f"no settings of {model} in it", "Write 'MODEL: {name: value}', one model per line.")
    by_model = {model: canonical(settings) for model, settings in content.items()}
    return lambda model, dataset: by_model.get(model, {})


def canonical(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert settings to JSON values with one form for each value: RecBole treats ``1e-3`` and ``'0.001'`` alike.

    Relative paths start at the current folder, because a run may have another one.
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
    """Parse a number or another literal that was written as text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def check_requested_settings(names: Iterable[str], models: Iterable[str]) -> None:
    """Refuse settings that the command decides and unknown settings. Warn about settings of other models.

    Raises:
        SettingError: Naming the setting.
    """
    models = list(models)
    known = set().union(*(read_settings(model) for model in models))
    for name in names:
        if name in OPTIONS:
            raise SettingError(f"'{name}' cannot be set for the runs of a benchmark: use {OPTIONS[name]}")
        if name in known:
            continue
        if not models_reading(name):
            raise SettingError.unknown(name, [*_NAMES, *sorted(known)])
        for model in models:
            logger.warning(unread(name, model))


def read_shared_settings(files: Sequence[Path], models: Iterable[str], datasets: Iterable[str]) -> dict[str, Any]:
    """Read the settings of config files, which may be the ``best.yaml`` of a sweep.

    Such a file also names its model, dataset, seed and data folder. The command decides these, so they are left out if
    model and dataset are the only ones of the command.

    Raises:
        SettingError: If a file names another model or dataset than the only one of the command.
    """
    settings = read_config_files(files)
    for name, wanted in (("model", list(models)), ("dataset", list(datasets))):
        if name in settings and wanted != [settings[name]]:
            raise SettingError(
                f"{', '.join(map(str, files))}: the {name} is '{settings[name]}', and the settings would be given to "
                f"{', '.join(wanted) or 'all'}. Request only this {name}, or delete the line"
            )
    decided = ("model", "dataset", "seed", "data_path")
    return {name: value for name, value in settings.items() if name not in decided}


PROTOCOL = "table2"
"""The preset whose settings are the base of every benchmark, for all models."""


class Preset(NamedTuple):
    """Models to compare, the settings that all of them share, and those of models trained by one objective."""

    models: list[str]
    settings: dict[str, Any]
    objective: dict[str, Any]


def read_preset(name: str) -> Preset:
    """Read a preset of the benchmark.

    Raises:
        SettingError: If there is no preset with this name.
    """
    content = read_yaml(preset_file(name, "benchmark").read_text(encoding="utf-8"))
    return Preset(list(content["models"]), dict(content["settings"]), dict(content["objective"]))


@dataclass(frozen=True)
class Request:
    """The comparison to make.

    Attributes:
        datasets: Names of datasets.
        models: Names of models.
        seeds: RecBole's ``seed`` of each repetition.
        data_path: Parent folder of all datasets.
        settings: Settings for all models that read them.
        settings_of: Settings of one model on one dataset; they override ``settings``.
        protocol: The preset that all other settings override.
    """

    datasets: Sequence[str]
    models: Sequence[str]
    seeds: Sequence[int]
    data_path: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_of: SettingsOf = no_settings
    protocol: str = PROTOCOL


class Entry(NamedTuple):
    """A model on a dataset, with the settings of its runs; see :func:`recbole_gserec.settings.config.split_machine`."""

    dataset: str
    model: str
    requested: dict[str, Any]
    machine: dict[str, Any]


def plan_entries(request: Request) -> list[Entry]:
    """List every model on every dataset with its settings.

    If a dataset has settings of its own, such as the length of histories, they override the protocol's.

    Raises:
        SettingError: For unknown models, seeds or settings.
    """
    _check(request)
    protocol = canonical(read_preset(request.protocol).settings)
    common = canonical(request.settings)
    check_requested_settings(common, request.models)
    entries = []
    for dataset in _distinct(request.datasets):
        usual = {name: value for name, value in protocol.items() if name not in dataset_settings(dataset)}
        for model in _distinct(request.models):
            own = canonical(request.settings_of(model, dataset))
            check_requested_settings(own, [model])
            # A setting of one model does not repeat the runs of other models.
            known = read_settings(model)
            read = {name: value for name, value in {**common, **own}.items() if name in known}
            entries.append(Entry(dataset, model, *split_machine({**usual, **read})))
    return entries


NEGATIVES = "train_neg_sample_args"


def with_objective(request: Request, loss_type: str) -> Request:
    """Let one loss train all models of a request that leave a choice; the others keep their own.

    Losses over sampled negatives also get the same negatives for all: those of the request's settings, otherwise those
    of its preset.

    Args:
        request: The comparison to make.
        loss_type: One of :data:`recbole_gserec.models.objective.LOSSES`.

    Raises:
        SettingError: If the loss is unknown, some models cannot be trained by it, or settings contradict it.
    """
    check_choice("--objective", loss_type, LOSSES)
    trained = [model for model in _distinct(request.models) if takes_objective(model) and _is_trained_by_us(model)]
    objective: dict[str, Any] = {"loss_type": loss_type}
    if loss_type in SAMPLED:
        objective[NEGATIVES] = request.settings.get(NEGATIVES, read_preset(request.protocol).objective[NEGATIVES])
    elif refused := [model for model in trained if not _scores_all_items(model)]:
        raise SettingError(
            f"--objective {loss_type} scores all items at once by dot products, as {', '.join(refused)} cannot: choose "
            f"{' or '.join(SAMPLED)}, or leave out these models"
        )
    given = {"all models": request.settings.keys() & {"loss_type"}}
    for model in trained:
        own = {name for dataset in request.datasets for name in request.settings_of(model, dataset)}
        given[model] = own & objective.keys()
    for whose, names in given.items():
        for name in sorted(names):
            raise SettingError(
                f"{name} is given for {whose}, but --objective {loss_type} sets it for its models: leave one out"
            )

    def settings_of(model: str, dataset: str) -> Mapping[str, Any]:
        own = request.settings_of(model, dataset)
        if model not in trained:
            return own
        is_given = NEGATIVES in request.settings and is_of_recbole(get_model(model))
        # RecBole refuses negatives beside CE, though other models of the benchmark may take them.
        none = {NEGATIVES: None} if is_given and loss_type not in SAMPLED else {}
        return {**own, **none, **objective}

    return replace(request, settings_of=settings_of)


def _is_trained_by_us(model: str) -> bool:
    model_class = get_model(model)
    return issubclass(model_class, SearchRecommender) or is_of_recbole(model_class)


def _scores_all_items(model: str) -> bool:
    """Return whether scores are dot products, as those of RecBole's sequential models with a choice of losses are."""
    model_class = get_model(model)
    is_ours = issubclass(model_class, SearchRecommender)
    return not is_ours or model_class.item_factors is not SearchRecommender.item_factors


def _check(request: Request) -> None:
    for what in ("datasets", "models", "seeds"):
        if not getattr(request, what):
            raise SettingError(f"no {what} given: give --{what if what == 'seeds' else what[:-1]}")
    for model in request.models:
        check_model(model)
    for dataset in request.datasets:
        check_dataset_name(dataset)
    for seed in request.seeds:
        if not 0 <= seed < 2**32:
            raise SettingError(f"a seed is {seed}; it must be a whole number from 0 to 4294967295")


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
