"""Reading of CSV, TSV and similar files: detection of the dialect, and rows with their line numbers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataset_converters.text_lines import batched_lines

if TYPE_CHECKING:
    from _csv import Reader

Record = tuple[int, list[str] | None, str | None]
"""First line of a row, its cells, and its problem. One of the last two is None."""

DELIMITERS = (",", "\t", ";", "|")
_LARGEST_CELL = 1 << 20
_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "pipe", " ": "space"}


@dataclass(frozen=True)
class Dialect:
    r"""How cells are separated and quoted.

    Args:
        delimiter: Character between cells.
        quote: Quotation mark around cells with delimiters or line breaks; doubled inside. None if there are no quotes.
        backslash: Whether a backslash escapes the next character, as in MySQL (``\"``).
    """

    delimiter: str
    quote: str | None = '"'
    backslash: bool = False

    def __str__(self) -> str:
        quoted = f"quoted with {self.quote}" if self.quote else "not quoted"
        return f"separated by {_NAMES.get(self.delimiter, self.delimiter)}, {quoted}" + (
            ", escaped by backslashes" if self.backslash else ""
        )


def detect_dialect(sample: str, delimiter: str | None = None, quote: str | None = None) -> Dialect:
    r"""Detect the dialect in which most rows have as many cells as the first row.

    Args:
        sample: Beginning of the text.
        delimiter: Delimiter, if known.
        quote: Quotation mark, if known. The empty string means no quotes.
    """
    quotes: list[tuple[str | None, bool]] = [('"', False), (None, False)] if quote is None else [(quote or None, False)]
    if "\\" + (quotes[0][0] or "\n") in sample:
        quotes.insert(1, (quotes[0][0], True))
    candidates = [Dialect(mark, *how) for mark in ([delimiter] if delimiter else DELIMITERS) for how in quotes]
    # If several dialects are equally good, the one with the most columns wins, then the first.
    return min(candidates, key=lambda dialect: _badness(sample, dialect))


def _badness(sample: str, dialect: Dialect) -> tuple[bool, int, int]:
    rows = [cells for _, cells, _ in read_records(io.StringIO(sample, newline=""), dialect)]
    width = next((len(cells) for cells in rows if cells is not None), 1)
    bad = sum(cells is None or len(cells) != width or (not dialect.quote and _is_quoted(cells)) for cells in rows)
    return width < 2, bad, -width


def _is_quoted(cells: list[str]) -> bool:
    """Whether a cell is surrounded by quotation marks."""
    return any(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)


def has_header(first: list[str], is_name: Callable[[str], bool]) -> bool:
    """Whether the first row is a header: it has usual column names, or no numbers and dates.

    Args:
        first: Cells of the first row.
        is_name: Function that recognizes usual column names.
    """
    cells = [cell.strip() for cell in first]
    return sum(map(is_name, cells)) > 1 or not any(re.match(r"[+-]?\.?\d", cell) for cell in cells)


@dataclass(frozen=True)
class Block:
    """Consecutive rows.

    Args:
        lines: First line of each row.
        rows: Cells of each row. Empty for a blank row or a row with a problem.
        problems: Problems of unreadable rows, keyed by the row's index.
    """

    lines: Sequence[int]
    rows: list[list[str]]
    problems: dict[int, str]


def read_blocks(text: Iterable[str], dialect: Dialect, n_lines: int = 65536) -> Iterator[Block]:
    """Yield the rows of a text in blocks of about ``n_lines`` lines.

    A row with wrong quotes ends after its first line, so an unclosed quotation mark does not swallow the next rows.
    """
    csv.field_size_limit(_LARGEST_CELL)
    line = 1
    kept: list[str] = []
    for more in batched_lines(text, n_lines):
        lines = kept + (_without_missing(more, dialect) if dialect.backslash else more)
        block, used = _parse(lines, dialect, line, is_end=False)
        yield block
        kept, line = lines[used:], line + used
    if kept:
        yield _parse(kept, dialect, line, is_end=True)[0]


def _parse(lines: list[str], dialect: Dialect, first: int, is_end: bool) -> tuple[Block, int]:
    """Parse lines to rows, and return how many lines were used. The last row may continue in the next lines."""
    try:
        rows = list(_reader(lines, dialect))
    except csv.Error:
        rows = []
    if len(rows) == len(lines):
        return Block(range(first, first + len(rows)), rows, {}), len(lines)
    # Some rows have several lines or wrong quotes, so parse one row at a time.
    begins, rows, problems = [], [], {}
    start = begin = 0
    while begin < len(lines):
        reader = _reader(map(lines.__getitem__, range(start, len(lines))), dialect)
        try:
            for cells in reader:
                begins.append(first + begin)
                rows.append(cells)
                begin = start + reader.line_num
        except csv.Error as error:
            if reader.line_num == len(lines) - start and not is_end and "end of data" in str(error):
                break
            problems[len(rows)] = _problem(error)
            begins.append(first + begin)
            rows.append([])
            start = begin = begin + 1
    return Block(begins, rows, problems), begin


def _reader(lines: Iterable[str], dialect: Dialect) -> Reader:
    return csv.reader(
        lines,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar="\\" if dialect.backslash else None,
        strict=True,
    )


def _problem(error: csv.Error) -> str:
    if "field limit" in str(error):
        return f"a cell has more than {_LARGEST_CELL:,} characters, or an unclosed quotation mark"
    return "its quotation marks do not match"


def _without_missing(lines: list[str], dialect: Dialect) -> list[str]:
    r"""Remove the ``\N`` that MySQL writes for a missing value, because the reader would return an N."""
    mark = re.escape(dialect.delimiter)
    missing = re.compile(rf"(?:(?<={mark})|^)\\N(?={mark}|[\r\n]|$)")
    return [missing.sub("", line) for line in lines]


def is_blank(cells: list[str]) -> bool:
    """Whether a row is a blank line."""
    return not cells or (len(cells) == 1 and not cells[0].strip())


def read_records(text: Iterable[str], dialect: Dialect) -> Iterator[Record]:
    """Yield the rows of a text one at a time, without blank lines."""
    for block in read_blocks(text, dialect):
        for index, (line, cells) in enumerate(zip(block.lines, block.rows, strict=True)):
            if index in block.problems:
                yield line, None, block.problems[index]
            elif not is_blank(cells):
                yield line, cells, None


def first_row(sample: str, dialect: Dialect) -> list[str] | None:
    """Cells of the first good row of a text; None if there is no such row."""
    rows = read_records(io.StringIO(sample, newline=""), dialect)
    return next((cells for _, cells, _ in rows if cells is not None), None)
