"""The training of a trial: RecBole's ``run_recbole`` without the test, with a report after every epoch."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from recbole.config import Config
from recbole.data import create_dataset
from recbole.utils import get_trainer, init_seed
from recbole.utils.argument_list import dataset_arguments

from recbole_gserec.errors import GSERecError
from recbole_gserec.files import plain
from recbole_gserec.plugin import ResumableTraining, global_states, resumable, set_global_states
from recbole_gserec.preprocess import other_codes
from recbole_gserec.provenance import installed_versions
from recbole_gserec.runs import build_training, with_timing
from recbole_gserec.settings import make_config
from recbole_gserec.tune.sweep import CHECKPOINT_FILE, FINISHED, SETTINGS_FILE, STATE_FILE, TrialRecord


@dataclass(frozen=True)
class SweepJob:
    """What all trials of a sweep share.

    Attributes:
        model: Name of the model.
        dataset: Name of the dataset.
        data_path: Absolute path of the parent folder of all datasets.
        folder: Absolute path of the sweep's folder.
        requested: Requested settings of all trials.
        machine: Settings that say where and how to run, and do not change results.
        seed: RecBole's ``seed``.
        offline: Tried settings of the offline stage, each with one of its values; None for a range.
        code_settings: Settings that the trials' codes share with the dataset's own, if they are not the defaults.
        threads: Number of threads of each trial.
        population: Whether trials continue with the weights of other trials.
        bigger: Whether a bigger score is better.
        n_epochs: Maximum number of epochs of a trial.
    """

    model: str
    dataset: str
    data_path: Path
    folder: Path
    requested: Mapping[str, Any]
    machine: Mapping[str, Any]
    seed: int
    offline: Mapping[str, Any] = field(default_factory=dict)
    code_settings: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    population: bool = False
    bigger: bool = True
    n_epochs: int = 100


class SharedDataset(NamedTuple):
    """A dataset that is created once for all trials, with the random states after its creation."""

    dataset: Any
    states: dict[str, Any]


class EpochReport(NamedTuple):
    """The report of a trial after an epoch."""

    epoch: int
    score: float
    record: TrialRecord
    result: dict[str, float]
    trainer: Any
    train_data: Any


def make_dataset(job: SweepJob) -> SharedDataset:
    """Create the dataset of all trials whose settings need no other one."""
    config = trial_config(job, first_codes(job), job.folder / SETTINGS_FILE)
    init_seed(config["seed"], config["reproducibility"])
    return SharedDataset(_dataset(config, None), global_states())


def first_codes(job: SweepJob) -> dict[str, Any]:
    """Return the first tried values of codes, with which the dataset is read until a trial reads its own codes."""
    return {name: value for name, value in job.offline.items() if value is not None}


def trial_settings(job: SweepJob, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a trial, including the folder of codes if settings of the offline stage are tried."""
    requested = {**job.requested, **settings, "seed": job.seed}
    offline = {name: plain(requested[name]) for name in job.offline if name in settings}
    if not offline:
        return requested
    # Summaries and vectors are made once for all codes.
    other = other_codes(job.folder, job.data_path, job.dataset, {**job.code_settings, **offline})
    return {**job.code_settings, **other, **requested}


def trial_config(job: SweepJob, settings: Mapping[str, Any], file: Path, **machine: Any) -> Config:
    """Create RecBole's settings of a trial."""
    requested = trial_settings(job, settings)
    return make_config(
        job.model, job.dataset, requested, {**job.machine, "data_path": str(job.data_path), **machine}, file
    )


def train_trial(
    job: SweepJob,
    folder: Path,
    record: TrialRecord,
    shared: SharedDataset | None,
    report: Callable[[EpochReport], None],
) -> tuple[Any, Any]:
    """Train a trial to its end, or resume an interrupted training in the same folder.

    Args:
        job: The sweep.
        folder: Folder of the trial.
        record: Record of the trial; updated during training, and written at the end.
        shared: The dataset; None creates one.
        report: Called after every epoch.

    Returns:
        The trainer, and the test dataloader.
    """
    config = trial_config(job, record.settings, folder / SETTINGS_FILE, checkpoint_dir=str(folder))
    setup = build_training(config, lambda: _dataset(config, shared), _trainer_class(job, config))
    train_data, valid_data, trainer = setup.train_data, setup.valid_data, setup.trainer
    trainer.saved_model_file = str(folder / CHECKPOINT_FILE)
    trainer.state_file = folder / STATE_FILE
    # In a population, a trial continues with settings other than those its weights were trained with.
    training_identity = {} if job.population else plain(dict(record.settings))
    trainer.training_identity = {
        **training_identity,
        "given": plain(dict(job.requested)),
        "versions": installed_versions(("recbole", "torch")),
    }
    record.bigger = bool(config["valid_metric_bigger"])

    def after_epoch(epoch: int, score: float) -> None:
        _note(record, trainer)
        report(EpochReport(epoch, score, record, plain(dict(trainer.last_valid_result)), trainer, train_data))

    trainer.fit(train_data, valid_data, saved=True, show_progress=False, callback_fn=after_epoch)
    if not trainer.valid_scores:
        raise GSERecError("the trial was not validated, but trials are compared by validation")
    _note(record, trainer)
    record.status, record.error = FINISHED, None
    record.write(folder)
    shutil.rmtree(folder / "log", ignore_errors=True)
    return trainer, setup.test_data


def _note(record: TrialRecord, trainer: Any) -> None:
    epochs = trainer.epoch_record()
    record.epochs, record.best_epoch = epochs["trained"], epochs["best"]
    record.scores = list(epochs["valid_score"])
    record.best_score = float(trainer.best_valid_score)
    record.seconds = sum(epochs["seconds"]) + sum(epochs["validation_seconds"])


def _dataset(config: Config, shared: SharedDataset | None) -> Any:
    """Return the shared dataset, with other codes if only those differ, or a dataset for this trial alone."""
    if shared is None:
        return create_dataset(config)
    dataset = shared.dataset
    # RecBole checks these to see whether a stored dataset can be used.
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
    """Continues with the weights of another trial, but with this trial's own settings."""

    def _restore(self, train_data: Any) -> bool:
        # The optimiser's state also contains the learning rates and penalties of the other trial.
        groups = [group for optimizer in self.optimizers().values() for group in optimizer.param_groups]
        own = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        try:
            restored = super()._restore(train_data)
        except RuntimeError as error:
            if "state_dict" not in str(error):
                raise
            raise GSERecError(
                "pbt passes weights between trials, so it cannot try settings that change their shapes"
            ) from error
        groups = [group for optimizer in self.optimizers().values() for group in optimizer.param_groups]
        for group, values in zip(groups, own, strict=True):
            group.update(values)
        return restored


def _trainer_class(job: SweepJob, config: Config) -> type:
    stock = get_trainer(config["MODEL_TYPE"], config["model"])
    return with_timing(resumable(stock, PopulationTraining if job.population else ResumableTraining))
