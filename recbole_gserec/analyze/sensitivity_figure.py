"""The score by value of each setting (Figure 7 of GSERec), one panel for each setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from recbole_gserec.figure_files import plain_text
from recbole_gserec.figure_panels import BLUE, ORANGE, POINTS, draw_tick_lines, format_short, name_values, new_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL_INCHES = 1.35
_MARGIN = 0.08


def draw_sensitivity(frame: pd.DataFrame, metric: str) -> Figure:
    """Draw two lines for every setting: others held at the best trial's values, and the mean over all trials.

    Args:
        frame: The frame of :func:`recbole_gserec.analyze.sensitivity.sensitivity_frame`.
        metric: Name of the score.
    """
    names = list(dict.fromkeys(frame["setting"]))
    figure, panels = new_panels(len(names), _PANEL_INCHES)
    lowest, highest = (pick(frame[["held", "mean"]].stack()) for pick in (min, max))
    room = highest - lowest or 1e-4
    for panel, name in zip(panels, names, strict=True):
        own = frame[frame["setting"] == name].reset_index(drop=True)
        held = own[own["held"].notna()]
        mean: dict[str, Any] = {"color": BLUE, "marker": "o", "linestyle": "--", "markersize": 2.5, "linewidth": 0.8}
        best: dict[str, Any] = {"color": ORANGE, "marker": "s", "linestyle": "-", "markersize": 3, "linewidth": 1}
        panel.plot(own.index, own["mean"], label="mean over all trials", **mean)
        panel.plot(held.index, held["held"], label="others as in the best trial", **best)
        pairs = zip(own["value"], own["place"], strict=True)
        name_values(panel, [value if place != place else format_short(place) for value, place in pairs])
        panel.set_xlabel(plain_text(name), fontsize=POINTS)
        draw_tick_lines(panel)
        # All panels share the score axis, so that they show how much each setting matters.
        panel.set_ylim(lowest - _MARGIN * room, highest + _MARGIN * room)
    figure.supylabel(plain_text(metric), fontsize=POINTS)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=POINTS - 0.5, frameon=False)
    return figure
