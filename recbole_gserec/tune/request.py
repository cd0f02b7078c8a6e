"""A tuning request, checked before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.utils import get_trainer

from recbole_gserec.errors import SettingError
from recbole_gserec.plugin import is_resumable
from recbole_gserec.preprocess import read_code_record
from recbole_gserec.runs import OPTIONS, Entry, canonical, code_digest, prepare_all
from recbole_gserec.settings import (
    PreprocessSettings,
    absolute_folders,
    check_dataset,
    check_dataset_name,
    check_model,
    check_values,
    make_config,
    model_settings,
    models_reading,
    read_settings,
    split_machine,
    unread,
)
from recbole_gserec.tune.searchers import check_search
from recbole_gserec.tune.space import Choice, Range, default_space, read_space
from recbole_gserec.tune.sweep import SCHEDULERS, Sweep
from recbole_gserec.tune.trial_training import SweepJob, first_codes, trial_settings

logger = getLogger(__name__)

_OPTIONS = {**OPTIONS, "seed": "--seed"}
"""Settings that the command decides."""


@dataclass(frozen=True)
class TuneRequest:
    """The request for a sweep.

    Attributes:
        model: Name of the model.
        dataset: Name of the dataset.
        data_path: Parent folder of all datasets.
        output: Parent folder of all sweeps.
        space: File of the search space; None for the model's own.
        settings: Settings of all trials. If the space has one of them too, it is not tried.
        seed: Seed of the trainings and of the search.
        search: See :class:`Sweep`.
        scheduler: See :class:`Sweep`.
        n_samples: See :class:`Sweep`.
        grace_period: See :class:`Sweep`.
    """

    model: str
    dataset: str
    data_path: Path = Path("dataset")
    output: Path = Path("tune")
    space: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 2020
    search: str = "random"
    scheduler: str = "asha"
    n_samples: int = 20
    grace_period: int = 5

    @property
    def folder(self) -> Path:
        """The folder of the sweep."""
        return self.output.absolute() / self.dataset / self.model


def check_names(request: TuneRequest) -> None:
    """Refuse unknown names before a folder is named after them.

    Raises:
        SettingError: With the wrong name.
    """
    check_model(request.model)
    check_dataset_name(request.dataset)
    check_dataset(request.data_path, request.dataset, request.settings.get("benchmark_filename"))


def plan(request: TuneRequest) -> tuple[Sweep, SweepJob]:
    """Plan the sweep and what its trials share; make missing files that the trials read.

    Raises:
        GSERecError: For unknown settings or wrong values, or a missing dataset.
    """
    check_names(request)
    if request.scheduler not in SCHEDULERS:
        raise SettingError(f"--scheduler is '{request.scheduler}'; choose from: {', '.join(SCHEDULERS)}")
    check_search(request.search)
    requested, machine = split_machine(canonical(request.settings))
    if "gpu_id" in machine:
        raise SettingError("gpu_id: Ray assigns GPUs; use --gpus instead")
    space = _space(request, requested)
    requested = {name: value for name, value in requested.items() if name in read_settings(request.model)}
    data_path = request.data_path.absolute()
    offline = _offline(request.model, requested, space)
    code_settings = _code_settings(request.dataset, data_path, {**requested, **space}) if offline else {}
    job = SweepJob(
        request.model,
        request.dataset,
        data_path,
        request.folder,
        requested,
        machine,
        request.seed,
        offline=offline,
        code_settings=code_settings,
        population=request.scheduler == "pbt",
    )
    sweep = Sweep(
        request.model,
        request.dataset,
        "",
        space,
        {**code_settings, **requested},
        request.seed,
        request.search,
        request.scheduler,
        request.n_samples,
        request.grace_period,
        model_code=code_digest(request.model),
    )
    # Before any file is made.
    sweep.points()
    shared = trial_settings(job, first_codes(job))
    (prepared,) = prepare_all([Entry(request.dataset, request.model, shared, machine)], data_path)
    sweep = replace(sweep, dataset_digest=prepared.dataset_digest, derived=prepared.derived)
    config = make_config(request.model, request.dataset, requested, {**machine, "data_path": str(data_path)})
    if config["eval_step"] < 1:
        raise SettingError(
            f"eval_step is {config['eval_step']}; it must be at least 1, because trials are compared by validation"
        )
    if request.scheduler == "pbt" and not is_resumable(get_trainer(config["MODEL_TYPE"], config["model"])):
        raise SettingError(
            f"--scheduler pbt: {request.model} has its own training loop, whose state cannot pass from trial to "
            "trial. Choose asha or fifo"
        )
    if request.scheduler == "pbt" and (config["reduce_lr_on_plateau"] or "reduce_lr_on_plateau" in sweep.space):
        raise SettingError("--scheduler pbt sets learning rates itself: leave out reduce_lr_on_plateau")
    return sweep, replace(job, bigger=bool(config["valid_metric_bigger"]), n_epochs=config["epochs"])


def _space(request: TuneRequest, requested: Mapping[str, Any]) -> dict[str, Choice | Range]:
    known = read_settings(request.model)
    space = read_space(request.space) if request.space is not None else default_space(request.model)
    space = {name: _canonical(name, values) for name, values in space.items()}
    for name in [*requested, *space]:
        if name in _OPTIONS:
            raise SettingError(f"'{name}' cannot be set for the trials of a sweep: use {_OPTIONS[name]}")
        if name in known:
            continue
        if not models_reading(name):
            raise SettingError.unknown(name, sorted(known))
        if name in space:
            raise SettingError(f"{unread(name, request.model)}. Remove it from the space")
        logger.warning(unread(name, request.model))
    for name, values in space.items():
        for value in values.values if isinstance(values, Choice) else values.numbers[:2]:
            check_values({name: value}, request.model)
    tried = {name: values for name, values in space.items() if name not in requested}
    if not tried:
        raise SettingError("there is nothing to try: all settings of the space already have values")
    return tried


def _canonical(name: str, values: Choice | Range) -> Choice | Range:
    if isinstance(values, Range):
        return values
    return replace(values, values=tuple(canonical({name: value})[name] for value in values.values))


def _code_settings(dataset: str, data_path: Path, decided: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the dataset's own codes were made, except the settings decided here.

    With this, the codes of trials differ only in what is tried. Codes that do not exist yet are made with default
    settings.
    """
    code_file = data_path / dataset / f"{dataset}.code"
    if not code_file.is_file():
        return {}
    advice = (
        "Make the codes with gserec preprocess, or do not tune the offline stage: set its settings, or change --space"
    )
    made = read_code_record(code_file, advice).non_default_settings(dataset)
    # Trials work in their own folders.
    return absolute_folders({name: value for name, value in made.items() if name not in decided})


def _offline(model: str, requested: Mapping[str, Any], space: Mapping[str, Choice | Range]) -> dict[str, Any]:
    """Return the tried settings of the offline stage, each with one of its values, or None for a range."""
    names = [name for name in space if name in PreprocessSettings().deciding() and name in model_settings(model)]
    if names and "code" not in model_settings(model)["additional_feat_suffix"]:
        raise SettingError(f"{names[0]} only changes codes, and {model} reads none")
    if names and "code_path" in {**requested, **space}:
        raise SettingError(f"code_path names one file of codes, and {names[0]}, which is tuned, would change it")
    tried = {name: space[name] for name in names}
    return {name: values.values[0] if isinstance(values, Choice) else None for name, values in tried.items()}
