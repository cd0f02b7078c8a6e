"""Trains the winner to its end and tests it."""

import os
import traceback
from dataclasses import replace
from typing import Any

import ray
import torch

from recbole_gserec.compute import write_to_log
from recbole_gserec.errors import GSERecError, failure_reason, not_none, one_line
from recbole_gserec.files import plain
from recbole_gserec.tune.sweep import LOG_FILE, ComputeResources, TrialRecord, trial_folder
from recbole_gserec.tune.trial_training import SweepJob, train_trial

_TEST_LOG = f"test-{LOG_FILE}"


def finish_winner(job: SweepJob, resources: ComputeResources, trial: str) -> dict[str, Any]:
    """Train the winner to its end if it was stopped early, and evaluate it on the test part.

    Returns:
        ``valid`` and ``test``, metric -> value each; ``metric``, by which the winner is one.

    Raises:
        GSERecError: If that fails.
    """
    wanted = resources.connect()
    job = replace(job, threads=int(wanted["CPU"]))
    task = ray.remote(_finish).options(num_cpus=wanted["CPU"], num_gpus=wanted["GPU"], max_retries=0)
    try:
        return ray.get(task.remote(job, trial))
    except ray.exceptions.RayError as error:
        # If the task's process is killed, Ray raises another kind of error than if the task raises one.
        reason = failure_reason(error.cause) if isinstance(error, ray.exceptions.RayTaskError) else one_line(error)
        log = trial_folder(job.folder, trial) / _TEST_LOG
        raise GSERecError(f"the winner, trial {trial}, failed in its test: {reason}. Its log is {log}") from error


def _finish(job: SweepJob, trial: str) -> dict[str, Any]:
    folder = trial_folder(job.folder, trial)
    record = not_none(TrialRecord.read(folder))
    write_to_log(folder / _TEST_LOG)
    os.chdir(folder)
    torch.set_num_threads(job.threads)
    try:
        trainer, test_data = train_trial(job, folder, record, None, lambda parts: None)
        result = trainer.evaluate(test_data, load_best_model=True, show_progress=False)
    except Exception:
        traceback.print_exc()
        raise
    parts = {"valid": trainer.best_valid_result, "test": result}
    return {**{part: plain(dict(values)) for part, values in parts.items()}, "metric": trainer.config["valid_metric"]}
