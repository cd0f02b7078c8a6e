"""The cells of a results table: means, marks of the best, and notes on what the numbers do not show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_gserec.errors import not_none
from recbole_gserec.files import plain
from recbole_gserec.report import NO_VALUE, name_by_numbers
from recbole_gserec.results.load import DAMAGED, UNFINISHED, ModelRuns
from recbole_gserec.results.metrics import Metric, main_metric
from recbole_gserec.results.significance import Comparison
from recbole_gserec.runs import FAILED, has_other_code
from recbole_gserec.settings import (
    OURS,
    dataset_defaults,
    for_train_rows,
    model_settings,
    objective_settings,
    preprocess_settings,
    preset_settings,
    printed_name,
    protocol_settings,
)

# These settings change what is measured but not the model, and RecBole stores some of them in another form. The
# candidates themselves show whether two results used the same evaluation.
_OF_THE_EVALUATION = ("eval_args", "metrics", "topk")


def changed_defaults(record: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return this package's defaults that differ between the run and today.

    RecBole's own defaults are not compared, because they belong to its version.

    Args:
        record: Record of a finished run.

    Returns:
        Setting -> its value in the run (None if it did not exist), and its default today.
    """
    took = record["settings"]
    now = model_settings(record["model"])
    if "short_users" in took:
        # The dataset has searches, so its settings and those of the protocol are part of the defaults.
        now = {**protocol_settings(), **now, **dataset_defaults(record["model"], record["dataset"])}
    preset = preset_settings(record["given"].get("preset"), record["model"])
    now = {**for_train_rows(now, {**preset, **record["given"]}), **preset}
    # What a run before these settings did is their default.
    took = {**objective_settings(), **took}
    # The output of the offline stage is already part of a run's key, whatever its settings were.
    names = now.keys() - record["given"].keys() - set(_OF_THE_EVALUATION) - preprocess_settings().keys()
    pairs = {name: (took.get(name), plain(now[name])) for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


_LONGEST = 200


def cell_note(cell: ModelRuns, seeds: Sequence[int], anchor: str | None, refused: str | None) -> str | None:
    """Describe failed, damaged, missing and excluded runs, refused comparisons, and changed code or defaults.

    Args:
        cell: A model on a dataset.
        seeds: All seeds that any model has on this dataset.
        anchor: The model that results are compared with.
        refused: Why this model is not compared.

    Returns:
        The note in one line; None if there is nothing to report.
    """
    parts = [*_unfinished(cell), *_missing(cell, seeds)]
    if cell.finished and parts:
        parts.insert(0, f"{len(cell.finished)} of {len(seeds)} seeds")
    if cell.finished and refused:
        parts.append(f"not compared with {printed_name(not_none(anchor))}, nor ranked: {refused}")
    parts += _other_code(cell) + _outdated(cell)
    return f"{printed_name(cell.model)} on {cell.dataset}: {'; '.join(parts)}." if parts else None


def _unfinished(cell: ModelRuns) -> list[str]:
    reasons: dict[str, list[int]] = {}
    for run in cell.runs:
        if run.state == FAILED:
            reasons.setdefault(f"failed ({shorten_note(run.problem)})", []).append(run.seed)
        elif run.state == DAMAGED:
            reasons.setdefault(f"damaged ({shorten_note(run.problem)})", []).append(run.seed)
        elif run.state == UNFINISHED:
            reasons.setdefault("not finished", []).append(run.seed)
    return [f"{name_by_numbers('seed', seeds)} {reason}" for reason, seeds in reasons.items()]


def _missing(cell: ModelRuns, seeds: Sequence[int]) -> list[str]:
    there = {run.seed for run in cell.runs}
    elsewhere = {run.seed for run in cell.set_aside} - there
    absent = [seed for seed in seeds if seed not in there | elsewhere]
    parts = []
    if elsewhere:
        parts.append(f"{name_by_numbers('seed', sorted(elsewhere))} left out because of other settings or data")
    if not there and not elsewhere:
        return [*parts, "no run"]
    if absent:
        parts.append(f"no run of {name_by_numbers('seed', absent)}")
    return parts


def _other_code(cell: ModelRuns) -> list[str]:
    seeds = [run.seed for run in cell.finished.values() if has_other_code(run.record)]
    return [f"{name_by_numbers('seed', seeds)} made with an earlier version of the model's code"] if seeds else []


def _outdated(cell: ModelRuns) -> list[str]:
    seeds: dict[str, list[int]] = {}
    for run in cell.finished.values():
        changes = [f"{name} {took}, now {now}" for name, (took, now) in changed_defaults(run.record).items()]
        if changes:
            seeds.setdefault("; ".join(changes), []).append(run.seed)
    return [
        f"{name_by_numbers('seed', own)} made with earlier defaults ({shorten_note(changes)})"
        for changes, own in seeds.items()
    ]


def shorten_note(text: str | None) -> str:
    """Shorten a text so that it fits in a note."""
    text = (text or "").rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


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
