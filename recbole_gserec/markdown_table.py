"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

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
