"""A trial as Ray Tune runs it: in its own process, with a report after every epoch."""

import os
import shutil
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from recbole_gserec.compute import write_to_log
from recbole_gserec.errors import failure_reason
from recbole_gserec.files import scratch_folder
from recbole_gserec.runs import refuse_links
from recbole_gserec.tune.sweep import CHECKPOINT_FILE, FAILED, FINISHED, LOG_FILE, STATE_FILE, TrialRecord, trial_folder
from recbole_gserec.tune.trial_training import EpochReport, SweepJob, train_trial

SCORE = "best_score"
"""The best validation score so far, by which trials are compared."""
EPOCH = "epoch"


def run_trial(settings: Mapping[str, Any], job: SweepJob, shared: Any, exchange_every: int) -> None:
    """Train with the settings of a trial; Ray Tune calls this.

    Args:
        settings: The tried settings.
        job: The sweep.
        shared: Ray reference of the dataset.
        exchange_every: Epochs between two checkpoints that other trials can take over; 0 for none.
    """
    context = tune.get_context()
    folder = trial_folder(job.folder, context.get_trial_id())
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links(folder)
    record = TrialRecord.read(folder)
    if record is not None and record.status == FINISHED and not job.population:
        # The trial ended between two of Ray's snapshots.
        tune.report(_metrics(record, record.epochs - 1, record.scores[-1], {}))
        return
    record = TrialRecord(context.get_trial_id(), dict(settings))
    record.write(folder)
    write_to_log(folder / LOG_FILE)
    os.chdir(folder)
    torch.set_num_threads(job.threads)
    _take_over(tune.get_checkpoint(), folder)
    try:
        train_trial(job, folder, record, ray.get(shared[0]), _reporter(job, folder, exchange_every))
    except Exception as error:
        traceback.print_exc()
        record.status, record.error = FAILED, failure_reason(error)
        record.write(folder)
        raise


def _reporter(job: SweepJob, folder: Path, exchange_every: int) -> Callable[[EpochReport], None]:
    def report(epoch_report: EpochReport) -> None:
        epoch_report.record.write(folder)
        metrics = _metrics(epoch_report.record, epoch_report.epoch, epoch_report.score, epoch_report.result)
        # Epochs without a validation are not reported, although an exchange may be due after one of them.
        if not exchange_every or (epoch_report.epoch + 1) % exchange_every >= epoch_report.trainer.eval_step:
            tune.report(metrics)
            return
        epoch_report.trainer.store(epoch_report.train_data, epoch_report.epoch)
        with scratch_folder(folder, "checkpoint") as temporary:
            for name in (STATE_FILE, CHECKPOINT_FILE):
                shutil.copy(folder / name, temporary)
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(temporary))

    return report


def _metrics(record: TrialRecord, epoch: int, score: float, result: Mapping[str, float]) -> dict[str, Any]:
    return {
        EPOCH: epoch + 1,
        SCORE: record.best_score,
        "score": score,
        "seconds": record.seconds,
        **{f"valid/{name}": value for name, value in result.items()},
    }


def _take_over(checkpoint: Any, folder: Path) -> None:
    """Start from the state that Ray provides: of a better trial, or of this one before an interruption."""
    if checkpoint is None:
        return
    with checkpoint.as_directory() as temporary:
        for name in (STATE_FILE, CHECKPOINT_FILE):
            shutil.copy(Path(temporary) / name, folder / name)
