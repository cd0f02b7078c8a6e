"""Loading of a log's files into a table of texts, with the file, line and format problem of each row."""

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TextIO

import duckdb
import numpy as np
import pyarrow as pa
from tqdm import tqdm

from dataset_converters.logs.columns import Columns
from dataset_converters.logs.csv_text import is_blank, read_blocks
from dataset_converters.logs.log_settings import Layout, column_index, damaged_parquet
from dataset_converters.logs.sources import as_text, open_text, read_records
from dataset_converters.text_lines import batched_lines
from dataset_converters.workspace import escape_pattern, literal, run
from recbole_gserec.errors import DataError, not_none

_ROWS_AT_ONCE = 65536
_LISTS = ("items", "item")
# If one of several columns is missing, the whole time is missing. Texts may lack a part.
_WHOLE = ("time",)


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows, stored by column.

    Args:
        lines: First line of each row.
        cells: For each meaning, the values of all rows. None for rows with a problem.
        problems: Problem of each row, or None.
    """

    lines: Sequence[int]
    cells: list[list[str | None]]
    problems: Sequence[str | None]


def load_files(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    layouts: Sequence[Layout],
    columns: Columns,
    encoding: str,
    no_query: Collection[str] = (),
) -> None:
    """Load files into a table.

    Args:
        connection: Connection to the workspace.
        table: Name of the new table. Its columns are ``file``, ``line``, ``problem`` and one text column per meaning,
            with NULL for missing values. The rows keep the order of the files.
        layouts: Layouts of the files.
        columns: Columns of each meaning.
        encoding: Encoding of text files.
        no_query: Texts that mean "no query", upper or lower case. They are dropped when a query has several columns.

    Raises:
        DataError: If a file cannot be read or lacks a column.
    """
    meanings = ", ".join(f"{meaning} VARCHAR" for meaning in columns)
    connection.execute(f"CREATE TABLE {table} (file VARCHAR, line BIGINT, problem VARCHAR, {meanings})")
    nothing = frozenset(text.strip().lower() for text in ("", *no_query))
    for layout in layouts:
        if layout.types:
            _load_parquet(connection, table, layout, columns, nothing)
        else:
            _load_text(connection, table, layout, columns, encoding, nothing)


def _load_text(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    layout: Layout,
    columns: Columns,
    encoding: str,
    nothing: frozenset[str],
) -> None:
    size, name = layout.file.path.stat().st_size, layout.file.name
    shown = tqdm(total=size, desc=f"Reading {name}", unit="B", unit_scale=True, leave=False, disable=_hidden())
    with shown as bar, open_text(layout.file, encoding) as (text, raw):
        is_json = layout.dialect is None
        chunks = _json_chunks(text, columns, nothing) if is_json else _csv_chunks(text, layout, columns, nothing)
        for chunk in chunks:
            connection.register("chunk", _arrow(name, chunk, list(columns), encoding))
            connection.execute(f"INSERT INTO {table} SELECT * FROM chunk")
            connection.unregister("chunk")
            bar.update(raw.tell() - bar.n)


def _hidden() -> bool:
    return not sys.stderr.isatty()


@dataclass(frozen=True)
class _Joining:
    """Function that joins the texts of several columns.

    Attributes:
        skipped: Texts to leave out, in lower case.
        whole: Whether the result is missing if one of the texts is missing.
    """

    skipped: frozenset[str]
    whole: bool

    def __call__(self, texts: Sequence[str | None]) -> str | None:
        if self.whole and not all(text and not text.isspace() for text in texts):
            return None
        return " ".join(text for text in texts if text and text.strip().lower() not in self.skipped)


def _joining(meaning: str, nothing: frozenset[str]) -> _Joining:
    return _Joining(nothing if meaning == "query" else frozenset([""]), meaning in _WHOLE)


def _csv_chunks(text: TextIO, layout: Layout, columns: Columns, nothing: frozenset[str]) -> Iterator[Chunk]:
    indices = [
        ([column_index(layout, column) for column in names], _joining(meaning, nothing))
        for meaning, names in columns.items()
    ]
    width = len(layout.columns)
    header = layout.header
    for block in read_blocks(text, not_none(layout.dialect), _ROWS_AT_ONCE):
        # Fast path: most blocks contain only good rows. A blank line has 0 cells or 1 cell.
        if not block.problems and not header and width > 1 and set(map(len, block.rows)) == {width}:
            yield Chunk(block.lines, [_cells(block.rows, *each) for each in indices], [None] * len(block.rows))
            continue
        lines: list[int] = []
        rows: list[list[str] | None] = []
        problems: list[str | None] = []
        for index, (line, cells) in enumerate(zip(block.lines, block.rows, strict=True)):
            problem = block.problems.get(index)
            if problem is None and is_blank(cells):
                continue
            if problem is None and header:
                header = False
                continue
            if problem is None and len(cells) != width:
                problem = f"the row has {len(cells)} cells, not {width}"
            lines.append(line)
            problems.append(problem)
            rows.append(cells if problem is None else None)
        if rows:
            yield Chunk(lines, [_cells(rows, *each) for each in indices], problems)


def _cells(rows: Sequence[list[str] | None], indices: list[int], joined: _Joining) -> list[str | None]:
    """The cells of one or several columns, joined by spaces."""
    good = [row for row in rows if row is not None]
    if len(indices) == 1 and len(good) == len(rows):
        return list(map(itemgetter(indices[0]), good))
    return [None if row is None else joined([row[index] for index in indices]) for row in rows]


def _json_chunks(text: TextIO, columns: Columns, nothing: frozenset[str]) -> Iterator[Chunk]:
    first = 1
    for batch in batched_lines(text, _ROWS_AT_ONCE):
        chunk = list(read_records(batch, first))
        first += len(batch)
        if not chunk:
            continue
        lines, objects, problems = zip(*chunk, strict=True)
        cells = [
            _values(objects, names, meaning in _LISTS, _joining(meaning, nothing)) for meaning, names in columns.items()
        ]
        yield Chunk(lines, cells, problems)


def _values(objects: Sequence[dict | None], names: Sequence[str], is_list: bool, joined: _Joining) -> list[str | None]:
    """The values of one or several keys as text, joined by spaces."""
    if len(names) > 1:
        texts = [_values(objects, [name], is_list, joined) for name in names]
        return [joined(row) for row in zip(*texts, strict=True)]
    values = [None if found is None else found.get(names[0]) for found in objects]
    return [value if type(value) is str else as_text(value, is_list) for value in values]


def _arrow(name: str, chunk: Chunk, meanings: list[str], encoding: str) -> pa.Table:
    """Convert a chunk to a table. Rows that are not valid text in the encoding get a problem."""
    try:
        texts = [pa.array(column, pa.string()) for column in chunk.cells]
    except UnicodeEncodeError:
        return _arrow(name, _marked(chunk, encoding), meanings, encoding)
    # All rows have the same file name, so it is stored once.
    files = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(chunk.lines), np.int32)), pa.array([name]))
    fixed = {"file": files, "line": pa.array(chunk.lines, pa.int64()), "problem": pa.array(chunk.problems, pa.string())}
    return pa.table({**fixed, **dict(zip(meanings, texts, strict=True))})


def _marked(chunk: Chunk, encoding: str) -> Chunk:
    """Copy a chunk, and add a problem to the rows with a cell that is not valid text."""
    good = [all(map(_is_text, row)) for row in zip(*chunk.cells, strict=True)]
    problems = [
        problem if is_good else f"not text in {encoding}" for problem, is_good in zip(chunk.problems, good, strict=True)
    ]
    cells = [[cell if is_good else None for cell, is_good in zip(each, good, strict=True)] for each in chunk.cells]
    return Chunk(chunk.lines, cells, problems)


def _is_text(cell: str | None) -> bool:
    try:
        return cell is None or cell.encode("utf-8") is not None
    except UnicodeEncodeError:
        return False


def _load_parquet(
    connection: duckdb.DuckDBPyConnection, table: str, layout: Layout, columns: Columns, nothing: frozenset[str]
) -> None:
    cells = []
    for meaning, names in columns.items():
        texts = [_as_text(layout, name, meaning in _LISTS) for name in names if column_index(layout, name) >= 0]
        joined = _joining(meaning, nothing)
        if joined.whole and len(texts) > 1:
            texts = [" || ' ' || ".join(f"nullif(trim({text}), '')" for text in texts)]
        skipped = ", ".join(map(literal, sorted(joined.skipped)))
        filled = (f"CASE WHEN lower(trim({text})) NOT IN ({skipped}) THEN {text} END" for text in texts)
        cells.append(texts[0] if len(texts) == 1 else f"concat_ws(' ', {', '.join(filled)})")
    # Rows are counted from 1, like lines.
    select = f"""
        SELECT ?, row_number() OVER (), NULL, {", ".join(cells)} FROM read_parquet(?, hive_partitioning = false)
    """
    try:
        run(
            connection,
            f"INSERT INTO {table} {select}",
            [layout.file.name, escape_pattern(layout.file.path)],
            label=f"Reading {layout.file.name}",
        )
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error as error:
        raise damaged_parquet(layout.file, error) from None


def _as_text(layout: Layout, name: str, is_list: bool) -> str:
    """SQL that converts a column of a Parquet file to text."""
    kind = layout.types[name]
    column = '"' + name.replace('"', '""') + '"'
    if kind.endswith("[]"):
        entries = f"list_transform({column}, lambda entry: {_scalar('entry', kind.removesuffix('[]'), layout, name)})"
        return f"to_json({entries})::VARCHAR" if is_list else f"array_to_string({entries}, ' ')"
    return _scalar(column, kind, layout, name)


def _scalar(value: str, kind: str, layout: Layout, name: str) -> str:
    if kind.startswith(("STRUCT", "MAP", "UNION")) or kind.endswith("]"):
        raise DataError(
            layout.file.path, f"column '{name}' has the type {kind}", "Use a column of texts, numbers or times."
        )
    if kind in ("FLOAT", "DOUBLE"):
        # In a table with missing values, the id 17 was stored as the float 17.0.
        return f"""
            CASE WHEN isfinite({value}) AND {value} = trunc({value}) AND abs({value}) < 1e18
                THEN {value}::BIGINT::VARCHAR WHEN NOT isnan({value}) THEN {value}::VARCHAR END
        """
    if kind.startswith("DECIMAL") and not kind.endswith(",0)"):
        # As with floats, 17.00 becomes 17 and 17.50 becomes 17.5.
        return f"regexp_replace({value}::VARCHAR, '\\.?0+$', '')"
    if kind == "BLOB":
        # The column is text without a text type. Bytes that are not text become NULL.
        return f"try(decode({value}))"
    return f"{value}::VARCHAR"
