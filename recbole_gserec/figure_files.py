"""Writes figures to files for papers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
