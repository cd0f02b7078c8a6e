"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

NO_VALUE = "–"
"""What stands in the place of a value that there is not."""


def markdown_table(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """A table that is readable as it is.

    Args:
        rows: Cells as they are written; the first row is the head.
        numbers: Whether all columns but the first are aligned right.
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
