"""Figures as files for papers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 300


def plain_text(text: str) -> str:
    """A text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")


def save_figure(figure: Figure, png: Path, pdf: Path) -> None:
    """Write a figure into two files, whose bytes say nothing of when they were made."""
    import matplotlib

    figure.savefig(png, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    # It tells of each table of each font, in the log of a training too.
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    # TrueType: publishers refuse Type 3 fonts.
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
