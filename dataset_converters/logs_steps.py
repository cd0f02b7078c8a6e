"""The steps from files of logs to the tables that the conversion takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import duckdb

from dataset_converters import logs_tables
from dataset_converters.bad_rows import BadRows
from dataset_converters.logs_checks import check_spaces, check_times
from dataset_converters.logs_columns import Columns, is_session
from dataset_converters.logs_proofs import (
    check_moments,
    check_one_item_a_row,
    is_one_search,
    long_searches,
    note_known_items,
    unite_numbers,
)
from dataset_converters.logs_reader import load
from dataset_converters.logs_settings import Log, LogSettings
from dataset_converters.logs_summary import Understood
from dataset_converters.logs_tables import SearchForm
from dataset_converters.logs_text import without_spaces
from dataset_converters.logs_time import Clock
from dataset_converters.query_words import split_queries
from dataset_converters.sql_text import literal
from dataset_converters.workspace import count, only_row, run
from recbole_gserec.errors import DataError
from recbole_gserec.wording import plural

# What tables hold in place of an id where there was no click; also honest ids, where they are known.
_MARKS_OF_NONE = ("0", "0.0", "-1", "-1.0", "false", "no", "no click", "noclick", "empty")

Settle = Callable[[str, Log], list[BadRows]]
"""Deals with the bad rows of a table, which is a log's, and returns those it took out."""


def read(
    connection: duckdb.DuckDBPyConnection,
    logs: Sequence[Log],
    settings: LogSettings,
    settle: Settle,
    words: str = "text",
) -> list[Understood]:
    """Make the tables ``read_interactions``, ``read_searches`` and ``read_items``, of good rows only.

    Args:
        connection: Of the workspace.
        logs: To be read; without one of items, their table is empty.
        settings: How.
        settle: What is done about bad rows.
        words: How queries become words (:func:`dataset_converters.query_words.words_of_texts`).

    Returns:
        What was understood of each log.

    Raises:
        DataError: If a log cannot be read or understood.
    """
    settings.of_cells({}).time.check(connection)
    connection.execute(
        "CREATE TABLE read_items (place BIGINT, file VARCHAR, line BIGINT, item VARCHAR, problem VARCHAR)"
    )
    understood: dict[str, Understood] = {}
    # Searches come last: what their cells mean is told by the items that are known.
    for log in sorted(logs, key=lambda log: log.role == "searches"):
        if log.role == "searches":
            note_known_items(connection, [*understood], settings.replace_spaces, united=False)
        problems = [bad.problem for other in understood.values() for bad in other.bad_rows]
        understood[log.role] = _read(connection, log, settings, settle, words, problems)
        if log.role == "items":
            note_known_items(connection, [log.role], settings.replace_spaces, united=False)
            interactions = understood["interactions"]
            name, path = interactions.columns["item"][0], interactions.layouts[0].file.path
            check_one_item_a_row(connection, name, path)
    notes = unite_numbers(connection, [log.role for log in logs])
    searches = understood["searches"]
    understood["searches"] = replace(searches, warnings=(*searches.warnings, *notes))
    note_known_items(
        connection, [role for role in understood if role != "searches"], settings.replace_spaces, united=True
    )
    return [understood[log.role] for log in logs]


def _read(
    connection: duckdb.DuckDBPyConnection,
    log: Log,
    settings: LogSettings,
    settle: Settle,
    words: str,
    problems: Sequence[str],
) -> Understood:
    load(connection, f"text_{log.role}", log.layouts, log.columns, settings.encoding, settings.no_query)
    rows = count(connection, f"SELECT count(*) FROM text_{log.role}")
    if not rows and log.role == "interactions":
        raise DataError(log.path, "no rows below the header", "Give a file with rows.")
    columns, clock, form = log.columns, None, None
    cells = settings.of_cells(columns)
    if log.role == "interactions":
        clock = logs_tables.read_interactions(connection, cells)
    elif log.role == "searches":
        given = settings.columns.get(log.role, {})
        found = log.layouts[0].columns
        form, columns = logs_tables.search_form(connection, columns, given, found, cells, log.path, problems)
        clock = logs_tables.read_searches(connection, columns, form, cells)
    else:
        connection.execute("DROP TABLE read_items")
        logs_tables.read_items(connection, list(columns), cells)
    bad_rows = settle(f"read_{log.role}", log)
    warnings: list[str] = []
    if form is not None and form.grouped_by:
        split_queries(connection, "read_searches", words)
        is_guess = "item" in columns and "item" not in settings.columns.get(log.role, {})
        if is_guess and "click" not in columns:
            is_position = clock is not None and clock.is_position
            check_moments(connection, columns["item"][0], is_position, log.path)
        form, columns, warnings = _searches_by_id(connection, log, form, columns, clock, settings)
    return Understood(log.role, log.layouts, columns, rows, bad_rows, clock, form, tuple(warnings))


def _searches_by_id(
    connection: duckdb.DuckDBPyConnection,
    log: Log,
    form: SearchForm,
    columns: Columns,
    clock: Clock | None,
    settings: LogSettings,
) -> tuple[SearchForm, Columns, list[str]]:
    """How rows are put together if there is a column of ids of searches, the columns that are used, and warnings."""
    if "search" not in columns:
        return form, columns, []
    (name,) = columns["search"]
    is_position = clock is not None and clock.is_position
    if "search" in settings.columns.get(log.role, {}):
        return form, columns, [] if is_position else long_searches(connection)
    if is_one_search(connection, name, is_session(name), is_position, log.path):
        return form, columns, []
    connection.execute("UPDATE read_searches SET search = NULL")
    columns = {meaning: names for meaning, names in columns.items() if meaning != "search"}
    return replace(form, grouped_by=("user", "query", "time")), columns, []


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
    return warnings + [
        warning for log in understood for warning in (*log.warnings, *_doubts(connection, log, settings))
    ]


def _doubts(connection: duckdb.DuckDBPyConnection, log: Understood, settings: LogSettings) -> list[str]:
    if log.role != "searches":
        return []
    if not count(connection, "SELECT count(*) FROM read_searches"):
        return ["There is no search."]
    others = "SELECT user FROM read_searches INTERSECT SELECT user FROM read_interactions"
    doubts = []
    if not count(connection, f"SELECT count(*) FROM ({others})"):
        doubts.append("No user searches and interacts: check that both logs write user ids alike.")
    if {"items", "item"} & set(log.columns):
        doubts += _doubtful_clicks(connection, settings.replace_spaces)
    return doubts + _doubtful_rows(connection, log)


def _doubtful_clicks(connection: duckdb.DuckDBPyConnection, replace_spaces: bool) -> list[str]:
    item = without_spaces("item", replace_spaces)
    clicked = f"(SELECT {item} AS id, count(*) AS n FROM (SELECT unnest(items) AS item FROM read_searches) GROUP BY id)"
    n, known = only_row(connection, f"SELECT count(*), count(*) FILTER (id IN (FROM known_items)) FROM {clicked}")
    if not n:
        return ["No search has a clicked item: check which column holds them."]
    if not known:
        none = "The one clicked item is not known" if n == 1 else f"None of the {n:,} clicked items is known"
        return [
            f"{none} from the other logs: check that all write item ids alike, and "
            "which column holds the clicked items."
        ]
    marks = ", ".join(map(literal, _MARKS_OF_NONE))
    rows = connection.execute(
        f"SELECT id, n FROM {clicked} WHERE lower(id) IN ({marks}) AND id NOT IN (FROM known_items) ORDER BY id"
    ).fetchall()
    return [
        f"The clicked item '{name}', {number:,} {plural('time', number)}, is no known item: if it means no click, "
        "leave its cells empty."
        for name, number in rows
    ]


def _doubtful_rows(connection: duckdb.DuckDBPyConnection, log: Understood) -> list[str]:
    if log.form is None or log.form.grouped_by:
        return []
    most, repeated = connection.execute(
        "SELECT max(len(items)), count(*) - count(DISTINCT (user, query, seconds)) FROM read_searches"
    ).fetchall()[0]
    if repeated and most == 1:
        repeat = "search repeats" if repeated == 1 else "searches repeat"
        return [
            f"{repeated:,} {repeat} the user, query and time of another, and none has two clicked items: "
            "if each row is a click, name the column of the clicked item item=, not items=."
        ]
    return []


def fill(
    connection: duckdb.DuckDBPyConnection, understood: Sequence[Understood], settings: LogSettings
) -> float | None:
    """Make the tables ``interactions``, ``searches`` and ``items`` of those that were read.

    Returns:
        The longest time that one search of several rows takes; None if each row is a search.
    """
    form = next(log.form for log in understood if log.form is not None)
    item = without_spaces("item", settings.replace_spaces)
    run(
        connection,
        f"""
        CREATE TABLE interactions AS SELECT user, {item} AS item, seconds AS time, place FROM read_interactions
        """,
    )
    longest = logs_tables.group_searches(connection, form, without_spaces("entry", settings.replace_spaces))
    run(
        connection,
        f"""
        CREATE TABLE items AS
        SELECT {item} AS item, * EXCLUDE (place, file, line, item, problem) FROM read_items ORDER BY place
        """,
    )
    return longest


def drop(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop the tables that were read."""
    for role in ("interactions", "searches", "items"):
        connection.execute(f"DROP TABLE read_{role}")
    connection.execute("DROP TABLE known_items")
