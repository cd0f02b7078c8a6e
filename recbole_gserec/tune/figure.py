"""A figure of a sweep, as wide as one column of a paper: score by value of each setting (Figure 7 of GSERec)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recbole_gserec.figure_files import plain_text
from recbole_gserec.figure_panels import BLUE, ORANGE, POINTS, draw_tick_lines, format_short, name_values, new_panels
from recbole_gserec.narrowing import is_number
from recbole_gserec.tune.space import Choice, Range
from recbole_gserec.tune.trial_record import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL_INCHES = 1.25


def draw_settings(trials: Sequence[TrialRecord], space: Mapping[str, Choice | Range], metric: str) -> Figure:
    """Draw a panel for each setting: a dot for each trial, and a line through the best trial of each value."""
    figure, panels = new_panels(len(space), _PANEL_INCHES)
    scored = [record for record in trials if record.best_score is not None]
    for panel, (name, values) in zip(panels, space.items(), strict=True):
        # All panels share the score axis, so that they show how much each setting matters.
        panel.sharey(panels[0])
        _draw(panel, name, values, scored)
    figure.supylabel(plain_text(metric), fontsize=POINTS)
    return figure


def _draw(panel: Axes, name: str, values: Choice | Range, trials: Sequence[TrialRecord]) -> None:
    tried = [(record.settings[name], record) for record in trials if name in record.settings]
    if isinstance(values, Choice):
        ordered = sorted(values.values, key=_order)
        indices = {_key(value): index for index, value in enumerate(ordered)}
        name_values(panel, [format_short(value) if is_number(value) else str(value) for value in ordered])
        points = [(indices[_key(value)], record) for value, record in tried if _key(value) in indices]
    else:
        points = list(tried)
        if "log" in values.kind:
            panel.set_xscale("log")
        elif values.kind == "randint":
            panel.locator_params(axis="x", integer=True)
    xs, ys = [index for index, _ in points], [_score(record) for _, record in points]
    panel.plot(xs, ys, linestyle="", marker="o", markersize=2.5, color=BLUE, alpha=0.6)
    if isinstance(values, Choice):
        best: dict[Any, TrialRecord] = {}
        for index, record in points:
            if index not in best or record.rank < best[index].rank:
                best[index] = record
        at = sorted(best)
        panel.plot(at, [_score(best[index]) for index in at], linewidth=1, color=ORANGE)
    panel.set_xlabel(plain_text(name), fontsize=POINTS)
    draw_tick_lines(panel)


def _score(record: TrialRecord) -> float:
    return math.nan if record.best_score is None else record.best_score


def _key(value: Any) -> str:
    return repr(value)


def _order(value: Any) -> tuple[bool, Any]:
    return not is_number(value), value if is_number(value) else str(value)
