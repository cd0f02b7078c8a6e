"""The trials of a sweep on Ray Tune, and a line of progress for each."""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Callback
from ray.tune.search import BasicVariantGenerator

from recbole_gserec.errors import DataError, GSERecError, failure_reason, one_line
from recbole_gserec.files import remove_abandoned
from recbole_gserec.report import plural
from recbole_gserec.tune.searchers import make_scheduler, make_searcher
from recbole_gserec.tune.sweep import (
    FAILED,
    LOG_FILE,
    RUNNING,
    STOPPED,
    ComputeResources,
    Sweep,
    TrialRecord,
    drop_weights,
    read_trials,
    trial_folder,
    trials_folder,
)
from recbole_gserec.tune.trial import SCORE, run_trial
from recbole_gserec.tune.trial_training import SweepJob, make_dataset

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
        self._report(trials, trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Ray Tune calls this when a trial has failed. If its process was killed, this stores the failure."""
        folder = trial_folder(self.folder, trial.trial_id)
        record = TrialRecord.read(folder) or TrialRecord(trial.trial_id, dict(trial.config))
        if record.status != FAILED:
            reason = str(trial.get_error() or "").strip().splitlines() or ["perhaps killed because memory ran out"]
            record.status, record.error = FAILED, f"its process ended: {reason[0]}"
            record.write(folder)
        self._report(trials, trial)

    def _report(self, trials: list[Any], trial: Any) -> None:
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


_RAY = "ray"
_SNAPSHOTS = "experiment_state-*.json"
_TEST_LOG = f"test-{LOG_FILE}"


def run_trials(
    sweep: Sweep, job: SweepJob, resources: ComputeResources, *, n_kept: int, retry_failed: bool, is_new: bool
) -> None:
    """Make all trials of a sweep. Completed trials of an interrupted sweep are not repeated.

    Args:
        sweep: The sweep.
        job: What all trials share.
        resources: Resources of the trials.
        n_kept: Number of trials whose weights are kept.
        retry_failed: Whether to repeat failed trials.
        is_new: Whether this is the sweep's first call.

    Raises:
        GSERecError: If Ray cannot make the trials, or every trial failed.
        OSError: If the trial records cannot be written.
    """
    # Ray's own progress tables fill many screens.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    wanted = resources.connect()
    job = replace(job, threads=int(wanted["CPU"]))
    shared = _share_dataset(job, wanted)
    trainable = tune.with_resources(
        tune.with_parameters(
            run_trial, job=job, shared=[shared], exchange_every=sweep.grace_period if job.population else 0
        ),
        {"cpu": wanted["CPU"], "gpu": wanted["GPU"]},
    )
    path = job.folder / _RAY
    # Ray prints a page for each failed trial; Progress logs one line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # A killed sweep resumes from Ray's last snapshot. Trials that ended later are known by their own records.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "5")
    # On an interruption, Ray returns as if all trials were complete. The best trial so far would become the winner.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    if not is_new and _has_begun(job.folder):
        tuner = _old_tuner(path, job, resources, trainable, n_kept, retry_failed)
    else:
        shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(trials_folder(job.folder), ignore_errors=True)
        tuner = _new_tuner(sweep, job, resources, trainable, n_kept)
    try:
        tuner.fit()
    except tune.TuneError as error:
        # Errors in Progress would be printed as a page of text.
        if isinstance(error.__context__, (OSError, GSERecError)):
            raise error.__context__ from None
        raise GSERecError(f"Ray Tune failed: {one_line(error)}. Its state is in {path}") from error
    for record in read_trials(job.folder):
        if record.status == RUNNING:
            record.status = STOPPED
            record.write(trial_folder(job.folder, record.trial))
    for path in trials_folder(job.folder).glob("*"):
        # Ray kills the trials that it stops, even while they write files.
        remove_abandoned(path)
    drop_weights(job.folder, n_kept)


def _has_begun(folder: Path) -> bool:
    """Return whether the sweep has a snapshot of Ray's and a trial. One killed before that starts again.

    Ray also writes a snapshot when it ends before its first trial, and would take the sweep for complete.
    """
    path = folder / _RAY
    is_stored = tune.Tuner.can_restore(str(path)) and any(path.glob(_SNAPSHOTS))
    return is_stored and any(trials_folder(folder).glob("*"))


def _old_tuner(
    path: Path, job: SweepJob, resources: ComputeResources, trainable: Any, n_kept: int, retry_failed: bool
) -> Any:
    try:
        for snapshot in path.glob(_SNAPSHOTS):
            json.loads(snapshot.read_text(encoding="utf-8"))
        tuner = tune.Tuner.restore(str(path), trainable, resume_unfinished=True, resume_errored=retry_failed)
    except Exception as error:  # Damaged bytes can raise almost any error in Ray.
        raise DataError(path, "Ray's state of the sweep is damaged", f"Delete {job.folder} to start again") from error
    # Ray would reuse these values of the first call, but the user may change them.
    inside: Any = tuner._local_tuner
    inside._tune_config.max_concurrent_trials = resources.workers
    for callback in inside.get_run_config().callbacks:
        if isinstance(callback, Progress):
            callback.folder, callback.n_kept = job.folder, n_kept
    return tuner


def _new_tuner(sweep: Sweep, job: SweepJob, resources: ComputeResources, trainable: Any, n_kept: int) -> Any:
    mode = "max" if job.bigger else "min"
    points = sweep.points()
    space = {name: values.domain() for name, values in sweep.space.items()}
    if points is None:
        search, n_trials = make_searcher(sweep.search, space, mode, sweep.seed), sweep.n_samples
    else:
        search, n_trials = BasicVariantGenerator(points_to_evaluate=points), len(points)
    logger.info(f"{n_trials} trials of {sweep.model} on {sweep.dataset} in {job.folder}")
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=make_scheduler(sweep, mode, job.n_epochs),
            num_samples=n_trials,
            max_concurrent_trials=resources.workers,
            metric=SCORE if sweep.scheduler == "fifo" else None,
            mode=mode if sweep.scheduler == "fifo" else None,
        ),
        run_config=tune.RunConfig(
            name=_RAY,
            storage_path=str(job.folder),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            callbacks=[Progress(job.folder, n_trials, n_kept)],
        ),
    )


def _share_dataset(job: SweepJob, wanted: Mapping[str, float]) -> Any:
    """Create the dataset once, in its own process, and let Ray keep it."""
    # The task has the resources of one trial: the first trials wait for it, and Ray needs no room for more.
    task = ray.remote(make_dataset).options(num_cpus=wanted["CPU"], num_gpus=wanted["GPU"], max_retries=0)
    reference = task.remote(job)
    try:
        ray.wait([reference], fetch_local=False)
        ray.get(ray.remote(_is_there).options(num_cpus=0).remote([reference]))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GSERecError):
            raise error.cause from None
        raise GSERecError(f"the dataset could not be prepared: {failure_reason(error.cause)}") from error
    return reference


def _is_there(references: list[Any]) -> None:
    ray.get(references)
