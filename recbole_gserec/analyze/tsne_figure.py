"""Users and codes of the two sides in a plane (Figure 6 of GSERec), one panel for each checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from recbole_gserec.figure_files import plain_text
from recbole_gserec.figure_panels import BLUE, ORANGE, POINTS, SKY, YELLOW, new_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL_INCHES = 1.75
_LEGEND_INCHES = 0.2
# If a user's two vectors coincide, the smaller mark lies on the larger one.
_STYLES: dict[tuple[str, str], dict[str, Any]] = {
    ("user", "search"): {"color": BLUE, "marker": "o", "s": 6, "linewidths": 0},
    ("user", "recommendation"): {"color": ORANGE, "marker": "s", "s": 1.2, "linewidths": 0},
    ("code", "search"): {"color": SKY, "marker": "^", "s": 4, "linewidths": 0.2, "edgecolors": "black"},
    ("code", "recommendation"): {"color": YELLOW, "marker": "v", "s": 4, "linewidths": 0.2, "edgecolors": "black"},
}
_NAMES = {"user": "users", "code": "codes"}


def draw_tsne(panels_of: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw points.

    Args:
        panels_of: Title of a panel -> its points, from :func:`recbole_gserec.analyze.tsne.embed`.
    """
    from matplotlib.lines import Line2D

    n_rows = math.ceil(len(panels_of) / 2)
    figure, panels = new_panels(len(panels_of), _PANEL_INCHES + _LEGEND_INCHES / n_rows)
    shown: list[tuple[str, str]] = []
    for panel, (title, points) in zip(panels, panels_of.items(), strict=True):
        for (kind, side), own in points.groupby(["kind", "side"], sort=False):
            key = (str(kind), str(side))
            panel.scatter(own["x"], own["y"], rasterized=True, **_STYLES[key])
            shown += [key] if key not in shown else []
        panel.set_title(plain_text(title), fontsize=POINTS)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_aspect("equal", adjustable="datalim")
        for edge in ("top", "right"):
            panel.spines[edge].set_visible(True)
    marks = [Line2D([], [], linestyle="", marker=_STYLES[key]["marker"], color=_STYLES[key]["color"]) for key in shown]
    look: dict[str, Any] = {
        "fontsize": POINTS,
        "frameon": False,
        "handletextpad": 0.1,
        "columnspacing": 1,
        "markerscale": 0.6,
    }
    names = [f"{_NAMES[kind]}, {side}" for kind, side in shown]
    figure.legend(marks, names, loc="outside lower center", ncols=2, **look)
    return figure
