"""The look of all figures of analyses: as wide as a paper's column, told apart by colour-blind readers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_INCHES = 3.3
POINTS = 7
# Okabe and Ito's colours.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"


def new_panels(n_panels: int, height: float, n_columns: int = 2) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels side by side; one panel alone takes the whole width.

    Args:
        n_panels: How many.
        height: Of a row of panels, in inches.
        n_columns: Most panels in a row.
    """
    # A figure of its own, without pyplot, leaves the caller's matplotlib backend and figures alone.
    from matplotlib.figure import Figure

    n_columns = min(n_columns, max(1, n_panels))
    n_rows = math.ceil(max(1, n_panels) / n_columns)
    figure = Figure(figsize=(COLUMN_INCHES, height * n_rows), layout="constrained")
    panels = list(figure.subplots(n_rows, n_columns, squeeze=False).flatten())
    for panel in panels[n_panels:]:
        panel.set_visible(False)
    for panel in panels[:n_panels]:
        panel.tick_params(labelsize=POINTS - 1, length=2)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    return figure, panels[:n_panels]
