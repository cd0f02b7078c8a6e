"""Text of reports: plural forms, escaping, Markdown tables, printed numbers, and writing the files of a report."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_gserec.figures import save_figure
from recbole_gserec.files import written_aside

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def plural(noun: str, number: int) -> str:
    """Return a regular noun in the singular or plural."""
    return noun if number == 1 else f"{noun}s"


def name_by_numbers(noun: str, numbers: Collection[int]) -> str:
    """Name things by their numbers: ``seeds 2020, 2021``."""
    return f"{plural(noun, len(numbers))} {', '.join(map(str, numbers))}"


# A closing angle bracket means something only at the start of a line.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<|~&#]|^>)")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # LaTeX's default font encoding prints these as other characters.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "–": "--",
    "±": r"$\pm$",
}
_TABLE = str.maketrans(_LATEX)


def escape_markdown(text: str) -> str:
    """Escape a text for Markdown, as one line that also fits in a table."""
    return _MARKDOWN.sub(r"\\\1", _one_line(text))


def escape_latex(text: str) -> str:
    """Escape a text for LaTeX, as one line.

    Characters that LaTeX's fonts lack without further packages, such as Chinese, become question marks, so that the
    table compiles.
    """
    return "".join(map(_printable, _one_line(text))).translate(_TABLE)


def _one_line(text: str) -> str:
    visible = "".join(" " if unicodedata.category(character) in ("Cc", "Cs") else character for character in text)
    return " ".join(visible.split())


def _printable(character: str) -> str:
    if character in _LATEX or character.isascii():
        return character
    plain = unicodedata.normalize("NFKD", character)
    plain = "".join(part for part in plain if not unicodedata.combining(part))
    return plain if plain.isascii() and plain else "?"


NO_VALUE = "–"
"""Shown for a missing value."""


def markdown_table(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """Make a table that is readable as text.

    Args:
        rows: Escaped cells; the first row is the heading.
        numbers: Whether to align all columns except the first to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [str.ljust, *[str.rjust if numbers else str.ljust] * (len(widths) - 1)]
    lines = []
    for row in rows:
        cells = [align(cell, width) for align, cell, width in zip(aligned, row, widths, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    ends = [":" if align is str.rjust else "-" for align in aligned]
    rules = ["-" * (width + 1) + end for width, end in zip(widths, ends, strict=True)]
    lines.insert(1, f"|{'|'.join(rules)}|")
    return "\n".join(lines)


def text_table(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """Make a Markdown table whose cells are escaped; the first row is the heading."""
    return markdown_table([[escape_markdown(cell) for cell in row] for row in rows], numbers=numbers)


def number(value: float, form: str = ".4f") -> str:
    """Format a number; a dash for None and NaN."""
    return format(value, form) if value == value else NO_VALUE


def interval(low: float, high: float, form: str = "+.4f", unit: str = "") -> str:
    """Format an interval."""
    return NO_VALUE if low != low or high != high else f"{low:{form}} to {high:{form}}{unit}"


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
