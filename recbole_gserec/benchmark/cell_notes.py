"""The note below a table about one model on one dataset: what the numbers alone do not show."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_gserec.benchmark.defaults import changed_defaults
from recbole_gserec.benchmark.model_code import has_other_code
from recbole_gserec.benchmark.model_names import printed_name
from recbole_gserec.benchmark.model_runs import ModelRuns
from recbole_gserec.benchmark.results import DAMAGED, UNFINISHED
from recbole_gserec.benchmark.runs import FAILED
from recbole_gserec.narrowing import not_none
from recbole_gserec.wording import name_by_numbers

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
