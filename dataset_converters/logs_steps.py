"""The steps from files of logs to the tables that the conversion takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb

from dataset_converters import logs_tables
from dataset_converters.bad_rows import BadRows
from dataset_converters.logs_checks import check_spaces, check_times
from dataset_converters.logs_reader import load
from dataset_converters.logs_settings import Log, LogSettings
from dataset_converters.logs_summary import Understood
from dataset_converters.logs_text import without_spaces
from dataset_converters.workspace import count, run
from recbole_gserec.errors import DataError

Settle = Callable[[str, Log], list[BadRows]]
"""Deals with the bad rows of a table, which is a log's, and returns those it took out."""


def read(
    connection: duckdb.DuckDBPyConnection, logs: Sequence[Log], settings: LogSettings, settle: Settle
) -> list[Understood]:
    """Make the tables ``read_interactions``, ``read_searches`` and ``read_items``, of good rows only.

    Args:
        connection: Of the workspace.
        logs: To be read; without one of items, their table is empty.
        settings: How.
        settle: What is done about bad rows.

    Returns:
        What was understood of each log.

    Raises:
        DataError: If a log cannot be read or understood.
    """
    settings.of_cells({}).time.check(connection)
    connection.execute(
        "CREATE TABLE read_items (place BIGINT, file VARCHAR, line BIGINT, item VARCHAR, problem VARCHAR)"
    )
    return [_read(connection, log, settings, settle) for log in logs]


def _read(connection: duckdb.DuckDBPyConnection, log: Log, settings: LogSettings, settle: Settle) -> Understood:
    load(connection, f"text_{log.role}", log.layouts, log.columns, settings.encoding)
    rows = count(connection, f"SELECT count(*) FROM text_{log.role}")
    if not rows and log.role == "interactions":
        raise DataError(log.path, "no rows below the header", "Give a file with rows.")
    columns, clock, form = log.columns, None, None
    cells = settings.of_cells(columns)
    if log.role == "interactions":
        clock = logs_tables.read_interactions(connection, cells)
    elif log.role == "searches":
        given = settings.columns.get(log.role, {})
        form, columns = logs_tables.search_form(connection, columns, given, cells, log.path)
        clock = logs_tables.read_searches(connection, columns, form, cells)
    else:
        connection.execute("DROP TABLE read_items")
        logs_tables.read_items(connection, list(columns), cells)
    return Understood(log.role, log.layouts, columns, rows, settle(f"read_{log.role}", log), clock, form)


def check(
    connection: duckdb.DuckDBPyConnection, logs: Sequence[Log], understood: Sequence[Understood], settings: LogSettings
) -> list[str]:
    """Check what the logs say only together.

    Returns:
        Warnings.

    Raises:
        DataError: If they do not fit together.
    """
    paths = {log.role: log.path for log in logs}
    if settings.replace_spaces:
        check_spaces(connection, {f"read_{role}": path for role, path in paths.items()})
    clocks = {log.role: log.clock for log in understood if log.role != "items"}
    warnings = [warning for log in logs if (warning := log.empty_parts())]
    warnings += [warning for role, clock in clocks.items() if clock for warning in clock.warnings(role)]
    warnings += check_times(connection, paths, clocks, settings.allow_disjoint_times)
    return warnings + [warning for log in understood for warning in _doubts(connection, log)]


def _doubts(connection: duckdb.DuckDBPyConnection, log: Understood) -> list[str]:
    if log.role != "searches":
        return []
    if not count(connection, "SELECT count(*) FROM read_searches"):
        return ["There is no search."]
    others = "SELECT user FROM read_searches INTERSECT SELECT user FROM read_interactions"
    if not count(connection, f"SELECT count(*) FROM ({others})"):
        return ["No user searches and interacts: check that both logs write user ids alike."]
    if log.form is None or log.form.grouped_by:
        return []
    most, repeated = connection.execute(
        "SELECT max(len(items)), count(*) - count(DISTINCT (user, query, seconds)) FROM read_searches"
    ).fetchall()[0]
    if repeated and most == 1:
        return [
            f"{repeated:,} searches repeat the user, query and time of another, and none has two clicked items: "
            "if each row is a click, name the column of the clicked item item=, not items=."
        ]
    return []


def fill(connection: duckdb.DuckDBPyConnection, understood: Sequence[Understood], settings: LogSettings) -> None:
    """Make the tables ``interactions``, ``searches`` and ``items`` of those that were read."""
    form = next(log.form for log in understood if log.form is not None)
    item = without_spaces("item", settings.replace_spaces)
    run(
        connection,
        f"""
        CREATE TABLE interactions AS SELECT user, {item} AS item, seconds AS time, place FROM read_interactions
        """,
    )
    logs_tables.group_searches(connection, form, without_spaces("entry", settings.replace_spaces))
    run(
        connection,
        f"""
        CREATE TABLE items AS
        SELECT {item} AS item, * EXCLUDE (place, file, line, item, problem) FROM read_items ORDER BY place
        """,
    )


def drop(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop the tables that were read."""
    for role in ("interactions", "searches", "items"):
        connection.execute(f"DROP TABLE read_{role}")
