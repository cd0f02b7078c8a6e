"""One column of Table 2: the means of all models, the best ones, and whether the reference beats all others."""

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
    """The result of one model on one dataset by one metric.

    Attributes:
        mean: Mean over users, then over seeds; None without a finished run.
        deviation: Sample standard deviation over seeds; None with fewer than two.
        n_seeds: Number of finished runs.
        word: What is shown if the mean is missing.
        position: 1 for the best, 2 for the second, else 0.
        star: Whether this is the reference and it is significantly better than the best other model.
        is_ranked: Whether its data and candidates are those of the reference.
    """

    mean: float | None
    deviation: float | None = None
    n_seeds: int = 0
    word: str = ""
    position: int = 0
    star: bool = False
    is_ranked: bool = False

    @property
    def text(self) -> str:
        """The mean with four digits, or the word for a missing mean."""
        return self.word if self.mean is None else f"{self.mean:.4f}"


def reference_model(cells: Iterable[ModelRuns], metrics: tuple[Metric, ...], wanted: str | None) -> str | None:
    """Return the model that others are compared with on a dataset.

    Args:
        cells: All models on the dataset.
        metrics: Metrics of the report.
        wanted: The requested model. By default it is GSERec if it has runs, or else the best model.

    Returns:
        None if the requested model or GSERec has no finished run here; no other model replaces it automatically.
    """
    cells = list(cells)
    if wanted is None and not any(cell.model == OURS and cell.runs for cell in cells):
        return best_model(cells, metrics)
    wanted = wanted or OURS
    return wanted if any(cell.model == wanted and cell.finished for cell in cells) else None


def best_model(cells: Iterable[ModelRuns], metrics: tuple[Metric, ...]) -> str | None:
    """Return the model with the best mean by the main metric, the first of equals; None if no run is finished."""
    metric = main_metric(metrics)
    means = {cell.model: rounded_mean(cell, metric) for cell in cells if cell.finished}
    return max(means, key=means.__getitem__, default=None)


def rounded_mean(cell: ModelRuns, metric: Metric) -> float:
    """Return the mean over seeds without its last bits, in which equal results may differ."""
    return round(float(cell.means(metric).mean()), _DECIMALS)


def fill_column(
    cells: Mapping[str, ModelRuns],
    metric: Metric,
    reference: str | None,
    refused: Mapping[str, str | None],
    comparisons: Mapping[str, Comparison],
) -> dict[str, Cell]:
    """Compute the cells of all models on a dataset for one metric.

    Args:
        cells: By model.
        metric: The metric.
        reference: The reference of the comparisons, if any.
        refused: Model -> why its data or candidates differ from the reference's; these models are not ranked.
        comparisons: The reference against each other model, by this metric.

    Returns:
        The cells by model.
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
            position=best.index(ranked[model]) + 1 if ranked.get(model) in best else 0,
            star=model == reference and _beats_best_other(ranked, reference, comparisons),
            is_ranked=model in ranked,
        )
    return column


def _beats_best_other(ranked: Mapping[str, float], reference: str, comparisons: Mapping[str, Comparison]) -> bool:
    others = {model: mean for model, mean in ranked.items() if model != reference}
    top = max(others.values(), default=None)
    # If several models are equally good, it must be better than each of them.
    best = [model for model, mean in others.items() if mean == top]
    return bool(best) and all(comparisons[model].is_better for model in best)
