"""A whole sweep (trials, winner, report), and sweeps of equal size for several models."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from recbole_gserec.errors import SettingError, not_none
from recbole_gserec.plugin import next_steps
from recbole_gserec.runs import Request, plan_entries, refuse_links
from recbole_gserec.settings import tune_file
from recbole_gserec.tune.report import write_sweep_report
from recbole_gserec.tune.request import TuneRequest, check_names, plan
from recbole_gserec.tune.space import default_space
from recbole_gserec.tune.sweep import (
    CHECKPOINT_FILE,
    ComputeResources,
    Sweep,
    TrialRecord,
    damaged_trials,
    failed_trials,
    read_trials,
    trial_folder,
    trials_folder,
)
from recbole_gserec.tune.trial_training import SweepJob, trial_settings
from recbole_gserec.tune.tuner import run_trials
from recbole_gserec.tune.winner import choose_winner, read_winner, write_best, write_winner
from recbole_gserec.tune.winner_test import finish_winner

logger = logging.getLogger(__name__)

_LOCK_FILE = ".lock"


class SweepResult(NamedTuple):
    """The result of a sweep.

    Attributes:
        found: Tried settings of the winner.
        valid: Metric -> value of the winner on the validation part.
        test: The same on the test part, if it was requested.
        best_file: File with the settings.
        report: Page about the sweep.
        n_failed: Number of failed trials.
    """

    found: dict[str, Any]
    valid: dict[str, float]
    test: dict[str, float]
    best_file: Path
    report: Path
    n_failed: int


def run_sweep(
    request: TuneRequest, resources: ComputeResources, *, n_kept: int = 3, retry_failed: bool = True
) -> SweepResult:
    """Find good settings by the validation part. The test part is evaluated only once, for the winner.

    Trials are stored while they run, so the same call resumes an interrupted sweep.

    Args:
        request: What to tune.
        resources: Resources of the trials.
        n_kept: Number of trials whose weights are kept.
        retry_failed: Whether to repeat failed trials.

    Raises:
        GSERecError: If the request cannot be run, or no trial succeeds.
    """
    check_names(request)
    folder = request.folder
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder, trials_folder(folder)):
        refuse_links(path)
    try:
        with FileLock(folder / _LOCK_FILE, timeout=0):
            return _search(request, resources, max(1, n_kept), retry_failed)
    except Timeout as error:
        raise SettingError(f"{folder} is in use: another process is making this sweep") from error


def _search(request: TuneRequest, resources: ComputeResources, n_kept: int, retry_failed: bool) -> SweepResult:
    sweep, job = plan(request)
    folder = job.folder
    is_new = not sweep.recall(folder)
    winner = None if is_new else _known_winner(folder, sweep, retry_failed)
    if winner is None:
        run_trials(sweep, job, resources, n_kept=n_kept, retry_failed=retry_failed, is_new=is_new)
        winner = _make_winner(folder, sweep, job, resources)
    for path in damaged_trials(folder):
        logger.warning(f"{path}: its record is missing or damaged; the trial is left out")
    requested = trial_settings(job, winner["settings"])
    found = {name: value for name, value in requested.items() if name not in job.requested and name != "seed"}
    checkpoint = trial_folder(folder, winner["trial"]) / CHECKPOINT_FILE
    if checkpoint.is_file():
        logger.info(next_steps(checkpoint, sweep.model))
    if job.data_path != Path("dataset").absolute():
        requested["data_path"] = str(job.data_path)
    return SweepResult(
        found,
        winner["valid"],
        winner["test"],
        write_best(folder, sweep, requested, winner),
        write_sweep_report(folder, sweep, winner, winner["metric"]),
        len(failed_trials(folder)),
    )


def _known_winner(folder: Path, sweep: Sweep, retry_failed: bool) -> dict[str, Any] | None:
    """Return the winner of a completed sweep."""
    trials = read_trials(folder)
    if not trials or (retry_failed and failed_trials(folder)):
        return None
    return read_winner(folder, choose_winner(folder, sweep))


def _make_winner(folder: Path, sweep: Sweep, job: SweepJob, resources: ComputeResources) -> dict[str, Any]:
    record = choose_winner(folder, sweep)
    known = read_winner(folder, record)
    if known is not None:
        return known
    logger.info(f"The winner is trial {record.trial}; it is evaluated on the test part")
    results = finish_winner(job, resources, record.trial)
    finished = not_none(TrialRecord.read(trial_folder(folder, record.trial)))
    winner = {
        "trial": record.trial,
        "settings": record.settings,
        "score": finished.best_score,
        **results,
    }
    write_winner(folder, winner)
    return winner


def tune_models(request: Request, output: Path, n_trials: int, resources: ComputeResources) -> Request:
    """Tune every model on every dataset by its validation part; return the request with the settings found.

    Requested settings are not tried. A model keeps its settings if it has no search space, or if all settings of the
    space are requested.

    Args:
        request: The comparison to make. The first seed is used for all trials.
        output: Folder of the benchmark; sweeps are stored in its folder ``tune``.
        n_trials: Number of trials for a model on a dataset, or all combinations if there are fewer.
        resources: Resources of the trials.

    Raises:
        GSERecError: If a sweep cannot be made, or none of its trials succeeds.
    """
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for entry in plan_entries(request):
        if tune_file(entry.model) is None:
            logger.warning(f"{entry.model} has no search space and is not tuned: its settings are the defaults")
            continue
        if default_space(entry.model).keys() <= entry.requested.keys():
            logger.info(
                f"{entry.model} on {entry.dataset} is not tuned: all settings of its search space already have values"
            )
            continue
        result = run_sweep(
            TuneRequest(
                entry.model,
                entry.dataset,
                request.data_path,
                output / "tune",
                settings={**entry.requested, **entry.machine},
                seed=request.seeds[0],
                n_samples=n_trials,
            ),
            resources,
        )
        found[entry.model, entry.dataset] = result.found
        settings = ", ".join(f"{name}={value}" for name, value in result.found.items())
        logger.info(f"{entry.model} on {entry.dataset}: {settings}")

    def settings_of(model: str, dataset: str) -> Mapping[str, Any]:
        return {**found.get((model, dataset), {}), **request.settings_of(model, dataset)}

    return replace(request, settings_of=settings_of)
