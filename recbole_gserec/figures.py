"""The common look of figures, as wide as a paper's column, and saving them as files for papers."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 300


def plain_text(text: str) -> str:
    """Return a text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")


def save_figure(figure: Figure, png: Path, pdf: Path) -> None:
    """Write a figure to two files, whose bytes do not depend on the time."""
    import matplotlib

    figure.savefig(png, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    # fontTools logs each table of each font, even into the log of a training.
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    # TrueType, because publishers refuse Type 3 fonts.
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})


COLUMN_INCHES = 3.3
POINTS = 7
# Okabe and Ito's colours, which colour-blind readers can distinguish; markers, hatches or line styles repeat the
# information.
BLUE, ORANGE, GREEN, YELLOW, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9"
_MOST_CHARACTERS = 22


def new_panels(n_panels: int, height: float, n_columns: int = 2) -> tuple[Figure, list[Axes]]:
    """Create a figure with panels side by side; a single panel takes the whole width.

    Args:
        n_panels: Number of panels.
        height: Height of a row of panels, in inches.
        n_columns: Maximum number of panels in a row.
    """
    # A figure without pyplot leaves the caller's matplotlib backend and figures unchanged.
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


def draw_tick_lines(panel: Axes) -> None:
    """Draw lines at the ticks of the vertical axis, behind everything else."""
    panel.grid(axis="y", color="#DDDDDD", linewidth=0.5)
    panel.set_axisbelow(True)


def name_values(panel: Axes, labels: Sequence[str]) -> None:
    """Put labels below positions 0, 1, ... of a panel of half the width, slanted if they would overlap."""
    labels = list(map(plain_text, labels))
    crowded = sum(map(len, labels)) > _MOST_CHARACTERS
    panel.set_xticks(range(len(labels)), labels, rotation=40 if crowded else 0, ha="right" if crowded else "center")
    panel.set_xlim(-0.4, len(labels) - 0.6)


def format_short(value: float) -> str:
    """Format a number so that it fits below a tick: ``1e-4`` instead of ``0.0001``."""
    if value and abs(value) < 0.01:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.3g}"
