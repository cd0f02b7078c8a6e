"""Tests of the reference model against every other, and their tables.

They ask whether a difference is larger than chance: of which users there are, and of how each training went.

"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd

from recbole_gserec.report import NO_VALUE, escape_markdown, markdown_table
from recbole_gserec.results.bootstrap import Pair, bootstrap_intervals, crossed_intervals
from recbole_gserec.results.load import ModelRuns, common_seeds, why_not_comparable
from recbole_gserec.results.metrics import Metric, parse_metric
from recbole_gserec.results.paired_tests import CORRECTIONS, differences, t_test, two_way_test, wilcoxon_test
from recbole_gserec.settings import printed_name

SIGNIFICANT = 0.05
TESTS = ("t_p", "wilcoxon_p", "two_way_p")


@dataclass(frozen=True)
class Comparison:
    """The reference against one model by one metric, over the seeds that both have. Numbers are NaN if refused.

    Attributes:
        dataset: The dataset.
        metric: The metric's name.
        reference: The reference model.
        model: The other model.
        refused: Why they are not compared; None if they are.
        seeds: Seeds over which each user's values are averaged.
        n_users: Number of users.
        n_nonzero: Number of users for whom the two models differ.
        reference_mean: Mean over users.
        model_mean: Mean over users.
        difference: Mean of the reference minus mean of the model.
        low: Lower bound of the 95 % interval of the difference, by the bootstrap over users.
        high: Upper bound of the same interval.
        two_way_low: Lower bound by the bootstrap over users and each model's seeds; NaN with one seed.
        two_way_high: Upper bound of the same interval.
        relative_percent: The difference in percent of the model's mean; NaN if that mean is 0.
        t_p: p-value of the paired t-test.
        t_p_holm: The same, corrected by Holm's method for the number of models compared on this dataset by this metric.
        t_p_bh: The same, corrected by the method of Benjamini and Hochberg.
        wilcoxon_p: p-value of Wilcoxon's signed-rank test.
        wilcoxon_p_holm: The same, corrected in the same way.
        wilcoxon_p_bh: Likewise.
        two_way_p: p-value of the test over users and seeds; NaN with one seed.
        two_way_p_holm: The same, corrected for the number of models with several seeds.
        two_way_p_bh: Likewise.
        beyond_chance: Whether the difference is significant by the test that decides, corrected by Holm's method. This
            is the test over users and seeds or, if no model has several seeds, the paired t-test. If only some models
            have several seeds, the others are never beyond chance, because the random differences of their training
            cannot be estimated.
    """

    dataset: str
    metric: str
    reference: str
    model: str
    refused: str | None = None
    seeds: tuple[int, ...] = ()
    n_users: int = 0
    n_nonzero: int = 0
    reference_mean: float = np.nan
    model_mean: float = np.nan
    difference: float = np.nan
    low: float = np.nan
    high: float = np.nan
    two_way_low: float = np.nan
    two_way_high: float = np.nan
    relative_percent: float = np.nan
    t_p: float = np.nan
    t_p_holm: float = np.nan
    t_p_bh: float = np.nan
    wilcoxon_p: float = np.nan
    wilcoxon_p_holm: float = np.nan
    wilcoxon_p_bh: float = np.nan
    two_way_p: float = np.nan
    two_way_p_holm: float = np.nan
    two_way_p_bh: float = np.nan
    beyond_chance: bool = False

    @property
    def counts_training(self) -> bool:
        """Whether the test accounts for random differences of training, which takes several seeds."""
        return len(self.seeds) > 1

    @property
    def is_better(self) -> bool:
        """Whether the reference is significantly better."""
        return self.difference > 0 and self.beyond_chance


def compare(reference: ModelRuns, others: Sequence[ModelRuns], metrics: Sequence[Metric]) -> list[Comparison]:
    """Compare a model with others on one dataset.

    Args:
        reference: The reference model.
        others: The other models; each is compared only with the reference.
        metrics: Metrics to compare by.

    Returns:
        One comparison for each metric and other model, in this order.
    """
    return compare_pairs([(reference, other) for other in others], metrics)


def compare_pairs(pairs: Sequence[tuple[ModelRuns, ModelRuns]], metrics: Sequence[Metric]) -> list[Comparison]:
    """Compare the first of each pair with the second, on one dataset.

    Args:
        pairs: Those that can be compared have the same users. The second ones are of different models.
        metrics: Metrics to compare by.

    Returns:
        One comparison for each metric and pair, in this order.
    """
    reasons = {other.model: why_not_comparable(reference, other) for reference, other in pairs}
    results: dict[tuple[str, str], dict] = {}
    columns: dict[tuple[str, str], np.ndarray] = {}
    values: dict[tuple[str, str], Pair] = {}
    for metric in metrics:
        ours_of: dict[tuple[int, tuple[int, ...]], np.ndarray] = {}
        for reference, other in pairs:
            key = (metric.name, other.model)
            names = {"dataset": reference.dataset, "metric": metric.name, "reference": reference.model}
            results[key] = {**names, "model": other.model, "refused": reasons[other.model]}
            if reasons[other.model] is None:
                seeds = common_seeds(reference, other)
                columns[key], tested = _test(reference, other, metric, seeds)
                results[key] |= tested
                if len(seeds) > 1:
                    # The same array for a reference of several pairs, so that it is resampled only once.
                    of_reference = (id(reference), seeds)
                    if of_reference not in ours_of:
                        ours_of[of_reference] = reference.per_seed(metric, seeds)
                    values[key] = ours_of[of_reference], other.per_seed(metric, seeds)
                    results[key]["two_way_p"] = two_way_test(*values[key])
        for test in TESTS:
            p_values = np.array([results[metric.name, other.model].get(test, np.nan) for _, other in pairs])
            for suffix, correct in CORRECTIONS.items():
                for (_, other), corrected in zip(pairs, correct(p_values).tolist(), strict=True):
                    results[metric.name, other.model][f"{test}_{suffix}"] = corrected
    if columns:
        # All comparisons share one set of resamples.
        intervals = bootstrap_intervals(np.stack(list(columns.values()), axis=1)).tolist()
        for key, (low, high) in zip(columns, intervals, strict=True):
            results[key] |= {"low": low, "high": high}
    if values:
        for key, (low, high) in zip(values, crossed_intervals(list(values.values())).tolist(), strict=True):
            results[key] |= {"two_way_low": low, "two_way_high": high}
    decisive = "two_way_p_holm" if values else "t_p_holm"
    return [Comparison(**result, beyond_chance=result[decisive] < SIGNIFICANT) for result in results.values()]


def _test(
    reference: ModelRuns, other: ModelRuns, metric: Metric, seeds: tuple[int, ...]
) -> tuple[np.ndarray, Mapping[str, object]]:
    ours, theirs = reference.per_user(metric, seeds), other.per_user(metric, seeds)
    difference = differences(ours, theirs)
    mean = float(theirs.mean())
    return difference, {
        "seeds": seeds,
        "n_users": len(difference),
        "n_nonzero": int(np.count_nonzero(difference)),
        "reference_mean": float(ours.mean()),
        "model_mean": mean,
        "difference": float(difference.mean()),
        "relative_percent": 100 * float(difference.mean()) / mean if mean else np.nan,
        "t_p": t_test(ours, theirs),
        "wilcoxon_p": wilcoxon_test(difference),
    }


def comparisons_frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Make one row for each comparison, with a column for each attribute; seeds are separated by spaces."""
    fields = list(Comparison.__dataclass_fields__)
    frame = pd.DataFrame([{name: getattr(each, name) for name in fields} for each in comparisons], columns=fields)
    return frame.assign(seeds=[" ".join(map(str, each.seeds)) for each in comparisons])


_HEAD = ("model", "mean", "difference", "95 % interval", "relative")
_TWO_WAY_HEAD = ("with seeds", "two-way p", "Holm", "BH")
_TESTS_HEAD = ("t-test p", "Holm", "BH", "Wilcoxon p", "Holm", "BH", "users", "differ", "seeds")
# Smaller p-values are dominated by rounding errors.
_SMALLEST = 1e-99

HOW_TO_READ = (
    "Difference: reference minus model; above 0 the reference is better. Each user's values are averaged over "
    "the seeds that both models have, and paired by user. Interval: of the mean difference, by the bootstrap. Tests "
    "are two-sided. Holm, BH: the p-value to the left, corrected for the number of models compared by a metric on a "
    "dataset, by the method of Holm and by that of Benjamini and Hochberg. Differ: users for whom the two models' "
    "values differ. The t-test and Wilcoxon's ask whether the difference would hold for other users, with the models "
    "as they were trained."
)
WITH_SEEDS = (
    "With seeds: the interval by the bootstrap over users and over each model's seeds. The two-way test asks whether "
    "the difference would hold for other users and other trainings. It is the test that decides."
)
NO_LUCK = (
    "With one common seed, random differences between trainings are not counted: training again may reverse the order "
    "of two models, whatever the p-value. Use several seeds."
)


def explain_comparisons(comparisons: Iterable[Comparison]) -> str:
    """Explain the numbers of these comparisons, and whether they account for random differences of training."""
    seeds = [each.counts_training for each in comparisons if each.refused is None]
    return " ".join([HOW_TO_READ, *[WITH_SEEDS] * any(seeds), *[NO_LUCK] * (not all(seeds))])


def significance_markdown(comparisons: Sequence[Comparison]) -> str:
    """Write a table for each dataset and metric."""
    parts = []
    for (dataset, metric), group in groupby(comparisons, key=lambda each: (each.dataset, each.metric)):
        members = list(group)
        title = f"{dataset}, {parse_metric(metric).label}: {printed_name(members[0].reference)} against the others"
        parts.append(f"### {escape_markdown(title)}")
        if tested := [each for each in members if each.refused is None]:
            # Without several seeds, these columns are empty.
            two_way = any(each.counts_training for each in tested)
            head = (*_HEAD, *_TWO_WAY_HEAD * two_way, *_TESTS_HEAD)
            parts.append(markdown_table([head, *(_row(each, two_way) for each in tested)]))
        parts += refusals_markdown({each.model: each.refused for each in members if each.refused})
    return "\n\n".join([*parts, explain_comparisons(comparisons)] if parts else ["There is nothing to compare."]) + "\n"


def refusals_markdown(refused: Mapping[str, str]) -> list[str]:
    """Write a line for each reason why models are not compared.

    Args:
        refused: Model -> reason.
    """
    reasons: dict[str, list[str]] = {}
    for model, reason in refused.items():
        reasons.setdefault(reason, []).append(printed_name(model))
    return [escape_markdown(f"Not compared: {', '.join(names)} ({reason}).") for reason, names in reasons.items()]


def _row(comparison: Comparison, two_way: bool) -> list[str]:
    relative = f"{comparison.relative_percent:+.2f} %"
    return [
        escape_markdown(printed_name(comparison.model)),
        f"{comparison.model_mean:.4f}",
        f"{comparison.difference:+.4f}",
        f"{comparison.low:+.4f} to {comparison.high:+.4f}",
        relative if comparison.relative_percent == comparison.relative_percent else NO_VALUE,
        *_two_way(comparison) * two_way,
        *_p_values(comparison, "t_p"),
        *_p_values(comparison, "wilcoxon_p"),
        f"{comparison.n_users:,}",
        f"{comparison.n_nonzero:,}",
        " ".join(map(str, comparison.seeds)),
    ]


def _two_way(comparison: Comparison) -> list[str]:
    low, high = comparison.two_way_low, comparison.two_way_high
    interval = f"{low:+.4f} to {high:+.4f}" if comparison.counts_training else NO_VALUE
    return [interval, *_p_values(comparison, "two_way_p")]


def _p_values(comparison: Comparison, test: str) -> list[str]:
    return [format_p_value(getattr(comparison, name)) for name in (test, *(f"{test}_{name}" for name in CORRECTIONS))]


def format_p_value(p_value: float) -> str:
    """Format a p-value with three digits."""
    if p_value != p_value:
        return NO_VALUE
    return f"{p_value:.3g}" if p_value >= _SMALLEST else f"< {_SMALLEST:.0e}"
