"""The significance tests as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from recbole_gserec import escaping
from recbole_gserec.benchmark.metrics import parse_metric
from recbole_gserec.benchmark.model_names import printed_name
from recbole_gserec.benchmark.significance import Comparison
from recbole_gserec.markdown_table import NO_VALUE, markdown_table

_HEAD = ("model", "mean", "difference", "95 % interval", "relative")
_TWO_WAY_HEAD = ("with seeds", "two-way p", "corrected")
_TESTS_HEAD = ("t-test p", "corrected", "Wilcoxon p", "corrected", "users", "differ", "seeds")
# Smaller p-values are dominated by rounding errors.
_SMALLEST = 1e-99

HOW_TO_READ = (
    "Difference: reference minus model; above 0 the reference is better. Each user's values are averaged over "
    "the seeds that both models have, and paired by user. Interval: of the mean difference, by the bootstrap. Tests "
    "are two-sided, and corrected by Holm's method for the number of models compared by a metric on a dataset. Differ: "
    "users for whom the two models' values differ. The t-test and Wilcoxon's ask whether the difference would hold for "
    "other users, with the models as they were trained."
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


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Write a table for each dataset and metric."""
    parts = []
    for (dataset, metric), group in groupby(comparisons, key=lambda each: (each.dataset, each.metric)):
        members = list(group)
        title = f"{dataset}, {parse_metric(metric).label}: {printed_name(members[0].reference)} against the others"
        parts.append(f"### {escaping.markdown(title)}")
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
    return [escaping.markdown(f"Not compared: {', '.join(names)} ({reason}).") for reason, names in reasons.items()]


def _row(comparison: Comparison, two_way: bool) -> list[str]:
    relative = f"{comparison.relative_percent:+.2f} %"
    return [
        escaping.markdown(printed_name(comparison.model)),
        f"{comparison.model_mean:.4f}",
        f"{comparison.difference:+.4f}",
        f"{comparison.low:+.4f} to {comparison.high:+.4f}",
        relative if comparison.relative_percent == comparison.relative_percent else NO_VALUE,
        *_two_way(comparison) * two_way,
        *(format_p_value(getattr(comparison, name)) for name in ("t_p", "t_p_holm", "wilcoxon_p", "wilcoxon_p_holm")),
        f"{comparison.n_users:,}",
        f"{comparison.n_nonzero:,}",
        " ".join(map(str, comparison.seeds)),
    ]


def _two_way(comparison: Comparison) -> list[str]:
    low, high = comparison.two_way_low, comparison.two_way_high
    interval = f"{low:+.4f} to {high:+.4f}" if comparison.counts_training else NO_VALUE
    return [interval, format_p_value(comparison.two_way_p), format_p_value(comparison.two_way_p_holm)]


def format_p_value(p_value: float) -> str:
    """Format a p-value with three digits."""
    if p_value != p_value:
        return NO_VALUE
    return f"{p_value:.3g}" if p_value >= _SMALLEST else f"< {_SMALLEST:.0e}"
