"""Interactions and searches from Qilin's shown notes: what counts as a click, and when a search took place."""

from __future__ import annotations

import duckdb

from dataset_converters.bad_rows import BadRows
from dataset_converters.choices import SEARCH_TIMES, QilinReading
from dataset_converters.qilin_results import RECOMMENDATIONS, SEARCHES, Side
from dataset_converters.workspace import run


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
        copies = f"place NOT IN (SELECT min(place) FROM {side.clicks} GROUP BY {same})"
        left_out += _remove(connection, side.clicks, copies, "duplicate click")
    if side is RECOMMENDATIONS:
        left_out += _grouped(connection, side.table, "NOT clicked", "recommended note that was not clicked")
    elif reading.keep_unclicked:
        connection.execute(
            f"""
            INSERT INTO {side.clicks}
            SELECT * FROM {side.table}
            QUALIFY NOT bool_or(clicked) OVER (PARTITION BY user, request, query)
                AND row_number() OVER (PARTITION BY user, request, query ORDER BY time, place) = 1
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
        f"CREATE TABLE interactions AS SELECT user, item, time, place FROM {RECOMMENDATIONS.clicks}",
    )
    # Searches without clicks are kept, unless every search must have an item.
    join = "JOIN" if reading.keep_unclicked else "LEFT JOIN"
    run(
        connection,
        f"""
        CREATE TABLE queries_issued AS
        SELECT user, request, query, coalesce(clicked_at, shown_at) AS time, coalesce(items, []) AS items, place
        FROM (
            SELECT user, request, query, min(time) AS shown_at, min(place) AS place
            FROM {SEARCHES.table} GROUP BY user, request, query
        )
        {join} (
            SELECT user, request, query, {SEARCH_TIMES[reading.search_time]}(time) AS clicked_at,
                list(item ORDER BY time, place) AS items
            FROM {SEARCHES.clicks} GROUP BY user, request, query
        ) USING (user, request, query)
        """,
        label="Searches",
    )
    first = "QUALIFY row_number() OVER (PARTITION BY user, request ORDER BY query) = 1"
    connection.execute(
        f"""
        CREATE TABLE searches AS
        SELECT user, query, time, items, place FROM queries_issued {first if reading.first_query_only else ""}
        """
    )
    lost = "NOT EXISTS (SELECT 1 FROM searches WHERE searches.place = first_place)"
    return _grouped(
        connection,
        f"(SELECT *, min(place) OVER (PARTITION BY user, request, query) AS first_place FROM {SEARCHES.table})",
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
