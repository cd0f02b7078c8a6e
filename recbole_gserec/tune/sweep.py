"""A sweep and its trials as they are stored, and where they run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recbole_gserec.compute import connect_with_share, count_parallel_tasks
from recbole_gserec.errors import DataError, GSERecError, SettingError
from recbole_gserec.files import is_plain_name, read_json, write_json
from recbole_gserec.tune.space import Choice, Range, grid, grid_size, random_points

SWEEP_FILE = "sweep.json"
SCHEDULERS = ("asha", "fifo", "pbt")
GRID, RANDOM = "grid", "random"
MOST_TRIALS_OF_A_GRID = 10_000

_NAMES_IN_MESSAGES = {
    "dataset_digest": "content of the dataset",
    "derived": "codes or text vectors",
    "model_code": "code of the model",
    "given": "settings",
    "n_samples": "number of trials",
    "search": "--search",
    "scheduler": "--scheduler",
    "grace_period": "grace period",
}
"""Names in messages for entries of the file, if they differ from the entries' own."""


@dataclass(frozen=True)
class Sweep:
    """A search for good settings of one model on one dataset.

    Attributes:
        model: Name of the model.
        dataset: Name of the dataset.
        dataset_digest: Digest of the dataset's files; see :mod:`recbole_gserec.runs.prepare`.
        space: Setting -> its values.
        requested: Requested settings of all trials, as JSON values.
        seed: RecBole's ``seed`` of all trials, and the seed of the search.
        search: ``grid``, ``random``, or a search algorithm of Ray Tune such as ``optuna``.
        scheduler: One of :data:`SCHEDULERS`.
        n_samples: Number of trials; for a grid, the number of combinations.
        grace_period: Epochs before a trial may be stopped, or between two exchanges of a population.
        derived: Name -> SHA-256 of the files that the offline stage made and the model reads.
        model_code: For a model of another package; see :func:`recbole_gserec.runs.record.code_digest`.
    """

    model: str
    dataset: str
    dataset_digest: str
    space: Mapping[str, Choice | Range]
    requested: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 2020
    search: str = RANDOM
    scheduler: str = "asha"
    n_samples: int = 20
    grace_period: int = 5
    derived: Mapping[str, str] = field(default_factory=dict)
    model_code: str | None = None

    def points(self) -> list[dict[str, Any]] | None:
        """Return the settings of all trials; None if the search chooses them during the sweep.

        Raises:
            SettingError: For a grid with a range, or with too many combinations.
        """
        if self.search == GRID:
            size = grid_size(self.space)
            if size is not None and size > MOST_TRIALS_OF_A_GRID:
                raise SettingError(f"the grid has {size:,} combinations: use --search random, or a smaller --space")
            return list(grid(self.space))
        if self.search == RANDOM:
            return random_points(self.space, self.n_samples, self.seed)
        return None

    def recall(self, folder: Path) -> bool:
        """Return whether the folder already has this sweep; store the sweep if the folder has none.

        Raises:
            SettingError: If the folder has another sweep.
            DataError: If the file that identifies the sweep is damaged.
        """
        path, content = folder / SWEEP_FILE, json.loads(json.dumps(asdict(self)))
        content["given"] = content.pop("requested")
        try:
            known = read_json(path, "Name another folder with --output, or delete this one.")
        except FileNotFoundError:
            write_json(path, content)
            return False
        if other := sorted(name for name in content if known.get(name) != content[name]):
            differences = " and ".join(_NAMES_IN_MESSAGES.get(name, name) for name in other)
            raise SettingError(
                f"{folder} has a sweep with other {differences}: name another folder with --output, or delete this one"
            )
        return True


@dataclass(frozen=True)
class ComputeResources:
    """The resources that a sweep uses.

    Attributes:
        workers: Number of trials at once; None for as many as there is room for.
        address: Address of a Ray cluster; None for this machine.
        cpus: CPUs and threads of each trial. None is 1. On this machine, if ``workers`` or the GPUs limit the number of
            trials, None is an even share, but at most ``OMP_NUM_THREADS``.
        gpus: GPUs of each trial, or a fraction of one; None is 1 if there are any.
    """

    workers: int | None = None
    address: str | None = None
    cpus: int | None = None
    gpus: float | None = None

    def connect(self) -> dict[str, float]:
        """Connect to Ray; return the resources of each trial.

        Raises:
            SettingError: If there is no Ray at the address, or no machine has the resources for a trial.
        """
        wanted = connect_with_share(self.workers, self.address, self.cpus, self.gpus)
        count_parallel_tasks(wanted, "--cpus, --gpus")
        return wanted


RECORD_FILE, CHECKPOINT_FILE, STATE_FILE = "trial.json", "checkpoint.pth", "training.pth"
SETTINGS_FILE, LOG_FILE = "settings.yaml", "log.txt"
RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"


@dataclass
class TrialRecord:
    """The result of a trial.

    Attributes:
        trial: Name of the trial.
        settings: The tried settings.
        status: ``running``, ``finished``, ``stopped`` (by the scheduler, before its end) or ``failed``.
        bigger: Whether a bigger score is better.
        epochs: Number of trained epochs.
        scores: Score of each validation.
        best_score: The best score.
        best_epoch: Epoch of the best score, from 0 on.
        seconds: Training time of the epochs.
        error: Why it failed.
    """

    trial: str
    settings: dict[str, Any]
    status: str = RUNNING
    bigger: bool = True
    epochs: int = 0
    scores: list[float] = field(default_factory=list)
    best_score: float | None = None
    best_epoch: int | None = None
    seconds: float = 0.0
    error: str | None = None

    def write(self, folder: Path) -> None:
        """Write ``trial.json`` into the trial's folder."""
        write_json(folder / RECORD_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> TrialRecord | None:
        """Read a file written by :meth:`write`; None if it is missing, damaged or of another folder."""
        try:
            record = cls(**read_json(folder / RECORD_FILE, "The trial is left out"))
        except (FileNotFoundError, DataError, TypeError):
            return None
        return record if record._is_whole() and record.trial == folder.name else None

    def _is_whole(self) -> bool:
        has_types = isinstance(self.trial, str) and isinstance(self.settings, dict) and isinstance(self.scores, list)
        numbers = [self.seconds, *(() if self.best_score is None else (self.best_score,))]
        return has_types and all(isinstance(number, (int, float)) for number in numbers)

    @property
    def rank(self) -> tuple[float, str]:
        """Orders trials from the best to the worst; those without a score come last."""
        if self.best_score is None:
            return float("inf"), self.trial
        return (-self.best_score if self.bigger else self.best_score), self.trial


def trials_folder(folder: Path) -> Path:
    """Return the folder of a sweep's trials."""
    return folder / "trials"


def trial_folder(folder: Path, trial: str) -> Path:
    """Return the folder of a trial.

    Raises:
        GSERecError: If its name is a path or a link leads elsewhere, because nothing outside the sweep may be changed.
    """
    target = trials_folder(folder) / trial
    if not is_plain_name(trial) or any(path.is_symlink() for path in (target, target.parent)):
        raise GSERecError(f"{target}: leads out of the sweep's folder. Delete it")
    return target


def _trial_folders(folder: Path) -> list[Path]:
    """Return the folders of a sweep's own trials, without links."""
    trials = trials_folder(folder)
    return [] if trials.is_symlink() else [path for path in sorted(trials.glob("*")) if not path.is_symlink()]


def read_trials(folder: Path) -> list[TrialRecord]:
    """Read the trials of a sweep, from the best to the worst."""
    return sorted(_records(folder), key=lambda record: record.rank)


def failed_trials(folder: Path) -> list[TrialRecord]:
    """Return the trials that failed."""
    return [record for record in read_trials(folder) if record.status == FAILED]


def damaged_trials(folder: Path) -> list[Path]:
    """Return the folders of trials without a complete record."""
    return [path for path in _trial_folders(folder) if TrialRecord.read(path) is None]


def drop_weights(folder: Path, n_kept: int) -> None:
    """Remove the weights of all completed trials that are not among the best."""
    for record in read_trials(folder)[n_kept:]:
        if record.status != RUNNING:
            for name in (CHECKPOINT_FILE, STATE_FILE):
                with suppress(FileNotFoundError):
                    (trial_folder(folder, record.trial) / name).unlink()


def _records(folder: Path) -> Iterator[TrialRecord]:
    for path in _trial_folders(folder):
        record = TrialRecord.read(path)
        if record is not None:
            yield record
