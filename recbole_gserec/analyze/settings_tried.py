"""Sets of settings and their scores: the trials of a sweep, or the runs of a benchmark with several settings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_gserec.errors import DataError
from recbole_gserec.files import read_json
from recbole_gserec.results import Metric, StoredRun, load_runs, requested_settings
from recbole_gserec.runs import FINISHED, started_at
from recbole_gserec.tune import STOPPED, SWEEP_FILE, WINNER_FILE, read_trials

_NOT_TRIED = ("code_path", "preprocess_store")


@dataclass(frozen=True)
class Tried:
    """Settings and their score.

    Attributes:
        name: Name of the trial or the run.
        settings: The settings that differ between trials.
        score: The metric's value.
    """

    name: str
    settings: Mapping[str, Any]
    score: float


@dataclass(frozen=True)
class TriedSettings:
    """All tried settings.

    Attributes:
        title: Model and dataset.
        metric: Name of the score.
        bigger: Whether a bigger score is better.
        names: Varied settings, in order.
        trials: Trials with a score; at least one.
        remarks: What a reader must know about them.
    """

    title: str
    metric: str
    bigger: bool
    names: tuple[str, ...]
    trials: tuple[Tried, ...]
    remarks: tuple[str, ...] = ()

    @property
    def best(self) -> Tried:
        """The best trial, the first of equals."""
        return max(self.trials, key=lambda trial: trial.score if self.bigger else -trial.score)


def read_sweep(folder: Path) -> TriedSettings:
    """Read the trials of ``gserec tune``; the sweep may be incomplete.

    Args:
        folder: ``<output>/<dataset>/<model>``.

    Raises:
        DataError: If there is no sweep, its file is damaged, or no trial has a score.
    """
    path = Path(folder) / SWEEP_FILE
    advice = "Name a folder <output>/<dataset>/<model> of gserec tune"
    try:
        sweep = read_json(path, advice)
        title, names = f"{sweep['model']} on {sweep['dataset']}", tuple(sweep["space"])
        scheduler = str(sweep["scheduler"])
    except FileNotFoundError as error:
        raise DataError(path, "file not found: there is no sweep here", advice) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(path, "damaged", advice) from error
    records = read_trials(Path(folder))
    trials = [
        Tried(record.trial, record.settings, float(record.best_score))
        for record in records
        if record.best_score is not None
    ]
    if not trials:
        raise DataError(folder, "no trial has a score yet", "Continue the sweep with the same gserec tune command")
    remarks = [f"{len(records) - len(trials)} of {len(records)} trials have no score."]
    remarks = remarks if len(records) > len(trials) else []
    if stopped := sum(record.status == STOPPED for record in records):
        remarks.append(
            f"{stopped} of {len(records)} trials were stopped early by the scheduler; their scores are from that "
            "moment, and lower than their settings could reach."
        )
    if scheduler == "pbt":
        remarks.append("A population changes settings while it trains: values are those at the end of each trial.")
    bigger = records[0].bigger
    return TriedSettings(title, f"{_metric_of(folder)} (validation)", bigger, names, tuple(trials), tuple(remarks))


def _metric_of(folder: Path) -> str:
    try:
        return str(read_json(Path(folder) / WINNER_FILE, "Continue the sweep, which makes it again")["metric"])
    except (FileNotFoundError, KeyError):
        return "score"


def read_benchmark(folder: Path, model: str, dataset: str | None, metric: Metric) -> TriedSettings:
    """Read a benchmark's finished runs of one model with several settings; runs with equal settings are averaged.

    Args:
        folder: Folder of the benchmark.
        model: The model.
        dataset: The dataset; optional if the model has runs on only one.
        metric: Metric of the test ranks.

    Raises:
        DataError: If there are no such runs, or all have the same settings.
    """
    runs = [run for run in load_runs(folder) if run.model == model and run.state == FINISHED]
    datasets = sorted({run.dataset for run in runs})
    if dataset is None and len(datasets) > 1:
        raise DataError(folder, f"has runs of {model} on {', '.join(datasets)}", "Name one of them with --dataset")
    runs = [run for run in runs if run.dataset == (dataset or run.dataset)]
    if not runs:
        raise DataError(folder, f"has no finished runs of {model}{f' on {dataset}' if dataset else ''}", _ADVICE)
    newest = max(runs, key=_time_of)
    same = [run for run in runs if _data_of(run) == _data_of(newest)]
    requested = [requested_settings(run.record) for run in same]
    known = sorted({name for one in requested for name in one if name not in _NOT_TRIED})
    names = tuple(name for name in known if len({_key(_value(run, name)) for run in same}) > 1)
    if not names:
        raise DataError(folder, f"all runs of {model} have the same settings", _ADVICE)
    by_settings: dict[str, dict[int, StoredRun]] = {}
    for run in sorted(same, key=_time_of):
        by_settings.setdefault(_key([_value(run, name) for name in names]), {})[run.seed] = run
    groups = [list(by_seed.values()) for _, by_seed in sorted(by_settings.items())]
    trials = tuple(_average(group, names, metric) for group in groups)
    remarks = []
    if replaced := len(same) - sum(map(len, groups)):
        remarks.append(f"{replaced} runs are left out because newer ones on other codes replace them.")
    if len(same) < len(runs):
        remarks.append(f"{len(runs) - len(same)} runs on other data or candidates than the newest are left out.")
    if len({tuple(sorted(run.seed for run in group)) for group in groups}) > 1:
        remarks.append("Not all settings were run with the same seeds.")
    title = f"{model} on {newest.dataset}"
    return TriedSettings(title, f"{metric.label} (test)", True, names, trials, tuple(remarks))


_ADVICE = "Run gserec benchmark with several values of a setting, or name a sweep by --sweep"


def _time_of(run: StoredRun) -> tuple[Any, ...]:
    return started_at(run.record), run.folder


def _data_of(run: StoredRun) -> str:
    record = run.record
    return json.dumps([record["dataset_digest"], record["candidates"].get("test"), record["candidates"].get("mode")])


def _value(run: StoredRun, name: str) -> Any:
    """Return the value of a setting in a run: the requested value, or the default at that time."""
    requested = run.record["given"]
    return requested[name] if name in requested else run.record["settings"].get(name)


def _average(runs: Sequence[StoredRun], names: Sequence[str], metric: Metric) -> Tried:
    score = float(np.mean([metric.of_ranks(run.test_ranks.ranks).mean() for run in runs]))
    return Tried(runs[0].folder, {name: _value(runs[0], name) for name in names}, score)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
