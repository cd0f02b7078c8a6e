"""Formats numbers for the tables of analyses."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_gserec import escaping
from recbole_gserec.markdown_table import NO_VALUE, markdown_table


def text_table(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """Make a Markdown table whose cells are escaped; the first row is the heading."""
    return markdown_table([[escaping.markdown(cell) for cell in row] for row in rows], numbers=numbers)


def number(value: float, form: str = ".4f") -> str:
    """Format a number; a dash for None and NaN."""
    return format(value, form) if value == value else NO_VALUE


def interval(low: float, high: float, form: str = "+.4f", unit: str = "") -> str:
    """Format an interval."""
    return NO_VALUE if low != low or high != high else f"{low:{form}} to {high:{form}}{unit}"
