"""One model against others within groups of users, from stored ranks (Figures 2 and 5 of GSERec)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recbole_gserec.analyze.group_borders import Group
from recbole_gserec.benchmark.bootstrap import crossed_means, percentile_intervals
from recbole_gserec.benchmark.comparable import common_seeds, why_not_comparable
from recbole_gserec.benchmark.metrics import Metric
from recbole_gserec.benchmark.model_runs import ModelRuns
from recbole_gserec.benchmark.paired_tests import holm_correction
from recbole_gserec.benchmark.ranks_file import TestRanks
from recbole_gserec.benchmark.significance import TESTS, compare, comparisons_frame
from recbole_gserec.errors import DataError

ALL = "all users"


@dataclass(frozen=True, eq=False)
class GroupResults:
    """A model against others on one dataset, over all users and within groups.

    Attributes:
        dataset: The dataset.
        reference: The model.
        groups: In the order of the tables.
        means: One row for all users and each group, metric and model: ``group``, ``users``, ``metric``, ``model``,
            ``mean`` (over users, and over the model's seeds that it shares with the reference) and ``seeds``.
        comparisons: One row for all users and each group, metric and other model: the columns of
            :class:`recbole_gserec.benchmark.significance.Comparison`, ``group``, ``relative_low`` and
            ``relative_high``. Groups without users have none.
        refused: Other models that are not compared -> why.
        outside: Number of users in no group.
    """

    dataset: str
    reference: str
    groups: tuple[Group, ...]
    means: pd.DataFrame
    comparisons: pd.DataFrame
    refused: dict[str, str]
    outside: int


def compare_groups(
    reference: ModelRuns,
    others: Sequence[ModelRuns],
    metrics: Sequence[Metric],
    groups: Sequence[Group],
    indices: NDArray[np.int64],
) -> GroupResults:
    """Compare a model with others as the benchmark does, over all users and within groups.

    P-values of groups are corrected by Holm's method for all comparisons within groups by a metric. Those of all users
    are corrected for the number of other models.

    Args:
        reference: The model, with a finished run.
        others: The other models.
        metrics: Metrics to compare by.
        groups: The groups.
        indices: ``[n_users]`` index of each user's group, -1 for none, in the order of the reference's users.

    Raises:
        DataError: If the reference's seeds have different users.
    """
    if reason := why_not_comparable(reference, reference):
        folder = Path(next(iter(reference.finished.values())).folder).parent
        raise DataError(folder, reason, "Run the benchmark again")
    refused = {other.model: why_not_comparable(reference, other) for other in others}
    compared = [other for other in others if refused[other.model] is None]
    rows_of = {ALL: np.arange(len(indices))}
    rows_of |= {group.label: np.flatnonzero(indices == index) for index, group in enumerate(groups)}
    means_of, comparisons = [], []
    for name, rows in rows_of.items():
        own, theirs = restrict_to_users(reference, rows), [restrict_to_users(other, rows) for other in compared]
        means_of.append(_means(own, theirs, metrics).assign(group=name, users=len(rows)))
        if len(rows) and theirs:
            found = comparisons_frame(compare(own, theirs, metrics))
            comparisons.append(found.assign(group=name, **_relative_intervals(own, theirs, metrics)))
    table = pd.concat(comparisons, ignore_index=True) if comparisons else pd.DataFrame()
    first = ["dataset", "group", "users", "metric", "model"]
    means = pd.concat(means_of, ignore_index=True).assign(dataset=reference.dataset)
    return GroupResults(
        reference.dataset,
        reference.model,
        tuple(groups),
        means[[*first, "mean", "seeds"]],
        _corrected(table),
        {model: reason for model, reason in refused.items() if reason},
        int((indices < 0).sum()),
    )


def restrict_to_users(cell: ModelRuns, rows: NDArray[np.int64]) -> ModelRuns:
    """Restrict a model's finished runs to some users; ``rows`` are ascending indices in the order of users' ids."""
    taken = pa.array(rows)
    runs = []
    for run in cell.finished.values():
        ranks = run.test_ranks
        own = TestRanks(ranks.users.take(taken), ranks.items.take(taken), ranks.ranks[rows])
        runs.append(replace(run, ranks=own))
    return replace(cell, runs=tuple(runs), set_aside=())


def _means(reference: ModelRuns, others: Sequence[ModelRuns], metrics: Sequence[Metric]) -> pd.DataFrame:
    rows = []
    for metric in metrics:
        for cell in (reference, *others):
            seeds = common_seeds(reference, cell)
            values = cell.per_user(metric, seeds)
            row = {"metric": metric.name, "model": cell.model, "seeds": " ".join(map(str, seeds))}
            rows.append({**row, "mean": float(values.mean()) if len(values) else np.nan})
    return pd.DataFrame(rows)


def _relative_intervals(
    reference: ModelRuns, others: Sequence[ModelRuns], metrics: Sequence[Metric]
) -> dict[str, NDArray[np.float64]]:
    """Return percentiles of the relative improvement in percent over resamples, in the order of comparisons.

    Users are resampled and, with several seeds, each model's seeds too. If a resample gives the other model a mean of
    0, the improvement is unbounded. If both means are 0, it may be any value and counts at each end. The interval is
    NaN if so many resamples are unbounded that it has no bound.
    """
    pairs = [(metric, other, common_seeds(reference, other)) for metric in metrics for other in others]
    ours, theirs = crossed_means(
        [(reference.per_seed(metric, seeds), other.per_seed(metric, seeds)) for metric, other, seeds in pairs]
    )
    improvement = np.full(ours.shape, np.inf)
    np.divide(ours, theirs, out=improvement, where=theirs > 0)
    improvement = 100 * (improvement - 1)
    least = np.where((ours > 0) | (theirs > 0), improvement, -100)
    with np.errstate(invalid="ignore"):  # Not defined between two infinite values.
        low, high = percentile_intervals(least)[:, 0], percentile_intervals(improvement)[:, 1]
    bounded = np.isfinite(low) & np.isfinite(high)
    return {"relative_low": np.where(bounded, low, np.nan), "relative_high": np.where(bounded, high, np.nan)}


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    for metric in table["metric"].unique() if len(table) else ():
        rows = (table["metric"] == metric) & (table["group"] != ALL)
        for test in TESTS:
            table.loc[rows, f"{test}_holm"] = holm_correction(table.loc[rows, test].to_numpy())
    return table
