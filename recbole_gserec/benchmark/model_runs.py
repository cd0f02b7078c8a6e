"""The runs of one model on one dataset that are part of a report. All have the same settings."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_gserec.benchmark.checked_record import started_at
from recbole_gserec.benchmark.metrics import Metric
from recbole_gserec.benchmark.results import StoredRun
from recbole_gserec.benchmark.runs import FINISHED


@dataclass(frozen=True, eq=False)
class ModelRuns:
    """The runs of one model on one dataset.

    Attributes:
        dataset: The dataset.
        model: The model.
        runs: At most one run per seed, sorted by seed. The finished ones have the same settings and data.
        set_aside: Runs with other settings or data, and runs replaced by later ones.
    """

    dataset: str
    model: str
    runs: tuple[StoredRun, ...] = ()
    set_aside: tuple[StoredRun, ...] = ()

    @property
    def finished(self) -> dict[int, StoredRun]:
        """Finished runs by seed."""
        return {run.seed: run for run in self.runs if run.state == FINISHED}

    def means(self, metric: Metric) -> NDArray[np.float64]:
        """Compute the mean over users of each finished run, ``[n_seeds]``."""
        return np.array([metric.of_ranks(run.test_ranks.ranks).mean() for run in self.finished.values()])

    def per_seed(self, metric: Metric, seeds: Collection[int]) -> NDArray[np.float64]:
        """Return each user's value in the finished runs of these seeds, ascending; ``[n_seeds, n_users]``."""
        runs = self.finished
        return np.stack([metric.of_ranks(runs[seed].test_ranks.ranks) for seed in sorted(seeds)])

    def per_user(self, metric: Metric, seeds: Collection[int]) -> NDArray[np.float64]:
        """Return each user's mean over the finished runs of these seeds; ``[n_users]``. Users must be equal."""
        runs = self.finished
        first, *others = (metric.of_ranks(runs[seed].test_ranks.ranks) for seed in sorted(seeds))
        return sum(others, first) / len(seeds)


def choose_runs(runs: Iterable[StoredRun]) -> dict[tuple[str, str], ModelRuns]:
    """Choose the runs to report.

    A model may have runs with several settings, or from before and after a change of its dataset or its users' codes. A
    mean over such runs would be meaningless. Therefore only runs with the settings and data of the newest run count.

    Args:
        runs: All stored runs.

    Returns:
        The chosen runs by dataset and model.
    """
    cells: dict[tuple[str, str], list[StoredRun]] = {}
    for run in runs:
        cells.setdefault((run.dataset, run.model), []).append(run)
    return {cell: _choose(*cell, cell_runs) for cell, cell_runs in sorted(cells.items())}


def requested_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run was given, without the seed."""
    return {name: value for name, value in record["given"].items() if name != "seed"}


def _choose(dataset: str, model: str, runs: list[StoredRun]) -> ModelRuns:
    # By time. Runs with equal times, for example copied by hand, are sorted by name.
    known = sorted((run for run in runs if run.record), key=lambda run: (started_at(run.record), run.folder))
    chosen: dict[int, StoredRun] = {}
    if known:
        wanted = _made_from(known[-1])
        chosen = {run.seed: run for run in known if _made_from(run) == wanted}
    # The settings of these runs are unknown.
    for run in sorted((run for run in runs if not run.record), key=lambda run: run.folder):
        chosen.setdefault(run.seed, run)
    kept = tuple(chosen[seed] for seed in sorted(chosen))
    return ModelRuns(dataset, model, kept, tuple(run for run in runs if run not in kept))


def _made_from(run: StoredRun) -> str:
    record = run.record
    return json.dumps([record["dataset_digest"], record.get("derived"), requested_settings(record)], sort_keys=True)
