"""Files of a log to a table of text, with the file and line of each row and what is wrong with its form."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TextIO

import duckdb
import numpy as np
import pyarrow as pa
from tqdm import tqdm

from dataset_converters import logs_csv, logs_json
from dataset_converters.logs_columns import Columns
from dataset_converters.logs_files import opened
from dataset_converters.logs_layout import Layout, damaged_parquet, place_of
from dataset_converters.sql_text import literal
from dataset_converters.text_lines import batches_of
from dataset_converters.workspace import one_file, run
from recbole_gserec.errors import DataError
from recbole_gserec.narrowing import not_none

_ROWS_AT_ONCE = 65536
_LISTS = ("items", "item")
# Half of a time is none, while a text may lack a part.
_WHOLE = ("time",)


@dataclass(frozen=True)
class Chunk:
    """Some rows.

    Args:
        lines: The line that each begins in.
        cells: Of each meaning, the values of all rows; None where a row has a problem.
        problems: What is wrong with each row.
    """

    lines: Sequence[int]
    cells: list[list[str | None]]
    problems: Sequence[str | None]


def load(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    layouts: Sequence[Layout],
    columns: Columns,
    encoding: str,
    no_query: Collection[str] = (),
) -> None:
    """Make a table of some files.

    Args:
        connection: Of the workspace.
        table: Its name. It gets the columns ``file``, ``line``, ``problem`` and one of text for each meaning, missing
            values being NULL, in the order of the files' rows.
        layouts: Of the files.
        columns: Of the meanings.
        encoding: Of texts.
        no_query: Texts that stand for no query, in any case; they are no part of a query of several columns.

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
    with shown as bar, opened(layout.file, encoding) as (text, raw):
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
    """How the texts of several columns become one.

    Attributes:
        skipped: Texts in lower case that are no part of it.
        whole: Whether it needs all of them.
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
    places = [
        ([place_of(layout, column) for column in names], _joining(meaning, nothing))
        for meaning, names in columns.items()
    ]
    width = len(layout.columns)
    header = layout.header
    for block in logs_csv.blocks(text, not_none(layout.dialect), _ROWS_AT_ONCE):
        # Most blocks hold nothing but good rows. A blank line has the width 0, or 1.
        if not block.problems and not header and width > 1 and set(map(len, block.rows)) == {width}:
            yield Chunk(block.lines, [_cells(block.rows, *each) for each in places], [None] * len(block.rows))
            continue
        lines: list[int] = []
        rows: list[list[str] | None] = []
        problems: list[str | None] = []
        for index, (line, cells) in enumerate(zip(block.lines, block.rows, strict=True)):
            problem = block.problems.get(index)
            if problem is None and logs_csv.is_blank(cells):
                continue
            if problem is None and header:
                header = False
                continue
            if problem is None and len(cells) != width:
                problem = f"it has {len(cells)} cells, not {width}"
            lines.append(line)
            problems.append(problem)
            rows.append(cells if problem is None else None)
        if rows:
            yield Chunk(lines, [_cells(rows, *each) for each in places], problems)


def _cells(rows: Sequence[list[str] | None], places: list[int], joined: _Joining) -> list[str | None]:
    """The cells in some columns, several joined by spaces."""
    good = [row for row in rows if row is not None]
    if len(places) == 1 and len(good) == len(rows):
        return list(map(itemgetter(places[0]), good))
    return [None if row is None else joined([row[place] for place in places]) for row in rows]


def _json_chunks(text: TextIO, columns: Columns, nothing: frozenset[str]) -> Iterator[Chunk]:
    first = 1
    for batch in batches_of(text, _ROWS_AT_ONCE):
        chunk = list(logs_json.records(batch, first))
        first += len(batch)
        if not chunk:
            continue
        lines, objects, problems = zip(*chunk, strict=True)
        cells = [
            _values(objects, names, meaning in _LISTS, _joining(meaning, nothing)) for meaning, names in columns.items()
        ]
        yield Chunk(lines, cells, problems)


def _values(objects: Sequence[dict | None], names: Sequence[str], is_list: bool, joined: _Joining) -> list[str | None]:
    """The values of some names as text, several joined by spaces."""
    if len(names) > 1:
        texts = [_values(objects, [name], is_list, joined) for name in names]
        return [joined(row) for row in zip(*texts, strict=True)]
    values = [None if found is None else found.get(names[0]) for found in objects]
    return [value if type(value) is str else logs_json.as_text(value, is_list) for value in values]


def _arrow(name: str, chunk: Chunk, meanings: list[str], encoding: str) -> pa.Table:
    """Some rows as a table; those with bytes that are no text in the encoding are marked."""
    try:
        texts = [pa.array(column, pa.string()) for column in chunk.cells]
    except UnicodeEncodeError:
        return _arrow(name, _marked(chunk, encoding), meanings, encoding)
    # Every row has the same file: one value and its indices.
    files = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(chunk.lines), np.int32)), pa.array([name]))
    fixed = {"file": files, "line": pa.array(chunk.lines, pa.int64()), "problem": pa.array(chunk.problems, pa.string())}
    return pa.table({**fixed, **dict(zip(meanings, texts, strict=True))})


def _marked(chunk: Chunk, encoding: str) -> Chunk:
    """The same rows, those with a cell that is no text being marked so."""
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
        texts = [_as_text(layout, name, meaning in _LISTS) for name in names if place_of(layout, name) >= 0]
        joined = _joining(meaning, nothing)
        if joined.whole and len(texts) > 1:
            texts = [" || ' ' || ".join(f"nullif(trim({text}), '')" for text in texts)]
        skipped = ", ".join(map(literal, sorted(joined.skipped)))
        said = (f"CASE WHEN lower(trim({text})) NOT IN ({skipped}) THEN {text} END" for text in texts)
        cells.append(texts[0] if len(texts) == 1 else f"concat_ws(' ', {', '.join(said)})")
    # Rows are counted from 1, as lines are.
    select = f"""
        SELECT ?, row_number() OVER (), NULL, {", ".join(cells)} FROM read_parquet(?, hive_partitioning = false)
    """
    try:
        run(
            connection,
            f"INSERT INTO {table} {select}",
            [layout.file.name, one_file(layout.file.path)],
            label=f"Reading {layout.file.name}",
        )
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error as error:
        raise damaged_parquet(layout.file, error) from None


def _as_text(layout: Layout, name: str, is_list: bool) -> str:
    """A column of a Parquet file as text, by its type."""
    kind = layout.types[name]
    column = '"' + name.replace('"', '""') + '"'
    if kind.endswith("[]"):
        entries = f"list_transform({column}, lambda entry: {_scalar('entry', kind.removesuffix('[]'), layout, name)})"
        return f"to_json({entries})::VARCHAR" if is_list else f"array_to_string({entries}, ' ')"
    return _scalar(column, kind, layout, name)


def _scalar(value: str, kind: str, layout: Layout, name: str) -> str:
    if kind.startswith(("STRUCT", "MAP", "UNION")) or kind.endswith("]"):
        raise DataError(layout.file.path, f"column '{name}' holds {kind}", "Give a column of texts, numbers or times.")
    if kind in ("FLOAT", "DOUBLE"):
        # Whole numbers become floats where a table had a missing value: an id of 17 is not 17.0.
        return f"""
            CASE WHEN isfinite({value}) AND {value} = trunc({value}) AND abs({value}) < 1e18
                THEN {value}::BIGINT::VARCHAR WHEN NOT isnan({value}) THEN {value}::VARCHAR END
        """
    if kind.startswith("DECIMAL") and not kind.endswith(",0)"):
        # 17.00 is the id 17, and 17.50 is 17.5, as in a column of floats.
        return f"regexp_replace({value}::VARCHAR, '\\.?0+$', '')"
    if kind == "BLOB":
        # A text without a mark that it is one; bytes that are none become no value.
        return f"try(decode({value}))"
    return f"{value}::VARCHAR"
