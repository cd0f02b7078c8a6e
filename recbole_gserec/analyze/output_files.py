"""The files an analysis leaves; the same analysis leaves the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from recbole_gserec.benchmark import escaping
from recbole_gserec.figure_files import save_figure
from recbole_gserec.files import written_aside
from recbole_gserec.markdown_table import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NONE = "–"
"""What stands in the place of a number that there is not."""


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with written_aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table with fewer digits than its numbers have: the last ones depend on the processor."""
    with written_aside(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.10g", encoding="utf-8", lineterminator="\n")


def write_figure(folder: Path, name: str, figure: Figure) -> None:
    """Write ``<name>.png`` and ``<name>.pdf``."""
    with written_aside(folder / f"{name}.png") as png, written_aside(folder / f"{name}.pdf") as pdf:
        save_figure(figure, png, pdf)


def text_table(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """A table in Markdown whose cells all mean themselves; the first row is the head."""
    return markdown_table([[escaping.markdown(cell) for cell in row] for row in rows], numbers=numbers)


def number(value: float, form: str = ".4f") -> str:
    """A number as it is printed; a dash for one that is none."""
    return format(value, form) if value == value else NONE


def interval(low: float, high: float, form: str = "+.4f", unit: str = "") -> str:
    """An interval as it is printed."""
    return NONE if low != low or high != high else f"{low:{form}} to {high:{form}}{unit}"
