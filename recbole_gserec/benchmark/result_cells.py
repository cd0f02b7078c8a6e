"""One column of Table 2: a mean for each model, which are best, and whether the reference beats the best other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from recbole_gserec.benchmark.metrics import Metric, main_metric
from recbole_gserec.benchmark.model_names import OURS
from recbole_gserec.benchmark.model_runs import ModelRuns
from recbole_gserec.benchmark.runs import FAILED
from recbole_gserec.benchmark.significance import Comparison
from recbole_gserec.markdown_table import NO_VALUE

FAILED_WORD = "failed"
# Equal results may differ in their last bits.
_DECIMALS = 12


@dataclass(frozen=True)
class Cell:
    """A model on a dataset by a metric.

    Attributes:
        mean: Over users, then over seeds; None without a finished run.
        deviation: Standard deviation over seeds (of a sample); None with fewer than two.
        n_seeds: Finished runs.
        word: What stands in the place of a missing mean.
        place: 1 for the best, 2 for the second, else 0.
        star: Whether this is the reference, and significantly better than the best other model.
        is_ranked: Whether it is of the same data and candidates as the reference's.
    """

    mean: float | None
    deviation: float | None = None
    n_seeds: int = 0
    word: str = ""
    place: int = 0
    star: bool = False
    is_ranked: bool = False

    @property
    def text(self) -> str:
        """The mean with four digits, or what stands in its place."""
        return self.word if self.mean is None else f"{self.mean:.4f}"


def reference_model(cells: Iterable[ModelRuns], metrics: tuple[Metric, ...], wanted: str | None) -> str | None:
    """The model that others are compared with on a dataset.

    Args:
        cells: All models on the dataset.
        metrics: Of the report.
        wanted: The model asked for. By default it is GSERec where there are runs of it, and else the best.

    Returns:
        None if the model asked for, or GSERec, has no finished run here: no other takes its place unasked.
    """
    cells = list(cells)
    if wanted is None and not any(cell.model == OURS and cell.runs for cell in cells):
        return best_model(cells, metrics)
    wanted = wanted or OURS
    return wanted if any(cell.model == wanted and cell.finished for cell in cells) else None


def best_model(cells: Iterable[ModelRuns], metrics: tuple[Metric, ...]) -> str | None:
    """The model with the best mean by the main metric, the first of equals; None if none is finished."""
    metric = main_metric(metrics)
    means = {cell.model: rounded_mean(cell, metric) for cell in cells if cell.finished}
    return max(means, key=means.__getitem__, default=None)


def rounded_mean(cell: ModelRuns, metric: Metric) -> float:
    """The mean over seeds without its last bits, in which equal results may differ."""
    return round(float(cell.means(metric).mean()), _DECIMALS)


def fill_column(
    cells: Mapping[str, ModelRuns],
    metric: Metric,
    reference: str | None,
    refused: Mapping[str, str | None],
    comparisons: Mapping[str, Comparison],
) -> dict[str, Cell]:
    """Fill in all models on a dataset by one metric.

    Args:
        cells: By model.
        metric: The metric.
        reference: Whose comparisons there are, if any.
        refused: By model, why its results are of other data or candidates, if they are; these are not ranked.
        comparisons: Of the reference with each other model, by this metric.

    Returns:
        By model.
    """
    finished = [model for model, cell in cells.items() if cell.finished]
    ranked = {model: rounded_mean(cells[model], metric) for model in finished if not refused.get(model)}
    best = sorted(set(ranked.values()), reverse=True)[:2] if len(ranked) > 1 else []
    column = {}
    for model, cell in cells.items():
        if model not in finished:
            failed = any(run.state == FAILED for run in cell.runs)
            column[model] = Cell(None, word=FAILED_WORD if failed else NO_VALUE)
            continue
        means = cell.means(metric)
        column[model] = Cell(
            float(means.mean()),
            float(means.std(ddof=1)) if len(means) > 1 else None,
            len(means),
            place=best.index(ranked[model]) + 1 if ranked.get(model) in best else 0,
            star=model == reference and _beats_best_other(ranked, reference, comparisons),
            is_ranked=model in ranked,
        )
    return column


def _beats_best_other(ranked: Mapping[str, float], reference: str, comparisons: Mapping[str, Comparison]) -> bool:
    others = {model: mean for model, mean in ranked.items() if model != reference}
    top = max(others.values(), default=None)
    # Of several equally good ones, it must be better than each.
    best = [model for model, mean in others.items() if mean == top]
    return bool(best) and all(comparisons[model].is_better for model in best)
