"""One model against others within groups of users, from stored ranks (Figures 2 and 5 of GSERec)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recbole_gserec.data import SETTINGS, SearchDataset
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.figures import BLUE, ORANGE, POINTS, draw_tick_lines, new_panels, plain_text
from recbole_gserec.files import has_no_rows
from recbole_gserec.results import (
    CORRECTIONS,
    TESTS,
    Metric,
    ModelRuns,
    common_seeds,
    compare,
    comparisons_frame,
    crossed_means,
    percentile_intervals,
    why_not_comparable,
)
from recbole_gserec.runs import TestRanks, dataset_digest
from recbole_gserec.settings import make_config, printed_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GROUP = re.compile(r"([0-9]{1,9})(-([0-9]{1,9})?)?")


class Group(NamedTuple):
    """Users whose number lies between two bounds.

    Attributes:
        fewest: The lowest number.
        most: The highest number; None for no bound.
    """

    fewest: int
    most: int | None

    @property
    def label(self) -> str:
        """The label, as in the statistics of datasets: ``0``, ``1-5``, ``>5``."""
        if self.most is None:
            return f">{self.fewest - 1}" if self.fewest else "all"
        return f"{self.fewest}" if self.fewest == self.most else f"{self.fewest}-{self.most}"


def parse_groups(text: str) -> tuple[Group, ...]:
    """Parse groups from a text such as ``0,1-5,6-20,21-``; the last may be open.

    Raises:
        SettingError: If the form is wrong, or groups are not ascending or overlap.
    """
    groups: list[Group] = []
    for part in text.split(","):
        match = _GROUP.fullmatch("".join(part.split()))
        if not match:
            raise SettingError(f"--groups has '{part.strip()}'; a group is '0', '1-5' or '21-', with commas between")
        fewest = int(match[1])
        most = fewest if not match[2] else int(match[3]) if match[3] else None
        if most is not None and most < fewest:
            raise SettingError(f"--groups has '{part.strip()}', which ends before it begins")
        if groups and (groups[-1].most is None or groups[-1].most >= fewest):
            raise SettingError(
                f"--groups: '{part.strip()}' does not come after '{groups[-1].label}'; give them in ascending order"
            )
        groups.append(Group(fewest, most))
    return tuple(groups)


def quantile_groups(numbers: NDArray[np.int64], n_groups: int) -> tuple[Group, ...]:
    """Make groups with about equally many users. Users with equal numbers stay together, so there may be fewer groups.

    Args:
        numbers: ``[n_users]``, at least one.
        n_groups: Number of groups.

    Returns:
        Groups without gaps from 0 on; none of them is empty.
    """
    shares = np.arange(1, n_groups) / n_groups
    borders = np.unique(np.quantile(numbers, shares, method="inverted_cdf")) if n_groups > 1 else np.zeros(0)
    ends = [int(end) for end in borders if end < numbers.max()]
    starts = [0, *(end + 1 for end in ends)]
    return tuple(Group(start, end) for start, end in zip(starts, [*ends, None], strict=True))


def group_indices(numbers: NDArray[np.int64], groups: Sequence[Group]) -> NDArray[np.int64]:
    """Return the index of each user's group, ``[n_users]``; -1 for users without a group."""
    starts = np.array([group.fewest for group in groups])
    ends = np.array([np.iinfo(np.int64).max if group.most is None else group.most for group in groups])
    indices = np.searchsorted(starts, numbers, side="right") - 1
    return np.where((indices >= 0) & (numbers <= ends[indices]), indices, -1)


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
            :class:`recbole_gserec.results.significance.Comparison`, ``group``, ``relative_low`` and
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

    P-values of groups are corrected for all comparisons within groups by a metric. Those of all users
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
            for suffix, correct in CORRECTIONS.items():
                table.loc[rows, f"{test}_{suffix}"] = correct(table.loc[rows, test].to_numpy())
    return table


SEARCHES, INTERACTIONS = "searches", "interactions"
KINDS = (SEARCHES, INTERACTIONS)
# Further settings that decide which rows are read and where the training part ends.
_OF_FILES = (*SETTINGS, *"field_separator seq_separator encoding load_col unload_col eval_args eval_task".split())


def check_files(dataset: str, data_path: Path, digest: str) -> None:
    """Refuse a dataset whose files changed since the runs were made.

    Args:
        dataset: Name of the dataset.
        data_path: Parent folder of all datasets.
        digest: Digest recorded in the runs; see :mod:`recbole_gserec.runs.prepare`.

    Raises:
        DataError: If the files differ or are missing.
    """
    folder = Path(data_path) / dataset
    found = dataset_digest({"benchmark_filename": None, "data_path": folder, "dataset": dataset})
    if found != digest:
        raise DataError(
            folder,
            "its files have changed since the runs were made",
            "Name the folder of the original files with --data-path",
        )


def training_counts(dataset: str, data_path: Path, requested: Mapping[str, Any], kind: str) -> pd.Series:
    """Count each user's events before the user's first evaluation target.

    Args:
        dataset: Name of the dataset.
        data_path: Parent folder of all datasets.
        requested: Settings of a run; only those that say how files are read and split are used.
        kind: ``searches`` or ``interactions``.

    Returns:
        Number of events by original id of the user.

    Raises:
        DataError: If the files are malformed, or there are no searches to count.
    """
    search_file = Path(data_path) / dataset / f"{dataset}.search"
    has_searches = search_file.is_file() and not has_no_rows(search_file, requested.get("encoding") or "utf-8")
    if kind == SEARCHES and not has_searches:
        raise DataError(search_file, "there are no searches", "Group the users by interactions: --by interactions")
    events, users = _events_of(dataset, data_path, requested, has_searches)
    starts, ends = (
        (events.search_offsets, events.train_search_ends)
        if kind == SEARCHES
        else (events.item_offsets, events.train_ends)
    )
    counts = (ends - starts[:-1]).numpy()
    return pd.Series(counts[1:], index=users[1:].astype(object), name=kind)


def _events_of(dataset: str, data_path: Path, requested: Mapping[str, Any], has_searches: bool) -> tuple[Any, Any]:
    settings = {name: requested[name] for name in _OF_FILES if name in requested}
    # Only a model that ranks searches can evaluate them.
    model = "JSR" if requested.get("eval_task") == "search" else "GSERec"
    config = make_config(model, dataset, settings, {"data_path": str(data_path), "use_gpu": False})
    # Queries and codes are not counted.
    config.final_config_dict["additional_feat_suffix"] = ["search"] if has_searches else []
    built = SearchDataset(config)
    built.build()
    return built.events, built.field2id_token[built.uid_field]


_PANEL_INCHES = 1.5
_FEW_GROUPS = 5


def draw_groups(results: GroupResults, metric: Metric, by: str) -> Figure:
    """Draw bars with 95 % intervals: blue above 0, orange below; hatched if there is no interval.

    Args:
        results: The comparisons, with at least one other model.
        metric: The metric to show.
        by: What users are grouped by.
    """
    found = results.comparisons[results.comparisons["metric"] == metric.name]
    models = list(dict.fromkeys(found["model"]))
    # The labels of many groups need the width of the column.
    figure, panels = new_panels(len(models), _PANEL_INCHES, 2 if len(results.groups) <= _FEW_GROUPS else 1)
    users = results.means.drop_duplicates("group").set_index("group")["users"]
    labels = [f"{group.label}\n({users[group.label]:,})" for group in results.groups]
    for panel, model in zip(panels, models, strict=True):
        own = found[(found["model"] == model) & (found["group"] != ALL)].set_index("group")
        _draw(panel, own.reindex([group.label for group in results.groups]))
        panel.set_xticks(range(len(labels)), labels)
        panel.set_title(plain_text(f"{printed_name(results.reference)} vs. {printed_name(model)}"), fontsize=POINTS)
    figure.supylabel(f"gain in {metric.label} (%)", fontsize=POINTS)
    figure.supxlabel(f"training {by} of a user (users)", fontsize=POINTS)
    return figure


def _draw(panel: Axes, rows: pd.DataFrame) -> None:
    values = rows["relative_percent"].to_numpy(dtype=float)
    ends = rows[["relative_low", "relative_high"]].to_numpy(dtype=float)
    indices = np.arange(len(rows))
    known = ~np.isnan(ends).any(axis=1)
    hatches = np.where(known, "", "/////").tolist()
    colours = np.where(values < 0, ORANGE, BLUE).tolist()
    heights = np.nan_to_num(values)
    panel.bar(indices, heights, color=colours, hatch=hatches, width=0.65, linewidth=0, edgecolor="white")
    lengths = np.maximum((ends[known] - values[known, None]) * [-1, 1], 0).T
    panel.errorbar(indices[known], values[known], yerr=lengths, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)
    panel.axhline(0, color="black", linewidth=0.6)
    panel.tick_params(axis="x", length=0)
    draw_tick_lines(panel)
