"""The folder of a trial: its record, its log and, for the best trials, the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recbole_gserec.errors import DataError, GSERecError
from recbole_gserec.files import is_plain_name
from recbole_gserec.json_files import read_json, write_json

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
