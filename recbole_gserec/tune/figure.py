"""The figure of a sweep: score by value of each setting, in the width of a paper's column (Figure 7 of GSERec)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recbole_gserec.figure_files import plain_text
from recbole_gserec.tune.space import Choice, Range
from recbole_gserec.tune.trial_record import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMN_INCHES = 3.3
_PANEL_INCHES = 1.25
_POINTS = 7
_DOTS, _LINE = "#0072B2", "#D55E00"


def draw_settings(trials: Sequence[TrialRecord], space: Mapping[str, Choice | Range], metric: str) -> Figure:
    """A panel for each setting: a dot for each trial, a line through the best of each value."""
    from matplotlib.figure import Figure

    n_rows = math.ceil(len(space) / 2)
    figure = Figure(figsize=(_COLUMN_INCHES, _PANEL_INCHES * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, 2, squeeze=False, sharey=True).flatten()
    scored = [record for record in trials if record.best_score is not None]
    for panel, (name, values) in zip(panels, space.items(), strict=False):
        _draw(panel, name, values, scored)
    for panel in panels[len(space) :]:
        panel.set_visible(False)
    figure.supylabel(metric, fontsize=_POINTS + 1)
    return figure


def _draw(panel: Axes, name: str, values: Choice | Range, trials: Sequence[TrialRecord]) -> None:
    tried = [(record.settings[name], record) for record in trials if name in record.settings]
    if isinstance(values, Choice):
        places = {_key(value): place for place, value in enumerate(sorted(values.values, key=_order))}
        labels = [_label(value) for value in sorted(values.values, key=_order)]
        panel.set_xticks(range(len(labels)), labels)
        panel.set_xlim(-0.5, len(labels) - 0.5)
        points = [(places[_key(value)], record) for value, record in tried if _key(value) in places]
    else:
        points = list(tried)
        if "log" in values.kind:
            panel.set_xscale("log")
        elif values.kind == "randint":
            panel.xaxis.get_major_locator().set_params(integer=True)
    xs, ys = [place for place, _ in points], [record.best_score for _, record in points]
    panel.plot(xs, ys, linestyle="", marker="o", markersize=2.5, color=_DOTS, alpha=0.6)
    if isinstance(values, Choice):
        best = {}
        for place, record in points:
            if place not in best or record.rank < best[place].rank:
                best[place] = record
        at = sorted(best)
        panel.plot(at, [best[place].best_score for place in at], linewidth=1, color=_LINE)
    panel.set_xlabel(name, fontsize=_POINTS)
    panel.tick_params(labelsize=_POINTS - 1, length=2)
    panel.grid(axis="y", color="#DDDDDD", linewidth=0.5)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _key(value: Any) -> str:
    return repr(value)


def _order(value: Any) -> tuple[bool, Any]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return not is_number, value if is_number else str(value)


def _label(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return plain_text(text)
