"""Qilin: logs of searches and recommendations of the same users of Xiaohongshu, with the notes' texts.

Each clicked note of a recommendation is an interaction; each query is a search, and its clicked notes are its items.

"""

import dataclasses
from pathlib import Path

import duckdb

from dataset_converters.bad_rows import BadRows
from dataset_converters.choices import QILIN, QILIN_DEFAULTS, SEARCH_TIMES, Options, QilinReading
from dataset_converters.conversion import convert
from dataset_converters.qilin.results import (
    NOTES,
    RECOMMENDATIONS,
    SEARCHES,
    Side,
    files_in,
    find_files,
    read_notes,
    read_results,
)
from dataset_converters.workspace import run
from recbole_gserec.errors import SettingError


def choose_clicks(connection: duckdb.DuckDBPyConnection, side: Side, reading: QilinReading) -> list[BadRows]:
    """Create a side's table of clicks from its table of shown notes.

    Returns:
        The recommended notes that were not clicked, and duplicate clicks. Unclicked notes of searches are not counted,
        because they belong to a search.
    """
    connection.execute(f"CREATE TABLE {side.clicks} AS SELECT * FROM {side.table} WHERE clicked")
    left_out = []
    if not reading.as_listed:
        same = "user, request, query, item, position, time"
        copies = f"source_row NOT IN (SELECT min(source_row) FROM {side.clicks} GROUP BY {same})"
        left_out += _remove(connection, side.clicks, copies, "duplicate click")
    if side is RECOMMENDATIONS:
        left_out += _grouped(connection, side.table, "NOT clicked", "recommended note that was not clicked")
    elif reading.keep_unclicked:
        connection.execute(
            f"""
            INSERT INTO {side.clicks}
            SELECT * FROM {side.table}
            QUALIFY NOT bool_or(clicked) OVER (PARTITION BY user, request, query)
                AND row_number() OVER (PARTITION BY user, request, query ORDER BY time, source_row) = 1
            """
        )
    return left_out


def drop_textless(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
    """Remove notes without text from the table ``items``, and the clicks on them."""
    connection.execute("DELETE FROM items WHERE trim(title || content, E' \\t\\r\\n') = ''")
    return [
        left_out
        for side in (RECOMMENDATIONS, SEARCHES)
        for left_out in _remove(
            connection, side.clicks, "item NOT IN (SELECT item FROM items)", "click on a note without text"
        )
    ]


def fill_events(connection: duckdb.DuckDBPyConnection, reading: QilinReading) -> list[BadRows]:
    """Fill ``interactions`` and ``searches`` from the shown notes and the clicks.

    Returns:
        The shown notes of queries that do not become a search.
    """
    connection.execute(
        f"CREATE TABLE interactions AS SELECT user, item, time, source_row FROM {RECOMMENDATIONS.clicks}",
    )
    # Searches without clicks are kept, unless every search must have an item.
    join = "JOIN" if reading.keep_unclicked else "LEFT JOIN"
    run(
        connection,
        f"""
        CREATE TABLE queries_issued AS
        SELECT user, request, query, coalesce(clicked_at, shown_at) AS time, coalesce(items, []) AS items, source_row
        FROM (
            SELECT user, request, query, min(time) AS shown_at, min(source_row) AS source_row
            FROM {SEARCHES.table} GROUP BY user, request, query
        )
        {join} (
            SELECT user, request, query, {SEARCH_TIMES[reading.search_time]}(time) AS clicked_at,
                list(item ORDER BY time, source_row) AS items
            FROM {SEARCHES.clicks} GROUP BY user, request, query
        ) USING (user, request, query)
        """,
        label="Searches",
    )
    first = "QUALIFY row_number() OVER (PARTITION BY user, request ORDER BY query) = 1"
    connection.execute(
        f"""
        CREATE TABLE searches AS
        SELECT user, query, time, items, source_row FROM queries_issued {first if reading.first_query_only else ""}
        """
    )
    lost = "NOT EXISTS (SELECT 1 FROM searches WHERE searches.source_row = first_row)"
    return _grouped(
        connection,
        f"(SELECT *, min(source_row) OVER (PARTITION BY user, request, query) AS first_row FROM {SEARCHES.table})",
        lost,
        "result of a query that is not kept",
    )


def _remove(connection: duckdb.DuckDBPyConnection, table: str, condition: str, problem: str) -> list[BadRows]:
    left_out = _grouped(connection, table, condition, problem)
    connection.execute(f"DELETE FROM {table} WHERE {condition}")
    return left_out


def _grouped(connection: duckdb.DuckDBPyConnection, table: str, condition: str, problem: str) -> list[BadRows]:
    """Count the valid rows of each file that are left out for some other reason."""
    rows = connection.execute(
        f"SELECT file, count(*) FROM {table} WHERE {condition} GROUP BY file ORDER BY file"
    ).fetchall()
    return [BadRows(file, problem, number, ()) for file, number in rows]


def convert_qilin(
    output_dir: str | Path,
    source: str | Path,
    name: str = QILIN,
    reading: QilinReading | None = None,
    *,
    options: Options | None = None,
) -> Path:
    """Make a search-extended dataset from Qilin.

    Args:
        output_dir: Folder of all datasets (RecBole's ``data_path``).
        source: Folder with the folders ``recommendation_train``, ``recommendation_test``, ``search_train``,
            ``search_test`` and ``notes``.
        name: Name of the new dataset.
        reading: How to interpret the logs.
        options: Options of the conversion.

    Returns:
        The dataset's folder ``<output_dir>/<name>``. An existing identical dataset is kept.

    Raises:
        DataError: If the source is missing or malformed, or the output folder has other content.
        SettingError: If an option is invalid.
    """
    reading, options = reading or QilinReading(), options or QILIN_DEFAULTS
    if reading.raw_times and (options.filters.since, options.filters.until) != (None, None):
        raise SettingError("since and until need all times in one unit. Remove raw_times or as_published.")
    files = find_files(Path(source))

    def read(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
        left_out = []
        for side in (RECOMMENDATIONS, SEARCHES):
            shown = read_results(
                connection,
                side,
                files_in(files, side.folders),
                options.bad_rows,
                raw_times=reading.raw_times,
                as_listed=reading.as_listed,
            )
            left_out += shown + choose_clicks(connection, side, reading)
        connection.execute(
            f"""
            CREATE TABLE mentioned AS
            SELECT item FROM {RECOMMENDATIONS.clicks} UNION SELECT item FROM {SEARCHES.clicks}
            """
        )
        left_out += read_notes(
            connection,
            files_in(files, [NOTES]),
            options.bad_rows,
            wanted=None if options.all_items else "mentioned",
            content_length=reading.content_length,
        )
        if reading.drop_textless:
            left_out += drop_textless(connection)
        return left_out + fill_events(connection, reading)

    return convert(
        output_dir,
        name,
        "qilin",
        files,
        read,
        options,
        settings=dataclasses.asdict(reading),
        mixed_units=reading.raw_times,
    )
