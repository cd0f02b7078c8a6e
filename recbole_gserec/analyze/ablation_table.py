"""Table 3 of GSERec: the full model and its variants, with a column for each metric."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from recbole_gserec import escaping
from recbole_gserec.benchmark.metrics import Metric
from recbole_gserec.benchmark.model_runs import ModelRuns
from recbole_gserec.benchmark.result_cells import rounded_mean
from recbole_gserec.benchmark.significance import Comparison
from recbole_gserec.markdown_table import NO_VALUE, markdown_table

LEGEND = (
    "Mean over users and seeds, ± standard deviation over seeds if there are several; the best in bold. \\*: the full "
    "model differs significantly from the variant, p < 0.05 after Holm's correction for the number of variants. The "
    "test is the two-way test over users and seeds or, if all have one seed, the paired t-test over users, which does "
    "not count random differences between trainings."
)


def markdown(cells: Sequence[ModelRuns], metrics: Sequence[Metric], comparisons: Sequence[Comparison]) -> str:
    """Write the table and its explanation.

    Args:
        cells: The full model first, then the variants, possibly without a finished run.
        metrics: The columns.
        comparisons: The full model against the variants.
    """
    found = {(each.model, each.metric): each for each in comparisons}
    best = {metric: max(rounded_mean(cell, metric) for cell in cells if cell.finished) for metric in metrics}
    rows = [["model", *(metric.label for metric in metrics), "seeds"]]
    for cell in cells:
        row = [escaping.markdown(cell.model)]
        for metric in metrics:
            if not cell.finished:
                row.append(NO_VALUE)
                continue
            means = cell.means(metric)
            text = f"{means.mean():.4f}"
            text = f"**{text}**" if rounded_mean(cell, metric) == best[metric] else text
            comparison = found.get((cell.model, metric.name))
            text += r"\*" if comparison and comparison.beyond_chance else ""
            row.append(text + (f" ± {means.std(ddof=1):.4f}" if len(means) > 1 else ""))
        rows.append([*row, ", ".join(map(str, cell.finished)) or NO_VALUE])
    return markdown_table(rows) + "\n\n" + LEGEND


def frame(cells: Sequence[ModelRuns], metrics: Sequence[Metric]) -> pd.DataFrame:
    """Make one row for each variant and metric; variants without a finished run have no mean."""
    rows = []
    for cell in cells:
        for metric in metrics:
            means = cell.means(metric)
            rows.append(
                {
                    "dataset": cell.dataset,
                    "model": cell.model,
                    "metric": metric.name,
                    "mean": means.mean() if len(means) else None,
                    "deviation": means.std(ddof=1) if len(means) > 1 else None,
                    "seeds": " ".join(map(str, cell.finished)),
                }
            )
    return pd.DataFrame(rows).astype({"mean": float, "deviation": float})
