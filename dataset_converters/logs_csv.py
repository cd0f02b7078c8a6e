"""Separated text (CSV, TSV, ...): what separates and quotes the cells, and rows with the lines that they begin in."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataset_converters.text_lines import batches_of

if TYPE_CHECKING:
    from _csv import Reader

Record = tuple[int, list[str] | None, str | None]
"""The line that a row begins in, its cells, and what is wrong with the row; one of the last two is None."""

DELIMITERS = (",", "\t", ";", "|")
_LARGEST_CELL = 1 << 20
_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "pipe", " ": "space"}


@dataclass(frozen=True)
class Dialect:
    r"""How cells are separated and quoted.

    Args:
        delimiter: Between cells.
        quote: Around cells that hold delimiters or line breaks; doubled inside. None if cells are never quoted.
        backslash: Whether a backslash takes the meaning from the character behind it, as MySQL writes (``\"``).
    """

    delimiter: str
    quote: str | None = '"'
    backslash: bool = False

    def __str__(self) -> str:
        quoted = f"quoted with {self.quote}" if self.quote else "not quoted"
        return f"separated by {_NAMES.get(self.delimiter, self.delimiter)}, {quoted}" + (
            ", escaped by backslashes" if self.backslash else ""
        )


def detect(sample: str, delimiter: str | None = None, quote: str | None = None) -> Dialect:
    r"""The dialect in which most rows of a text's beginning have as many cells as the first.

    Args:
        sample: The beginning, or all of it.
        delimiter: If it is known.
        quote: If it is known; the empty string says that cells are never quoted.
    """
    quotes: list[tuple[str | None, bool]] = [('"', False), (None, False)] if quote is None else [(quote or None, False)]
    if "\\" + (quotes[0][0] or "\n") in sample:
        quotes.insert(1, (quotes[0][0], True))
    candidates = [Dialect(mark, *how) for mark in ([delimiter] if delimiter else DELIMITERS) for how in quotes]
    # Of equally good ones the widest, then the first.
    return min(candidates, key=lambda dialect: _badness(sample, dialect))


def _badness(sample: str, dialect: Dialect) -> tuple[bool, int, int]:
    rows = [cells for _, cells, _ in records(io.StringIO(sample, newline=""), dialect)]
    width = next((len(cells) for cells in rows if cells is not None), 1)
    bad = sum(cells is None or len(cells) != width or (not dialect.quote and _is_quoted(cells)) for cells in rows)
    return width < 2, bad, -width


def _is_quoted(cells: list[str]) -> bool:
    """Whether marks around a cell seem to be more than a part of it."""
    return any(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)


def has_header(first: list[str], is_name: Callable[[str], bool]) -> bool:
    """Whether the first row names the columns: by what it holds of names, and of numbers and dates.

    Args:
        first: Its cells.
        is_name: Whether a cell is a usual name of a column.
    """
    cells = [cell.strip() for cell in first]
    return sum(map(is_name, cells)) > 1 or not any(re.match(r"[+-]?\.?\d", cell) for cell in cells)


@dataclass(frozen=True)
class Block:
    """Some rows that follow each other.

    Args:
        lines: The line that each row begins in.
        rows: The cells of each; none if it is blank or has a problem.
        problems: What is wrong with rows that cannot be read, by their index.
    """

    lines: Sequence[int]
    rows: list[list[str]]
    problems: dict[int, str]


def blocks(text: Iterable[str], dialect: Dialect, n_lines: int = 65536) -> Iterator[Block]:
    """The rows of a text, those of about ``n_lines`` lines at once.

    A row of wrong quotes ends with its first line, so that a mark that is never closed takes no other row with it.
    """
    csv.field_size_limit(_LARGEST_CELL)
    line = 1
    kept: list[str] = []
    for more in batches_of(text, n_lines):
        lines = kept + (_without_missing(more, dialect) if dialect.backslash else more)
        block, used = _parse(lines, dialect, line, is_end=False)
        yield block
        kept, line = lines[used:], line + used
    if kept:
        yield _parse(kept, dialect, line, is_end=True)[0]


def _parse(lines: list[str], dialect: Dialect, first: int, is_end: bool) -> tuple[Block, int]:
    """The rows of some lines, and how many of the lines they take: the last row may go on behind them."""
    try:
        rows = list(_reader(lines, dialect))
    except csv.Error:
        rows = []
    if len(rows) == len(lines):
        return Block(range(first, first + len(rows)), rows, {}), len(lines)
    # Rows of several lines, or of wrong quotes: one at a time.
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
        return f"a cell has more than {_LARGEST_CELL:,} characters, or its quotation mark is never closed"
    return "its quotation marks do not fit together"


def _without_missing(lines: list[str], dialect: Dialect) -> list[str]:
    r"""MySQL writes ``\N`` for a missing value, which the reader would take for an N."""
    mark = re.escape(dialect.delimiter)
    missing = re.compile(rf"(?:(?<={mark})|^)\\N(?={mark}|[\r\n]|$)")
    return [missing.sub("", line) for line in lines]


def is_blank(cells: list[str]) -> bool:
    """Whether a line is no row, since it holds nothing."""
    return not cells or (len(cells) == 1 and not cells[0].strip())


def records(text: Iterable[str], dialect: Dialect) -> Iterator[Record]:
    """The rows of a text one at a time; blank lines are none."""
    for block in blocks(text, dialect):
        for index, (line, cells) in enumerate(zip(block.lines, block.rows, strict=True)):
            if index in block.problems:
                yield line, None, block.problems[index]
            elif not is_blank(cells):
                yield line, cells, None


def first_row(sample: str, dialect: Dialect) -> list[str] | None:
    """The cells of a text's first good row; None if there is none."""
    rows = records(io.StringIO(sample, newline=""), dialect)
    return next((cells for _, cells, _ in rows if cells is not None), None)
