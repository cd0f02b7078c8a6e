"""How numbers are printed in the tables of analyses."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_gserec import escaping
from recbole_gserec.markdown_table import NO_VALUE, markdown_table


def text_table(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """A table in Markdown whose cells all mean themselves; the first row is the head."""
    return markdown_table([[escaping.markdown(cell) for cell in row] for row in rows], numbers=numbers)


def number(value: float, form: str = ".4f") -> str:
    """A number as it is printed; a dash for one that is none."""
    return format(value, form) if value == value else NO_VALUE


def interval(low: float, high: float, form: str = "+.4f", unit: str = "") -> str:
    """An interval as it is printed."""
    return NO_VALUE if low != low or high != high else f"{low:{form}} to {high:{form}}{unit}"
