"""What is kept of a trial: a folder with its record, its log and, of good ones, its weights."""

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
    """How a trial went.

    Attributes:
        trial: Its name.
        settings: What was tried.
        status: ``running``, ``finished``, ``stopped`` (by the scheduler, before its end) or ``failed``.
        bigger: Whether a bigger score is better.
        epochs: How many it was trained for.
        scores: Score of each validation.
        best_score: The best of them.
        best_epoch: Its epoch, from 0 on.
        seconds: What the epochs took.
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
        """Read what :meth:`write` wrote; None where there is none that is whole and of this folder."""
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
    """Where the trials of a sweep lie."""
    return folder / "trials"


def trial_folder(folder: Path, trial: str) -> Path:
    """Where a trial of a sweep lies.

    Raises:
        GSERecError: If its name is a path, or a link leads to another place: nothing outside the sweep is touched.
    """
    place = trials_folder(folder) / trial
    if not is_plain_name(trial) or any(path.is_symlink() for path in (place, place.parent)):
        raise GSERecError(f"{place}: leads out of the sweep's folder. Delete it")
    return place


def _trial_folders(folder: Path) -> list[Path]:
    """Folders of a sweep's own trials: links lead elsewhere."""
    trials = trials_folder(folder)
    return [] if trials.is_symlink() else [path for path in sorted(trials.glob("*")) if not path.is_symlink()]


def read_trials(folder: Path) -> list[TrialRecord]:
    """The trials of a sweep, from the best to the worst."""
    return sorted(_records(folder), key=lambda record: record.rank)


def failed_trials(folder: Path) -> list[TrialRecord]:
    """Trials that failed."""
    return [record for record in read_trials(folder) if record.status == FAILED]


def damaged_trials(folder: Path) -> list[Path]:
    """Folders of trials of which no whole record is left."""
    return [path for path in _trial_folders(folder) if TrialRecord.read(path) is None]


def drop_weights(folder: Path, n_kept: int) -> None:
    """Remove the weights of all trials that are over and not among the best."""
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
