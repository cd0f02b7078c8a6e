"""Fast reading of delimited text files of known columns, such as CSV and TSV, with the exact line of every bad row."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa

from dataset_converters.bad_rows import BadRows, handle_bad_rows, mark_repeated
from dataset_converters.choices import Options
from dataset_converters.text_lines import LONGEST_LINE, limit_line_length
from dataset_converters.workspace import escape_pattern, literal, run
from recbole_gserec.errors import DataError

_BUFFER = 2 * LONGEST_LINE
_BYTES_AT_ONCE = 1 << 20
_REJECTED = {
    "MISSING COLUMNS": "too few columns",
    "TOO MANY COLUMNS": "too many columns",
    "UNQUOTED VALUE": "unmatched quotation mark",
    "INVALID ENCODING": "characters that are not UTF-8",
}
_ADVICE = {
    "too many columns": "Put quotation marks around values that contain the delimiter.",
    "characters that are not UTF-8": "Convert the file to UTF-8.",
}


def load_csv(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    table: str,
    columns: Mapping[str, str],
    problems: Mapping[str, str],
    required: Iterable[str],
    *,
    delimiter: str = ",",
) -> None:
    """Create a table from a CSV file. Its ``rowid`` keeps the order of the file.

    Args:
        connection: Connection to the workspace.
        path: The file, with a header, plain or compressed by gzip.
        table: Name of the new table.
        columns: SQL of the table's columns, keyed by their names. The file's columns are texts, with NULL for missing
            values. To cast one, write ``try_cast(trim(time) AS DOUBLE)``: without ``trim``, DuckDB's reader would
            convert the column itself and reject the row for a reason of its own.
        problems: SQL conditions for bad rows, keyed by their problem. The column ``problem`` has the first that is
            true, or NULL.
        required: Columns that the file must have.
        delimiter: Character between the cells.

    Raises:
        DataError: If a column is missing or the file is incomplete.
    """
    header = _header(path, required, delimiter)
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
            FROM read_csv({literal(escape_pattern(path))}, hive_partitioning = false,
                columns = {{{types}}}, auto_detect = false, header = true,
                delim = {literal(delimiter)}, quote = '"', escape = '"', strict_mode = true,
                max_line_size = {LONGEST_LINE}, buffer_size = {_BUFFER},
                store_rejects = true, rejects_table = '{table}_rejects', rejects_scan = '{table}_scans')
            """,
            label=f"Reading {path.name}",
        )
    except duckdb.IOException as error:
        if "GZIP" not in str(error):
            raise
        raise DataError(path, "not a complete gzip file", "Download it again.") from error
    except duckdb.InvalidInputException as error:
        # The reader raises this error for some malformed rows and for mixed line ends.
        problem = f"not valid CSV ({str(error).splitlines()[0]})"
        raise DataError(path, problem, "Use the published file, with line ends of one kind.") from error


def handle_bad_csv_rows(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    table: str,
    action: str,
    *,
    rejects: str = "",
    row: str = "rowid",
    delimiter: str = ",",
) -> list[BadRows]:
    """Raise an error for the first bad row of a CSV file, or remove all bad rows.

    Args:
        connection: Connection to the workspace.
        path: The file.
        table: Table made by :func:`load_csv`, or derived from one. Rows with a ``problem`` are bad.
        action: ``error`` or ``skip``.
        rejects: Name of the table made by :func:`load_csv`, if it is not ``table``.
        row: Column of ``table`` with the ``rowid`` of that table.
        delimiter: As for :func:`load_csv`.

    Returns:
        The rows left out, including those that DuckDB could not parse.

    Raises:
        DataError: If the action is ``error`` and a row is bad.
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
    lines = _lines_of_rows(path, [number for number, _ in rows], set(rejected_lines), delimiter)
    parse_problems = [_REJECTED.get(kind, kind.lower()) for _, kind in rejected]
    bad = pa.table(
        {
            "line": pa.array([*rejected_lines, *lines], pa.int64()),
            "problem": pa.array([*parse_problems, *(problem for _, problem in rows)], pa.string()),
        }
    )
    connection.register("bad_lines", bad)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE bad_rows AS SELECT {literal(path.name)} AS file, line, problem FROM bad_lines"
    )
    connection.unregister("bad_lines")
    found = handle_bad_rows(connection, "bad_rows", {path.name: path}, action, _ADVICE)
    connection.execute(f"DELETE FROM {table} WHERE problem IS NOT NULL")
    return found


def load_items(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    item: str,
    texts: Mapping[str, str],
    problems: Mapping[str, str],
    required: Iterable[str],
    options: Options,
    *,
    delimiter: str = ",",
) -> list[BadRows]:
    """Create ``items`` with the texts of the items in ``interactions`` and ``searches``, or of all items.

    Args:
        connection: Connection to the workspace, with these two tables.
        path: File with one row per item. A second row of an item is bad.
        item: SQL of the item's id.
        texts: SQL of the texts, keyed by their names in the new table.
        problems: As for :func:`load_csv`.
        required: As for :func:`load_csv`.
        options: Options of the conversion.
        delimiter: As for :func:`load_csv`.

    Returns:
        The rows left out.

    Raises:
        DataError: As for :func:`load_csv` and :func:`handle_bad_csv_rows`.
    """
    load_csv(connection, path, "features", {"item": item, **texts}, problems, required, delimiter=delimiter)
    connection.execute(
        """
        CREATE TEMP TABLE mentioned AS SELECT item FROM interactions UNION SELECT unnest(items) FROM searches
        """
    )
    wanted = "true" if options.all_items else "item IN (SELECT item FROM mentioned) OR problem IS NOT NULL"
    names = ", ".join(["item", *texts])
    run(
        connection,
        f"CREATE TABLE items AS SELECT rowid AS row, {names}, problem FROM features WHERE {wanted}",
        label="Items",
    )
    connection.execute("DROP TABLE features; DROP TABLE mentioned")
    mark_repeated(connection, "items", "item", "duplicate item", row="row")
    left_out = handle_bad_csv_rows(
        connection, path, "items", options.bad_rows, rejects="features", row="row", delimiter=delimiter
    )
    connection.execute("ALTER TABLE items DROP COLUMN row; ALTER TABLE items DROP COLUMN problem")
    return left_out


def find_files(folder: Path, names: Sequence[str], layout: str) -> dict[str, Path]:
    """Find files, plain or as ``.gz``, in a folder or in its only subfolder that contains the first of them.

    Args:
        folder: The folder.
        names: Names of the files.
        layout: What the folder should contain, for messages.

    Raises:
        DataError: If a file is missing.
    """
    inside = sorted(path for path in folder.glob("*/") if _in_folder(path, names[0])) if folder.is_dir() else []
    if len(inside) == 1 and not _in_folder(folder, names[0]):
        folder = inside[0]
    found = {}
    for name in names:
        path = _in_folder(folder, name)
        if path is None:
            raise DataError(folder / name, "file not found", layout)
        found[name] = path
    return found


def missing_ids(*columns: str) -> dict[str, str]:
    """Problems of ids for :func:`load_csv`: missing, or with white space, which separates the items of a search."""
    missing = {f"{column} is missing": f"coalesce({column}, '') = ''" for column in columns}
    spaces = {f"{column} contains white space": f"regexp_matches({column}, '[\\s\\pZ]')" for column in columns}
    return missing | spaces


def number_in(column: str) -> str:
    """SQL for the number in a column of text, NULL if it is none."""
    # Without trim(), DuckDB's CSV reader would convert the column itself and raise its own errors.
    return f'try_cast(trim("{column}") AS DOUBLE)'


def not_a_count(column: str) -> str:
    """SQL condition for a column of text that is not a finite number of 0 or more."""
    value = number_in(column)
    return f"NOT coalesce({value} >= 0 AND isfinite({value}), false)"


def _in_folder(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _header(path: Path, required: Iterable[str], delimiter: str) -> list[str]:
    """Read the column names."""
    with limit_line_length(_opened(path), path) as file:
        try:
            first = next(csv.reader([file.readline().decode("utf-8-sig")], delimiter=delimiter), [])
        except UnicodeDecodeError as error:
            raise DataError(path, "characters that are not UTF-8", "Convert the file to UTF-8.", line=1) from error
        except EOFError as error:
            raise DataError(path, "not a complete gzip file", "Download it again.") from error
    # If a table was saved with its index, the first column has no name, which DuckDB does not accept.
    names = [name.strip() or f"column{number}" for number, name in enumerate(first, 1)]
    missing = [name for name in required if name not in names]
    if missing:
        raise DataError(path, f"no column {', '.join(missing)}", "Use the published file.", line=1)
    if len(set(names)) < len(names):
        raise DataError(path, "two columns have the same name", "Use the published file.", line=1)
    return names


def _check_lines(path: Path) -> None:
    """Raise DataError for a line that is too long. DuckDB might silently stop there."""
    with limit_line_length(_opened(path), path) as file:
        try:
            while file.read(_BYTES_AT_ONCE):
                pass
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(path, "not a complete gzip file", "Download it again.") from error


def _opened(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _lines_of_bytes(path: Path, positions: list[int]) -> list[int]:
    """Convert ascending byte positions of a file to 1-based lines."""
    lines, line, read = [], 1, 0
    with _opened(path) as file:
        for position in positions:
            while read < position and (block := file.read(min(position - read, 2**20))):
                line += block.count(b"\n")
                read += len(block)
            lines.append(line)
    return lines


def _lines_of_rows(path: Path, rows: list[int], rejected_lines: set[int], delimiter: str) -> list[int]:
    """Convert ascending 0-based row numbers, without rejected rows, to the 1-based lines in which the rows begin.

    Values may contain line breaks, so all records up to the last bad row must be read. Without bad rows, nothing is
    read.
    """
    if not rows:
        return []
    wanted = iter(rows)
    next_row: int | None = next(wanted)
    lines = []
    for row, line in enumerate(_first_lines(path, rejected_lines, delimiter)):
        if row == next_row:
            lines.append(line)
            next_row = next(wanted, None)
            if next_row is None:
                break
    return lines


def _first_lines(path: Path, rejected_lines: set[int], delimiter: str) -> Iterator[int]:
    """Yield the first line of each record below the header that is neither blank nor rejected."""
    with limit_line_length(_opened(path), path) as file:
        csv.field_size_limit(2 * LONGEST_LINE)
        reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline=""), delimiter=delimiter)
        next(reader, None)
        first = reader.line_num + 1
        for record in reader:
            if record and first not in rejected_lines:
                yield first
            first = reader.line_num + 1
