"""Reading the CSV tables of KuaiSAR: whole columns at once, and the exact line of every row that cannot be used."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa

from dataset_converters.bad_rows import BadRows, settle
from dataset_converters.sql_text import literal
from dataset_converters.text_lines import LONGEST_LINE, bounded
from dataset_converters.workspace import one_file, run
from recbole_gserec.errors import DataError

_BUFFER = 2 * LONGEST_LINE
_BYTES_AT_ONCE = 1 << 20
_REJECTED = {
    "MISSING COLUMNS": "too few columns",
    "TOO MANY COLUMNS": "too many columns",
    "UNQUOTED VALUE": "a quotation mark without its partner",
    "INVALID ENCODING": "characters that are not UTF-8",
}
_REMEDIES = {
    "too many columns": "Put quotation marks around values that hold commas.",
    "characters that are not UTF-8": "Convert the file to UTF-8.",
}


def load_csv(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    table: str,
    columns: Mapping[str, str],
    problems: Mapping[str, str],
    required: Iterable[str],
) -> None:
    """Make a table of a CSV file; its ``rowid`` orders the rows as in the file.

    Args:
        connection: Of the workspace.
        path: The file, plain or compressed by gzip, with a header.
        table: To make.
        columns: SQL of the table's columns, keyed by their names. The file's columns are texts; missing ones are NULL.
        problems: SQL conditions of rows that cannot be used, keyed by what is wrong; the first that holds stands in
            the column ``problem``, which is NULL for other rows.
        required: Columns that the file must have.

    Raises:
        DataError: If a column is missing or the file is cut short.
    """
    header = _header(path, required)
    _check_lines(path)
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header)
    problem = " ".join(f"WHEN {condition} THEN {literal(text)}" for text, condition in problems.items())
    try:
        run(
            connection,
            f"""
            CREATE TABLE {table} AS
            SELECT {", ".join(f'{sql} AS "{name}"' for name, sql in columns.items())},
                CASE {problem} END AS problem
            FROM read_csv({literal(one_file(path))}, hive_partitioning = false,
                columns = {{{types}}}, auto_detect = false, header = true,
                delim = ',', quote = '"', escape = '"', strict_mode = true,
                max_line_size = {LONGEST_LINE}, buffer_size = {_BUFFER},
                store_rejects = true, rejects_table = '{table}_rejects', rejects_scan = '{table}_scans')
            """,
            label=f"Reading {path.name}",
        )
    except duckdb.IOException as error:
        if "GZIP" not in str(error):
            raise
        raise DataError(path, "not a whole gzip file", "Get the file anew.") from error
    except duckdb.InvalidInputException as error:
        # Of a row that is no row, or a line end of another kind than the first, that the reader does not set aside.
        problem = f"not CSV that can be read ({str(error).splitlines()[0]})"
        raise DataError(path, problem, "Give the file as it was published, with line ends of one kind.") from error


def settle_csv(
    connection: duckdb.DuckDBPyConnection, path: Path, table: str, action: str, *, rejects: str = "", row: str = "rowid"
) -> list[BadRows]:
    """Raise for the first bad row of a CSV file, or take all bad rows out.

    Args:
        connection: Of the workspace.
        path: The file.
        table: Made by :func:`load_csv`, or from such a table; rows with a ``problem`` are bad.
        action: ``error`` or ``skip``.
        rejects: The table that :func:`load_csv` made, if it is another.
        row: Column of ``table`` with the ``rowid`` of that table.

    Returns:
        The rows left out, those that are no rows of the table's columns included.

    Raises:
        DataError: If the action is ``error`` and there is a bad row.
    """
    rejected = connection.execute(
        f"""
        SELECT line_byte_position, min(error_type::VARCHAR) FROM {rejects or table}_rejects
        GROUP BY line_byte_position ORDER BY line_byte_position
        """
    ).fetchall()
    rows = connection.execute(f"SELECT {row}, problem FROM {table} WHERE problem IS NOT NULL ORDER BY {row}").fetchall()
    if not rejected and not rows:
        return []
    rejected_lines = _lines_of_bytes(path, [position for position, _ in rejected])
    lines = _lines_of_rows(path, [number for number, _ in rows], set(rejected_lines))
    told = [_REJECTED.get(kind, kind.lower()) for _, kind in rejected]
    bad = pa.table(
        {
            "line": pa.array([*rejected_lines, *lines], pa.int64()),
            "problem": pa.array([*told, *(problem for _, problem in rows)], pa.string()),
        }
    )
    connection.register("bad_lines", bad)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE bad_rows AS SELECT {literal(path.name)} AS file, line, problem FROM bad_lines"
    )
    connection.unregister("bad_lines")
    found = settle(connection, "bad_rows", {path.name: path}, action, _REMEDIES)
    connection.execute(f"DELETE FROM {table} WHERE problem IS NOT NULL")
    return found


def _header(path: Path, required: Iterable[str]) -> list[str]:
    """Names of the columns."""
    with bounded(_opened(path), path) as file:
        try:
            first = next(csv.reader([file.readline().decode("utf-8-sig")]), [])
        except UnicodeDecodeError as error:
            raise DataError(path, "characters that are not UTF-8", "Convert the file to UTF-8.", line=1) from error
        except EOFError as error:
            raise DataError(path, "not a whole gzip file", "Get the file anew.") from error
    # A table saved with its index has a first column without a name, which DuckDB does not take.
    names = [name.strip() or f"column{number}" for number, name in enumerate(first, 1)]
    missing = [name for name in required if name not in names]
    if missing:
        raise DataError(path, f"no column {', '.join(missing)}", "Give the file as it was published.", line=1)
    if len(set(names)) < len(names):
        raise DataError(path, "two columns of one name", "Give the file as it was published.", line=1)
    return names


def _check_lines(path: Path) -> None:
    """Refuse a line that is too long: the database may stop there as if the file had ended."""
    with bounded(_opened(path), path) as file:
        try:
            while file.read(_BYTES_AT_ONCE):
                pass
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(path, "not a whole gzip file", "Get the file anew.") from error


def _opened(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _lines_of_bytes(path: Path, positions: list[int]) -> list[int]:
    """The 1-based lines in which ascending positions of a file lie."""
    lines, line, read = [], 1, 0
    with _opened(path) as file:
        for position in positions:
            while read < position and (block := file.read(min(position - read, 2**20))):
                line += block.count(b"\n")
                read += len(block)
            lines.append(line)
    return lines


def _lines_of_rows(path: Path, rows: list[int], rejected_lines: set[int]) -> list[int]:
    """The 1-based lines in which rows begin, given by their ascending 0-based numbers among the rows not rejected.

    Values may hold line breaks, so records have to be read to know where they begin. It is done only if there are bad
    rows, and no further than the last of them.
    """
    if not rows:
        return []
    wanted = iter(rows)
    next_row: int | None = next(wanted)
    lines = []
    for row, line in enumerate(_first_lines(path, rejected_lines)):
        if row == next_row:
            lines.append(line)
            next_row = next(wanted, None)
            if next_row is None:
                break
    return lines


def _first_lines(path: Path, rejected_lines: set[int]) -> Iterator[int]:
    """The first line of each record below the header that is neither blank nor rejected."""
    with bounded(_opened(path), path) as file:
        csv.field_size_limit(2 * LONGEST_LINE)
        reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline=""))
        next(reader, None)
        first = reader.line_num + 1
        for record in reader:
            if record and first not in rejected_lines:
                yield first
            first = reader.line_num + 1
