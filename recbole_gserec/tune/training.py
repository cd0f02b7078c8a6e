"""The training of a trial: RecBole's ``run_recbole`` up to the test, with a report after every epoch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from recbole.config import Config
from recbole.data import create_dataset
from recbole.utils import get_trainer, init_seed
from recbole.utils.argument_list import dataset_arguments

from recbole_gserec.benchmark.built import build
from recbole_gserec.benchmark.timing import timed
from recbole_gserec.config import make_config
from recbole_gserec.errors import GSERecError
from recbole_gserec.json_files import plain
from recbole_gserec.preprocess.other_codes import other_codes
from recbole_gserec.random_states import global_states, set_global_states
from recbole_gserec.resumable import ResumableTraining, resumable
from recbole_gserec.tune.trial_record import CHECKPOINT_FILE, FINISHED, SETTINGS_FILE, STATE_FILE, TrialRecord
from recbole_gserec.versions import installed_versions


@dataclass(frozen=True)
class SweepJob:
    """What all trials of a sweep share.

    Attributes:
        model: Name of the model.
        dataset: Name of the dataset.
        data_path: Folder of all datasets; absolute.
        folder: Of the sweep; absolute.
        given: Settings of all trials.
        machine: Settings that say where and how to run, and change no number.
        seed: RecBole's ``seed``.
        offline: Settings of the offline stage that are tried, each with a value that is; None for a range.
        made_with: Those that codes of trials share with the dataset's own, where these are not the usual ones.
        threads: Of a trial.
        population: Whether trials take over the weights of others.
        bigger: Whether a bigger score is better.
        n_epochs: Most epochs of a trial.
    """

    model: str
    dataset: str
    data_path: Path
    folder: Path
    given: Mapping[str, Any]
    machine: Mapping[str, Any]
    seed: int
    offline: Mapping[str, Any] = field(default_factory=dict)
    made_with: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    population: bool = False
    bigger: bool = True
    n_epochs: int = 100


class SharedDataset(NamedTuple):
    """A dataset that is made once for all trials, with the random states that making it leaves behind."""

    dataset: Any
    states: dict[str, Any]


class EpochReport(NamedTuple):
    """What a trial tells after an epoch."""

    epoch: int
    score: float
    record: TrialRecord
    result: dict[str, float]
    trainer: Any
    train_data: Any


def make_dataset(job: SweepJob) -> SharedDataset:
    """The dataset of all trials whose settings do not ask for another one."""
    config = config_of(job, first_codes(job), job.folder / SETTINGS_FILE)
    init_seed(config["seed"], config["reproducibility"])
    return SharedDataset(_dataset(config, None), global_states())


def first_codes(job: SweepJob) -> dict[str, Any]:
    """Settings of codes to read the dataset with, until a trial reads its own: the first values that are tried.

    The dataset's own codes may be made with other settings, and refused. They are read where ranges alone are tried.
    """
    return {name: value for name, value in job.offline.items() if value is not None}


def given_of(job: SweepJob, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that RecBole is given for a trial, which says where the codes are if the offline stage is tried too."""
    given = {**job.given, **settings, "seed": job.seed}
    offline = {name: plain(given[name]) for name in job.offline if name in settings}
    if not offline:
        return given
    # Summaries and vectors are made once for all codes.
    other = other_codes(job.folder, job.data_path, job.dataset, {**job.made_with, **offline})
    return {**job.made_with, **other, **given}


def config_of(job: SweepJob, settings: Mapping[str, Any], file: Path, **here: Any) -> Config:
    """RecBole's settings of a trial."""
    given = given_of(job, settings)
    return make_config(job.model, job.dataset, given, {**job.machine, "data_path": str(job.data_path), **here}, file)


def train_trial(
    job: SweepJob,
    folder: Path,
    record: TrialRecord,
    shared: SharedDataset | None,
    report: Callable[[EpochReport], None],
) -> tuple[Any, Any]:
    """Train until the end; goes on where an interrupted training of the same folder was.

    Args:
        job: The sweep.
        folder: Of the trial.
        record: Of the trial; it is kept up to date, and written when the training is over.
        shared: The dataset; None makes one.
        report: Called after every epoch.

    Returns:
        The trainer, and the dataloader of the test.
    """
    config = config_of(job, record.settings, folder / SETTINGS_FILE, checkpoint_dir=str(folder))
    built = build(config, lambda: _dataset(config, shared), _trainer_class(job, config))
    train_data, valid_data, trainer = built.train_data, built.valid_data, built.trainer
    trainer.saved_model_file = str(folder / CHECKPOINT_FILE)
    trainer.state_file = folder / STATE_FILE
    # A population goes on with other settings than the weights were trained with.
    made_by = {} if job.population else plain(dict(record.settings))
    trainer.made_by = {**made_by, "given": plain(dict(job.given)), "versions": installed_versions(("recbole", "torch"))}
    record.bigger = bool(config["valid_metric_bigger"])

    def after_epoch(epoch: int, score: float) -> None:
        _note(record, trainer)
        report(EpochReport(epoch, score, record, plain(dict(trainer.last_valid_result)), trainer, train_data))

    trainer.fit(train_data, valid_data, saved=True, show_progress=False, callback_fn=after_epoch)
    if not trainer.valid_scores:
        raise GSERecError("there was no validation, by which trials are compared")
    _note(record, trainer)
    record.status, record.error = FINISHED, None
    record.write(folder)
    shutil.rmtree(folder / "log", ignore_errors=True)
    return trainer, built.test_data


def _note(record: TrialRecord, trainer: Any) -> None:
    epochs = trainer.epoch_record()
    record.epochs, record.best_epoch = epochs["trained"], epochs["best"]
    record.scores = list(epochs["valid_score"])
    record.best_score = float(trainer.best_valid_score)
    record.seconds = sum(epochs["seconds"]) + sum(epochs["validation_seconds"])


def _dataset(config: Config, shared: SharedDataset | None) -> Any:
    """The shared dataset, with other codes if that is all that a trial wants different; or one of its own."""
    if shared is None:
        return create_dataset(config)
    dataset = shared.dataset
    # By these RecBole knows whether a stored dataset can be used.
    names = [*dataset_arguments, "seed", "repeatable"]
    different = {name for name in names if config[name] != dataset.config[name]}
    if different - {"code_path"}:
        return create_dataset(config)
    if different:
        dataset.take_codes(config)
    dataset.config = config
    set_global_states(shared.states)
    return dataset


class PopulationTraining(ResumableTraining):
    """Goes on with the weights of another trial under this trial's own settings."""

    def _restore(self, train_data: Any) -> bool:
        # The state of an optimiser holds the rates and penalties of the other trial too.
        groups = [group for optimizer in self.optimizers().values() for group in optimizer.param_groups]
        own = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        try:
            restored = super()._restore(train_data)
        except RuntimeError as error:
            if "state_dict" not in str(error):
                raise
            raise GSERecError(
                "with pbt, trials take over weights: settings that change their shapes cannot be tried"
            ) from error
        groups = [group for optimizer in self.optimizers().values() for group in optimizer.param_groups]
        for group, values in zip(groups, own, strict=True):
            group.update(values)
        return restored


def _trainer_class(job: SweepJob, config: Config) -> type:
    stock = get_trainer(config["MODEL_TYPE"], config["model"])
    return timed(resumable(stock, PopulationTraining if job.population else ResumableTraining))
