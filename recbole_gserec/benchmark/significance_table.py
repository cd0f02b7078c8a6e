"""The tests as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from recbole_gserec import escaping
from recbole_gserec.benchmark.metrics import parse_metric
from recbole_gserec.benchmark.model_names import printed_name
from recbole_gserec.benchmark.significance import Comparison
from recbole_gserec.markdown_table import NO_VALUE, markdown_table

_HEAD = (
    "model",
    "mean",
    "difference",
    "95 % interval",
    "relative",
    "t-test p",
    "corrected",
    "Wilcoxon p",
    "corrected",
    "users",
    "differ",
    "seeds",
)
# A smaller p-value would be a matter of rounding errors.
_SMALLEST = 1e-99

HOW_TO_READ = (
    "Difference: reference less model; above 0 the reference is better. Each user's values are averaged over the seeds "
    "that both models have, and paired by user. Interval: of the mean difference, by the bootstrap over users. Tests "
    "are two-sided, and corrected by Holm's method for the number of models compared by a metric on a dataset. Differ: "
    "users for whom the two models' values differ. The tests say whether the difference would hold for other users, "
    "with the models as they were trained; how much training changes a result, the deviation over seeds says."
)


def markdown(comparisons: Sequence[Comparison]) -> str:
    """A table for each dataset and metric."""
    parts = []
    for (dataset, metric), group in groupby(comparisons, key=lambda each: (each.dataset, each.metric)):
        members = list(group)
        title = f"{dataset}, {parse_metric(metric).label}: {printed_name(members[0].reference)} against the others"
        parts.append(f"### {escaping.markdown(title)}")
        if tested := [each for each in members if each.refused is None]:
            parts.append(markdown_table([_HEAD, *map(_row, tested)]))
        parts += refusals_markdown({each.model: each.refused for each in members if each.refused})
    return "\n\n".join([*parts, HOW_TO_READ] if parts else ["There is nothing to compare."]) + "\n"


def refusals_markdown(refused: Mapping[str, str]) -> list[str]:
    """A line for each reason why models are not compared.

    Args:
        refused: Model -> reason.
    """
    reasons: dict[str, list[str]] = {}
    for model, reason in refused.items():
        reasons.setdefault(reason, []).append(printed_name(model))
    return [escaping.markdown(f"Not compared: {', '.join(names)} ({reason}).") for reason, names in reasons.items()]


def _row(comparison: Comparison) -> list[str]:
    relative = f"{comparison.relative_percent:+.2f} %"
    return [
        escaping.markdown(printed_name(comparison.model)),
        f"{comparison.model_mean:.4f}",
        f"{comparison.difference:+.4f}",
        f"{comparison.low:+.4f} to {comparison.high:+.4f}",
        relative if comparison.relative_percent == comparison.relative_percent else NO_VALUE,
        *(p_text(getattr(comparison, name)) for name in ("t_p", "t_p_holm", "wilcoxon_p", "wilcoxon_p_holm")),
        f"{comparison.n_users:,}",
        f"{comparison.n_nonzero:,}",
        " ".join(map(str, comparison.seeds)),
    ]


def p_text(p_value: float) -> str:
    """A p-value with three digits."""
    if p_value != p_value:
        return NO_VALUE
    return f"{p_value:.3g}" if p_value >= _SMALLEST else f"< {_SMALLEST:.0e}"
