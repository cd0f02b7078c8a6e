"""Results within groups of users as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from recbole_gserec.analyze.group_borders import Group
from recbole_gserec.analyze.group_results import ALL, GroupResults
from recbole_gserec.analyze.table_cells import interval, number, text_table
from recbole_gserec.benchmark import significance_table
from recbole_gserec.benchmark.metrics import Metric
from recbole_gserec.benchmark.model_names import printed_name
from recbole_gserec.benchmark.significance_table import format_p_value

HOW_TO_READ = (
    "Improvement: the reference's mean over users minus the other's, also in percent of the other's. Each user's "
    "values are averaged over the seeds that both models have, and paired by user. Intervals contain 95 % of 10,000 "
    "resamples of the group's users and, with several seeds, of each model's seeds, drawn with a fixed seed. – "
    "(hatched in the figure): in too many resamples the other model has a mean of 0, so the relative improvement has "
    "no bound. Tests are two-sided. The two-way test asks about other users and other trainings, and is the one that "
    "decides. It needs several seeds; without it, random differences between trainings are not counted. P-values are "
    "corrected by Holm's method: within groups for all groups and models by a metric, among all users for all models. "
    "Each group is tested by itself. If only one of two groups has a significant improvement, the two improvements "
    "need not differ: compare the intervals."
)
_HEAD = (
    "other",
    "group",
    "improvement",
    "95 % interval",
    "relative",
    "95 % interval",
    "two-way p",
    "corrected",
    "t-test p",
    "corrected",
    "Wilcoxon p",
    "corrected",
)
_TESTS = ("two_way_p", "two_way_p_holm", "t_p", "t_p_holm", "wilcoxon_p", "wilcoxon_p_holm")


def means_markdown(results: GroupResults, metric: Metric) -> str:
    """Write the mean of each model in each group."""
    found = results.means[results.means["metric"] == metric.name]
    models = list(dict.fromkeys(found["model"]))
    rows = [["group", "users", *map(printed_name, models)]]
    for group, own in found.groupby("group", sort=False):
        by_model = own.set_index("model")["mean"]
        rows.append([str(group), f"{own['users'].iloc[0]:,}", *(number(by_model[model]) for model in models)])
    return text_table(rows)


def comparisons_markdown(results: GroupResults, metric: Metric) -> str:
    """Write the comparisons of the reference with each other model, in each group."""
    found = results.comparisons[results.comparisons["metric"] == metric.name]
    rows: list[Sequence[str]] = [_HEAD]
    row: Any
    order = {model: index for index, model in enumerate(found["model"].unique())}
    for row in found.sort_values("model", key=lambda models: models.map(order), kind="stable").itertuples():
        rows.append(
            [
                printed_name(row.model),
                row.group,
                f"{row.difference:+.4f}",
                interval(*((row.two_way_low, row.two_way_high) if " " in row.seeds else (row.low, row.high))),
                number(row.relative_percent, "+.2f") + (" %" if row.relative_percent == row.relative_percent else ""),
                interval(row.relative_low, row.relative_high, "+.2f", " %"),
                *(format_p_value(getattr(row, test)) for test in _TESTS),
            ]
        )
    return text_table(rows)


def refusals_markdown(results: GroupResults) -> list[str]:
    """Write a line for each reason why models are not compared, and one for users in no group."""
    lines = significance_table.refusals_markdown(results.refused)
    if results.outside:
        lines.append(f"{results.outside:,} users are in none of the groups; they count among all users.")
    return lines


def group_frame(results: GroupResults) -> pd.DataFrame:
    """Make one row for each group, metric and model; columns of comparisons are empty for the reference."""
    bounds = {ALL: Group(0, None), **{group.label: group for group in results.groups}}
    most = [bounds[name].most for name in results.means["group"]]
    frame = results.means.assign(fewest=[bounds[name].fewest for name in results.means["group"]])
    frame = frame.assign(most=pd.array(most, dtype="Int64"), reference=results.reference)
    columns = ["difference", "low", "high", "relative_percent", "relative_low", "relative_high"]
    columns += ["two_way_low", "two_way_high", "n_nonzero", *_TESTS]
    if len(results.comparisons):
        own = results.comparisons[["group", "metric", "model", *columns]].astype({"n_nonzero": "Int64"})
        frame = frame.merge(own, how="left", on=["group", "metric", "model"])
    first = ["dataset", "group", "fewest", "most", "users", "metric", "reference", "model", "mean", "seeds"]
    return frame.reindex(columns=[*first, *columns])
