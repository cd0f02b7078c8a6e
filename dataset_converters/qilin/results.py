"""Reading of Qilin's Parquet files. Each shown note of a request becomes a row with its file and line."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from dataset_converters.bad_rows import BadRows, handle_bad_rows
from dataset_converters.workspace import escape_pattern, literal, run
from recbole_gserec.errors import DataError

logger = logging.getLogger(__name__)

_LAYOUT = (
    "--input must be the published folder with recommendation_train, recommendation_test, search_train, search_test "
    "and notes, each with Parquet files."
)
_GET_AGAIN = "Download the published file again."


@dataclass(frozen=True)
class Side:
    """One of the two logs, search or recommendation.

    Args:
        table: Name of the table of its shown notes.
        folders: Folders of its files, in the order of time.
        details: Column with the list of shown notes.
        request: Column with the number of the request.
        query: Column with the text of the query; None for recommendations.
        time: Field of a shown note with its time.
        unit: Length of a time unit in seconds.
    """

    table: str
    folders: tuple[str, ...]
    details: str
    request: str
    query: str | None
    time: str
    unit: float

    @property
    def clicks(self) -> str:
        """Name of the table of clicked notes."""
        return f"{self.table}_clicked"


RECOMMENDATIONS = Side(
    "recommendation_results",
    ("recommendation_train", "recommendation_test"),
    "rec_result_details_with_idx",
    "request_idx",
    None,
    "request_timestamp",
    0.001,
)
SEARCHES = Side(
    "search_results",
    ("search_train", "search_test"),
    "search_result_details_with_idx",
    "search_idx",
    "query",
    "search_timestamp",
    1.0,
)
NOTES = "notes"
FOLDERS = (*RECOMMENDATIONS.folders, *SEARCHES.folders, NOTES)


def find_files(source: Path) -> dict[str, Path]:
    """Paths of the Parquet files, keyed by ``folder/name``, in reading order.

    Raises:
        DataError: If a folder is missing or empty.
    """
    files: dict[str, Path] = {}
    for folder in FOLDERS:
        if not (source / folder).is_dir():
            raise DataError(source / folder, "folder not found", _LAYOUT)
        found = sorted((source / folder).glob("*.parquet"))
        if not found:
            raise DataError(source / folder, "the folder has no Parquet files", _LAYOUT)
        filled = [path for path in found if path.stat().st_size]
        if not filled:
            raise DataError(source / folder, f"all {len(found):,} Parquet files in the folder are empty", _GET_AGAIN)
        for path in found:
            if path not in filled:
                logger.warning("%s/%s is empty and is left out.", folder, path.name)
        files |= {f"{folder}/{path.name}": path for path in filled}
    return files


def files_in(files: Mapping[str, Path], folders: Iterable[str]) -> dict[str, Path]:
    """The files in the listed folders."""
    return {name: path for folder in folders for name, path in files.items() if name.startswith(f"{folder}/")}


def read_results(
    connection: duckdb.DuckDBPyConnection,
    side: Side,
    files: Mapping[str, Path],
    action: str,
    *,
    raw_times: bool = False,
    as_listed: bool = False,
) -> list[BadRows]:
    """Fill a side's table: ``file, line, user, request, query, item, position, clicked, time, source_row``.

    Args:
        connection: Connection to the workspace.
        side: The log to read.
        files: Files of the log.
        action: What to do with bad rows: ``error`` or ``skip``.
        raw_times: Keep times in the unit of the files.
        as_listed: Order notes as in the list, not by their position on the screen.

    Returns:
        The shown notes left out.

    Raises:
        DataError: If a column is missing, a file is damaged, or the action is ``error`` and a row is bad.
    """
    connection.execute(
        """
        CREATE TABLE shown (
            file VARCHAR, file_number INTEGER, line BIGINT, listed BIGINT, position DOUBLE, user VARCHAR,
            request VARCHAR, query VARCHAR, item VARCHAR, clicked BOOLEAN, time DOUBLE, problem VARCHAR
        )
        """
    )
    for number, (name, path) in enumerate(files.items()):
        columns = ["user_idx", side.request, side.details, *([side.query] if side.query else [])]
        _check_columns(connection, path, columns, side.details, ("note_idx", "click", "position", side.time))
        _run(connection, path, _insert(side, name, number, raw_times), [escape_pattern(path)])
    left_out = handle_bad_rows(connection, "shown", files, action)
    order = "listed" if as_listed else "position NULLS LAST, listed"
    connection.execute(
        f"""
        CREATE TABLE {side.table} AS
        SELECT file, line, user, request, query, item, position, clicked, time,
            row_number() OVER (ORDER BY file_number, line, {order}) AS source_row
        FROM shown;
        DROP TABLE shown
        """
    )
    return left_out


def read_notes(
    connection: duckdb.DuckDBPyConnection,
    files: Mapping[str, Path],
    action: str,
    *,
    wanted: str | None,
    content_length: int,
) -> list[BadRows]:
    """Fill the table ``items``: ``item, title, content``.

    Args:
        connection: Connection to the workspace.
        files: Files of the notes.
        action: ``error`` or ``skip``.
        wanted: Table with the needed notes (``item``); None for all notes.
        content_length: Maximum length of a note's content in characters.

    Returns:
        The notes left out.

    Raises:
        DataError: If a column is missing, a file is damaged, or the action is ``error`` and a row is bad.
    """
    connection.execute(
        """
        CREATE TABLE notes (
            file VARCHAR, file_number INTEGER, line BIGINT, item VARCHAR, title VARCHAR, content VARCHAR,
            problem VARCHAR
        )
        """
    )
    condition = f"WHERE item IS NULL OR item IN (SELECT item FROM {wanted})" if wanted else ""
    for number, (name, path) in enumerate(files.items()):
        _check_columns(connection, path, ["note_idx", "note_title", "note_content"])
        select = f"""
            INSERT INTO notes
            SELECT {literal(name)}, {number}, line, item, title, content,
                CASE WHEN item IS NULL THEN 'note_idx is missing' END
            FROM (
                SELECT file_row_number + 1 AS line, {_id("note_idx")} AS item,
                    coalesce(note_title::VARCHAR, '') AS title,
                    left(coalesce(note_content::VARCHAR, ''), {content_length}) AS content
                FROM read_parquet(?, file_row_number = true, hive_partitioning = false)
            ) {condition}
        """
        _run(connection, path, select, [escape_pattern(path)])
    connection.execute(
        """
        UPDATE notes SET problem = 'duplicate note_idx'
        FROM (
            SELECT file_number, line, row_number() OVER (PARTITION BY item ORDER BY file_number, line) AS appearance
            FROM notes WHERE item IN (SELECT item FROM notes GROUP BY item HAVING count(*) > 1)
        ) AS repeated
        WHERE repeated.appearance > 1 AND notes.file_number = repeated.file_number AND notes.line = repeated.line
        """
    )
    left_out = handle_bad_rows(connection, "notes", files, action)
    run(connection, "CREATE TABLE items AS SELECT item, title, content FROM notes", label="Notes")
    connection.execute("DROP TABLE notes")
    return left_out


def _insert(side: Side, name: str, number: int, raw_times: bool) -> str:
    """SQL that inserts the shown notes of one file. A search without shown notes becomes a row without a note."""
    # Times must lie between the years 1973 and 5138 in the documented unit, so that another unit is an error.
    low, high = ("1e-300", "1e300") if raw_times else (repr(1e8 / side.unit), repr(1e11 / side.unit))
    time = "time" if raw_times else f"time * {side.unit}" if side.unit == 1 else f"time / {round(1 / side.unit)}"
    unit = "positive number" if raw_times else "time in seconds" if side.unit == 1 else "time in milliseconds"
    query = f"coalesce({side.query}::VARCHAR, '')" if side.query else "''"
    empty = f"CASE WHEN len({side.details}) > 0 THEN {side.details} ELSE [NULL] END" if side.query else side.details
    return f"""
        INSERT INTO shown
        SELECT {literal(name)}, {number}, line, listed, position, user, request, query, item,
            click > 0, {time},
            CASE
                WHEN user IS NULL THEN 'user_idx is missing'
                WHEN request IS NULL THEN '{side.request} is missing'
                WHEN item IS NULL AND time IS NULL THEN 'no shown notes, so no time'
                WHEN item IS NULL THEN 'note_idx is missing'
                WHEN NOT coalesce(click >= 0 AND isfinite(click), false) THEN 'click is not a number of 0 or more'
                WHEN NOT coalesce(time BETWEEN {low} AND {high}, false) THEN '{side.time} is not a {unit}'
            END
        FROM (
            SELECT line, listed, {_id("user_idx")} AS user, {_id(side.request)} AS request, query,
                {_id("note.note_idx")} AS item, {_number("note.click")} AS click,
                {_number("note.position")} AS position, {_number("note." + side.time)} AS time
            FROM (
                SELECT file_row_number + 1 AS line, user_idx, {side.request}, {query} AS query,
                    unnest({empty}) AS note, generate_subscripts({empty}, 1) AS listed
                FROM read_parquet(?, file_row_number = true, hive_partitioning = false)
            )
        )
    """


def _check_columns(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    columns: Iterable[str],
    details: str | None = None,
    fields: Iterable[str] = (),
) -> None:
    """Raise DataError if a column of a file, or a field in its lists of shown notes, is missing."""
    select = "SELECT * FROM read_parquet(?, hive_partitioning = false)"
    described = _run(connection, path, f"DESCRIBE {select}", [escape_pattern(path)])
    kinds = {name for name, *_ in described}
    missing = [column for column in columns if column not in kinds]
    if missing:
        raise DataError(path, f"no column {', '.join(missing)}", _GET_AGAIN)
    if details is None:
        return
    kind: Any = connection.read_parquet(escape_pattern(path), hive_partitioning=False).select(details).types[0]
    if kind.id != "list" or kind.children[0][1].id != "struct":
        raise DataError(path, f"{details} is {kind}, not a list of shown notes", _GET_AGAIN)
    known = [name for name, _ in kind.children[0][1].children]
    missing = [field for field in fields if field not in known]
    if missing:
        raise DataError(path, f"no {', '.join(missing)} in {details}", _GET_AGAIN)


def _run(connection: duckdb.DuckDBPyConnection, path: Path, sql: str, parameters: list) -> list[tuple]:
    try:
        run(connection, sql, parameters, label=f"Reading {path.parent.name}/{path.name}")
        return connection.fetchall()
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error as error:
        # If the error does not mention the file, the workspace's own disk may be the problem.
        if isinstance(error, duckdb.IOException) and path.name not in str(error):
            raise
        raise DataError(path, f"not a complete Parquet file ({str(error).splitlines()[0]})", _GET_AGAIN) from error


def _id(column: str) -> str:
    """SQL for an id stored as any type (``7``, ``7.0``, ``'7'``); NULL if it is missing."""
    return f"nullif(nullif(regexp_replace(trim({column}::VARCHAR), '\\.0$', ''), ''), 'nan')"


def _number(field: str) -> str:
    """SQL for a number stored as any type. Booleans become 0 and 1."""
    return f"coalesce(try_cast({field}::VARCHAR AS DOUBLE), try_cast({field}::VARCHAR AS BOOLEAN)::DOUBLE)"
