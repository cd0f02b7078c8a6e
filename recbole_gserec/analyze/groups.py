"""``gserec analyze groups``: which users gain, those who search much or little (Figure 2 of GSERec)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_gserec.analyze.group_results import (
    ALL,
    KINDS,
    SEARCHES,
    Group,
    GroupResults,
    check_files,
    compare_groups,
    draw_groups,
    group_indices,
    quantile_groups,
    training_counts,
)
from recbole_gserec.errors import DataError, SettingError, nearest
from recbole_gserec.report import escape_markdown, interval, number, text_table, write_csv, write_figure, write_text
from recbole_gserec.results import (
    CORRECTIONS,
    Metric,
    ModelRuns,
    choose_runs,
    describe_mixed_code,
    format_p_value,
    load_runs,
    recorded_mode,
    refusals_markdown,
)
from recbole_gserec.settings import in_paper_order, printed_name

HOW_TO_READ = (
    "Improvement: the reference's mean over users minus the other's, also in percent of the other's. Each user's "
    "values are averaged over the seeds that both models have, and paired by user. Intervals contain 95 % of 10,000 "
    "resamples of the group's users and, with several seeds, of each model's seeds, drawn with a fixed seed. – "
    "(hatched in the figure): in too many resamples the other model has a mean of 0, so the relative improvement has "
    "no bound. Tests are two-sided. The two-way test asks about other users and other trainings, and is the one that "
    "decides. It needs several seeds; without it, random differences between trainings are not counted. P-values are "
    "corrected by Holm's method and by that of Benjamini and Hochberg (BH): within groups for all groups and models by "
    "a metric, among all users for all models. "
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
    *("two-way p", "Holm", "BH"),
    *("t-test p", "Holm", "BH"),
    *("Wilcoxon p", "Holm", "BH"),
)
_ENDS = ("", *(f"_{name}" for name in CORRECTIONS))
_TESTS = tuple(f"{test}{end}" for test in ("two_way_p", "t_p", "wilcoxon_p") for end in _ENDS)


def group_means_markdown(results: GroupResults, metric: Metric) -> str:
    """Write the mean of each model in each group."""
    found = results.means[results.means["metric"] == metric.name]
    models = list(dict.fromkeys(found["model"]))
    rows = [["group", "users", *map(printed_name, models)]]
    for group, own in found.groupby("group", sort=False):
        by_model = own.set_index("model")["mean"]
        rows.append([str(group), f"{own['users'].iloc[0]:,}", *(number(by_model[model]) for model in models)])
    return text_table(rows)


def group_comparisons_markdown(results: GroupResults, metric: Metric) -> str:
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


def group_refusals_markdown(results: GroupResults) -> list[str]:
    """Write a line for each reason why models are not compared, and one for users in no group."""
    lines = refusals_markdown(results.refused)
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


logger = getLogger(__name__)

QUANTILES = 4


@dataclass(frozen=True)
class Grouping:
    """How to group users.

    Attributes:
        by: ``searches`` or ``interactions``, counted in the training part.
        groups: The groups; None makes ``n_quantiles`` groups with about equally many users.
        n_quantiles: Number of such groups.

    Raises:
        SettingError: For another kind of events.
    """

    by: str = SEARCHES
    groups: tuple[Group, ...] | None = None
    n_quantiles: int = QUANTILES

    def __post_init__(self) -> None:
        # Checked before runs are made.
        if self.by not in KINDS:
            raise SettingError(f"--by is '{self.by}'; it must be {' or '.join(KINDS)}")


def analyze_groups(
    runs: Path,
    model: str,
    *,
    data_path: Path,
    baselines: Sequence[str] = (),
    datasets: Sequence[str] = (),
    metrics: Sequence[Metric] = (Metric("ndcg", 5),),
    grouping: Grouping | None = None,
    output: Path | None = None,
) -> Path:
    """Compare a model with others within groups of users, from the runs of a benchmark.

    Args:
        runs: Folder of the benchmark.
        model: The model.
        data_path: Parent folder of all datasets.
        baselines: The other models; by default all with finished runs.
        datasets: By default all on which the model has finished runs.
        metrics: Metrics to compare by; the first is drawn.
        grouping: How to group users.
        output: Folder of the files; ``<runs>/analyze/groups`` by default.

    Returns:
        The page ``groups.md``.

    Raises:
        DataError: If there are no such runs, the runs used other files of the dataset, or a requested model cannot be
            compared.
        SettingError: For a model or dataset without runs.
    """
    grouping = grouping or Grouping()
    cells = choose_runs(load_runs(runs))
    found = []
    for dataset in _datasets(cells, model, datasets, runs):
        reference, others = cells[dataset, model], _others(cells, dataset, model, baselines, runs)
        results = compare_models(reference, others, metrics, grouping, data_path)
        for name, reason in results.refused.items():
            if name in baselines:
                raise DataError(Path(runs) / "runs" / dataset / name, f"not comparable with {model}: {reason}", _AGAIN)
        if not len(results.comparisons):
            raise DataError(Path(runs) / "runs" / dataset, f"no model to compare {model} with", _AGAIN)
        parts = results_page(results, reference, metrics, grouping.by)
        compared = [reference, *(other for other in others if other.model not in results.refused)]
        if mixed := describe_mixed_code(dataset, compared):
            parts.append(escape_markdown(mixed))
        found.append((results, parts))
    folder = Path(output) if output else Path(runs) / "analyze" / "groups"
    page = [f"# {escape_markdown(printed_name(model))} by group of users"]
    for results, parts in found:
        name = "groups" if len(found) == 1 else f"groups-{results.dataset}"
        write_figure(folder, name, draw_groups(results, metrics[0], grouping.by))
        page += [f"## {escape_markdown(results.dataset)}", *parts, f"![Improvement by group]({name}.png)"]
    write_csv(folder / "groups.csv", pd.concat([group_frame(results) for results, _ in found]))
    write_text(folder / "groups.md", "\n\n".join([*page, HOW_TO_READ]) + "\n")
    return folder / "groups.md"


_AGAIN = "Run the benchmark with both models on the same files and candidates"


def compare_models(
    reference: ModelRuns, others: Sequence[ModelRuns], metrics: Sequence[Metric], grouping: Grouping, data_path: Path
) -> GroupResults:
    """Group the users of a model's finished runs and compare it with others.

    Raises:
        DataError: If the dataset's files have changed since the run.
    """
    run = next(iter(reference.finished.values()))
    check_files(reference.dataset, data_path, run.record["dataset_digest"])
    logger.info(f"{reference.dataset}: counting {grouping.by} of the training part")
    counts = training_counts(reference.dataset, data_path, run.record["given"], grouping.by)
    indices = counts.index.get_indexer(run.test_ranks.users.to_pandas())
    if (indices < 0).any():
        user = run.test_ranks.users[int(np.flatnonzero(indices < 0)[0])]
        raise DataError(run.folder, f"its user '{user}' is not in the dataset's files", "Run the benchmark again")
    numbers = counts.to_numpy()[indices]
    groups = grouping.groups or quantile_groups(numbers, grouping.n_quantiles)
    compared = ", ".join(cell.model for cell in others)
    logger.info(f"{reference.dataset}: comparing {reference.model} with {compared} in {len(groups)} groups")
    return compare_groups(reference, others, metrics, groups, group_indices(numbers, groups))


def results_page(results: GroupResults, reference: ModelRuns, metrics: Sequence[Metric], by: str) -> list[str]:
    """Write the results on one dataset as Markdown."""
    run = next(iter(reference.finished.values()))
    seeds = ", ".join(map(str, reference.finished))
    text = (
        f"{printed_name(results.reference)}, seeds {seeds}; {len(run.test_ranks.users):,} users by their number of "
        f"training {by}: before each user's validation target. Test targets, {recorded_mode(run.record)}."
    )
    parts = [escape_markdown(text)]
    for metric in metrics:
        parts += [f"### {metric.label}: means", group_means_markdown(results, metric)]
        title = f"{metric.label}: improvement of {printed_name(results.reference)}"
        parts += [f"### {escape_markdown(title)}", group_comparisons_markdown(results, metric)]
    return [*parts, *group_refusals_markdown(results)]


def _datasets(cells: Mapping[tuple[str, str], ModelRuns], model: str, wanted: Sequence[str], runs: Path) -> list[str]:
    there = [dataset for dataset, name in cells if name == model and cells[dataset, name].finished]
    if not there:
        known = sorted({name for (_, name), cell in cells.items() if cell.finished})
        near = nearest(model, known)
        hint = f"did you mean '{near}'?" if near else f"there are finished runs of {', '.join(known) or 'none'}"
        raise SettingError(f"{runs} has no finished run of --model '{model}': {hint}")
    for dataset in wanted:
        if dataset not in there:
            raise SettingError(f"{runs} has no finished run of {model} on --dataset '{dataset}'")
    return list(dict.fromkeys(wanted)) or there


def _others(
    cells: Mapping[tuple[str, str], ModelRuns], dataset: str, model: str, baselines: Sequence[str], runs: Path
) -> list[ModelRuns]:
    for name in baselines:
        if name == model:
            raise SettingError(f"--baseline is '{name}', which is the model itself")
        if (dataset, name) not in cells or not cells[dataset, name].finished:
            raise SettingError(f"{runs} has no finished run of --baseline '{name}' on {dataset}")
    every = [name for own, name in cells if own == dataset and name != model and cells[own, name].finished]
    return [cells[dataset, name] for name in list(dict.fromkeys(baselines)) or in_paper_order(every)]
