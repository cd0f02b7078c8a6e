"""Logs a line for each trial that ends."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ray.tune import Callback

from recbole_gserec.tune.trial_record import (
    FAILED,
    RUNNING,
    STOPPED,
    TrialRecord,
    drop_weights,
    read_trials,
    trial_folder,
)
from recbole_gserec.wording import plural

logger = logging.getLogger(__name__)


class Progress(Callback):
    """Logs trials when they end, and removes the weights of trials that are not among the best.

    Args:
        folder: Folder of the sweep.
        n_trials: Number of trials in total.
        n_kept: Number of trials that keep their weights.
    """

    def __init__(self, folder: Path, n_trials: int, n_kept: int):
        self.folder, self.n_trials, self.n_kept = folder, n_trials, n_kept

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Ray Tune calls this when a trial has finished or was stopped."""
        self._tell(trials, trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Ray Tune calls this when a trial has failed. If its process was killed, this stores the failure."""
        folder = trial_folder(self.folder, trial.trial_id)
        record = TrialRecord.read(folder) or TrialRecord(trial.trial_id, dict(trial.config))
        if record.status != FAILED:
            reason = str(trial.get_error() or "").strip().splitlines() or ["perhaps killed because memory ran out"]
            record.status, record.error = FAILED, f"its process ended: {reason[0]}"
            record.write(folder)
        self._tell(trials, trial)

    def _tell(self, trials: list[Any], trial: Any) -> None:
        folder = trial_folder(self.folder, trial.trial_id)
        record = TrialRecord.read(folder)
        if record is None:
            logger.warning(f"trial {trial.trial_id}: its record is missing or damaged")
            return
        if record.status == RUNNING:
            record.status = STOPPED
            record.write(folder)
        n_over = sum(other is trial or other.is_finished() for other in trials)
        logger.info(f"[{n_over}/{self.n_trials}] {describe_trial(record)}; best so far {_best(self.folder)}")
        drop_weights(self.folder, self.n_kept)


def describe_trial(record: TrialRecord) -> str:
    """Describe a trial in one line."""
    settings = ", ".join(f"{name}={value}" for name, value in record.settings.items())
    if record.error is not None:
        return f"{record.trial} failed: {record.error} ({settings})"
    score = "no score" if record.best_score is None else f"{record.best_score:.4f}"
    epochs = f"{record.epochs} {plural('epoch', record.epochs)}"
    return f"{record.trial} {record.status}: {score} after {epochs} ({settings})"


def _best(folder: Path) -> str:
    trials = read_trials(folder)
    return f"{trials[0].best_score:.4f}" if trials and trials[0].best_score is not None else "none"
