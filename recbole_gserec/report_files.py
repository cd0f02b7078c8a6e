"""Writes the files of reports atomically, with the same bytes for the same content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recbole_gserec.figure_files import save_figure
from recbole_gserec.files import written_aside

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with written_aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table with rounded numbers, because their last digits depend on the CPU."""
    with written_aside(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.10g", encoding="utf-8", lineterminator="\n")


def write_figure(folder: Path, name: str, figure: Figure) -> None:
    """Write ``<name>.png`` and ``<name>.pdf``."""
    with written_aside(folder / f"{name}.png") as png, written_aside(folder / f"{name}.pdf") as pdf:
        save_figure(figure, png, pdf)
