"""The steps from log files to the tables of the conversion."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import duckdb

from dataset_converters.bad_rows import BadRows
from dataset_converters.logs.cell_text import id_without_spaces_sql
from dataset_converters.logs.columns import Columns, is_session_name
from dataset_converters.logs.evidence import LogInterpretation, check_spaces, check_times
from dataset_converters.logs.log_settings import Log, LogSettings
from dataset_converters.logs.proofs import (
    check_one_item_per_row,
    check_simultaneous_items,
    collect_known_items,
    is_one_search,
    unify_numeric_ids,
    warn_about_long_searches,
)
from dataset_converters.logs.reader import load_files
from dataset_converters.logs.sql_tables import (
    SearchForm,
    detect_search_form,
    group_searches,
    read_interactions,
    read_items,
    read_searches,
)
from dataset_converters.logs.times import Clock
from dataset_converters.query_words import split_queries
from dataset_converters.workspace import count, literal, only_row, run
from recbole_gserec.errors import DataError
from recbole_gserec.report import plural

# Values that often mean "no click". They are real ids if they are known items.
_MARKS_OF_NONE = ("0", "0.0", "-1", "-1.0", "false", "no", "no click", "noclick", "empty")

BadRowHandler = Callable[[str, Log], list[BadRows]]
"""Function that handles the bad rows of a log's table and returns the rows it removed."""


def read_logs(
    connection: duckdb.DuckDBPyConnection,
    logs: Sequence[Log],
    settings: LogSettings,
    handle_bad_rows: BadRowHandler,
    words: str = "text",
) -> list[LogInterpretation]:
    """Create the tables ``read_interactions``, ``read_searches`` and ``read_items`` with the good rows.

    Args:
        connection: Connection to the workspace.
        logs: The logs to read. Without items, their table is empty.
        settings: How to read the logs.
        handle_bad_rows: Function that handles bad rows.
        words: How to split queries into words (:func:`dataset_converters.query_words.words_of_texts`).

    Returns:
        The interpretation of each log.

    Raises:
        DataError: If a log cannot be read or interpreted.
    """
    settings.cell_settings({}).time.check(connection)
    connection.execute(
        "CREATE TABLE read_items (source_row BIGINT, file VARCHAR, line BIGINT, item VARCHAR, problem VARCHAR)"
    )
    interpretations: dict[str, LogInterpretation] = {}
    # Searches come last, because the known items decide what their cells mean.
    for log in sorted(logs, key=lambda log: log.role == "searches"):
        if log.role == "searches":
            collect_known_items(connection, [*interpretations], settings.replace_spaces, numbers_unified=False)
        problems = [bad.problem for other in interpretations.values() for bad in other.bad_rows]
        interpretations[log.role] = _read(connection, log, settings, handle_bad_rows, words, problems)
        if log.role == "items":
            collect_known_items(connection, [log.role], settings.replace_spaces, numbers_unified=False)
            interactions = interpretations["interactions"]
            name, path = interactions.columns["item"][0], interactions.layouts[0].file.path
            check_one_item_per_row(connection, name, path)
    notes = unify_numeric_ids(connection, [log.role for log in logs])
    searches = interpretations["searches"]
    interpretations["searches"] = replace(searches, warnings=(*searches.warnings, *notes))
    collect_known_items(
        connection,
        [role for role in interpretations if role != "searches"],
        settings.replace_spaces,
        numbers_unified=True,
    )
    return [interpretations[log.role] for log in logs]


def _read(
    connection: duckdb.DuckDBPyConnection,
    log: Log,
    settings: LogSettings,
    handle_bad_rows: BadRowHandler,
    words: str,
    problems: Sequence[str],
) -> LogInterpretation:
    load_files(connection, f"text_{log.role}", log.layouts, log.columns, settings.encoding, settings.no_query)
    rows = count(connection, f"SELECT count(*) FROM text_{log.role}")
    if not rows and log.role == "interactions":
        raise DataError(log.path, "no rows below the header", "Use a file with rows.")
    columns, clock, form = log.columns, None, None
    cells = settings.cell_settings(columns)
    if log.role == "interactions":
        clock = read_interactions(connection, cells)
    elif log.role == "searches":
        requested = settings.columns.get(log.role, {})
        found = log.layouts[0].columns
        form, columns = detect_search_form(connection, columns, requested, found, cells, log.path, problems)
        clock = read_searches(connection, columns, form, cells)
    else:
        connection.execute("DROP TABLE read_items")
        read_items(connection, list(columns), cells)
    bad_rows = handle_bad_rows(f"read_{log.role}", log)
    warnings: list[str] = []
    if form is not None and form.grouped_by:
        split_queries(connection, "read_searches", words)
        is_guess = "item" in columns and "item" not in settings.columns.get(log.role, {})
        if is_guess and "click" not in columns:
            is_position = clock is not None and clock.is_position
            check_simultaneous_items(connection, columns["item"][0], is_position, log.path)
        form, columns, warnings = _searches_by_id(connection, log, form, columns, clock, settings)
    return LogInterpretation(log.role, log.layouts, columns, rows, bad_rows, clock, form, tuple(warnings))


def _searches_by_id(
    connection: duckdb.DuckDBPyConnection,
    log: Log,
    form: SearchForm,
    columns: Columns,
    clock: Clock | None,
    settings: LogSettings,
) -> tuple[SearchForm, Columns, list[str]]:
    """Decide whether a column of search ids groups the rows. Return the row format, the used columns and warnings."""
    if "search" not in columns:
        return form, columns, []
    (name,) = columns["search"]
    is_position = clock is not None and clock.is_position
    if "search" in settings.columns.get(log.role, {}):
        return form, columns, [] if is_position else warn_about_long_searches(connection)
    if is_one_search(connection, name, is_session_name(name), is_position, log.path):
        return form, columns, []
    connection.execute("UPDATE read_searches SET search = NULL")
    columns = {meaning: names for meaning, names in columns.items() if meaning != "search"}
    return replace(form, grouped_by=("user", "query", "time")), columns, []


def check_logs(
    connection: duckdb.DuckDBPyConnection,
    logs: Sequence[Log],
    interpretations: Sequence[LogInterpretation],
    settings: LogSettings,
) -> list[str]:
    """Check that the logs are consistent with each other.

    Returns:
        Warnings.

    Raises:
        DataError: If they are not consistent.
    """
    paths = {log.role: log.path for log in logs}
    if settings.replace_spaces:
        check_spaces(connection, {f"read_{role}": path for role, path in paths.items()})
    clocks = {log.role: log.clock for log in interpretations if log.role != "items"}
    warnings = [warning for log in logs if (warning := log.empty_files_warning())]
    warnings += [warning for role, clock in clocks.items() if clock for warning in clock.warnings(role)]
    warnings += check_times(connection, paths, clocks, settings.allow_disjoint_times)
    return warnings + [
        warning for log in interpretations for warning in (*log.warnings, *_doubts(connection, log, settings))
    ]


def _doubts(connection: duckdb.DuckDBPyConnection, log: LogInterpretation, settings: LogSettings) -> list[str]:
    if log.role != "searches":
        return []
    if not count(connection, "SELECT count(*) FROM read_searches"):
        return ["The log has no searches."]
    others = "SELECT user FROM read_searches INTERSECT SELECT user FROM read_interactions"
    doubts = []
    if not count(connection, f"SELECT count(*) FROM ({others})"):
        doubts.append("No user is in both logs: check that both write user ids in the same form.")
    if {"items", "item"} & set(log.columns):
        doubts += _doubtful_clicks(connection, settings.replace_spaces)
    return doubts + _doubtful_rows(connection, log)


def _doubtful_clicks(connection: duckdb.DuckDBPyConnection, replace_spaces: bool) -> list[str]:
    item = id_without_spaces_sql("item", replace_spaces)
    clicked = f"(SELECT {item} AS id, count(*) AS n FROM (SELECT unnest(items) AS item FROM read_searches) GROUP BY id)"
    n, known = only_row(connection, f"SELECT count(*), count(*) FILTER (id IN (FROM known_items)) FROM {clicked}")
    if not n:
        return ["No search has a clicked item: check which column contains them."]
    if not known:
        none = "The only clicked item is unknown" if n == 1 else f"None of the {n:,} clicked items is known"
        return [
            f"{none} in the other logs: check that all write item ids in the same form, and "
            "which column contains the clicked items."
        ]
    marks = ", ".join(map(literal, _MARKS_OF_NONE))
    rows = connection.execute(
        f"SELECT id, n FROM {clicked} WHERE lower(id) IN ({marks}) AND id NOT IN (FROM known_items) ORDER BY id"
    ).fetchall()
    return [
        f"The clicked item '{name}' ({number:,} {plural('time', number)}) is not a known item: if it means no click, "
        "leave its cells empty."
        for name, number in rows
    ]


def _doubtful_rows(connection: duckdb.DuckDBPyConnection, log: LogInterpretation) -> list[str]:
    if log.form is None or log.form.grouped_by:
        return []
    most, repeated = connection.execute(
        "SELECT max(len(items)), count(*) - count(DISTINCT (user, query, seconds)) FROM read_searches"
    ).fetchall()[0]
    if repeated and most == 1:
        repeat = "search repeats" if repeated == 1 else "searches repeat"
        return [
            f"{repeated:,} {repeat} the user, query and time of another, and no search has two clicked items: "
            "if each row is a click, set the column of the clicked item as item=, not items=."
        ]
    return []


def fill_tables(
    connection: duckdb.DuckDBPyConnection, interpretations: Sequence[LogInterpretation], settings: LogSettings
) -> float | None:
    """Create the tables ``interactions``, ``searches`` and ``items`` from the good rows.

    Returns:
        The duration of the longest search with several rows; None if each row is a search.
    """
    form = next(log.form for log in interpretations if log.form is not None)
    item = id_without_spaces_sql("item", settings.replace_spaces)
    run(
        connection,
        f"""
        CREATE TABLE interactions AS SELECT user, {item} AS item, seconds AS time, source_row FROM read_interactions
        """,
    )
    longest = group_searches(connection, form, id_without_spaces_sql("entry", settings.replace_spaces))
    run(
        connection,
        f"""
        CREATE TABLE items AS
        SELECT {item} AS item, * EXCLUDE (source_row, file, line, item, problem) FROM read_items ORDER BY source_row
        """,
    )
    return longest


def drop_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop the tables that :func:`read_logs` made."""
    for role in ("interactions", "searches", "items"):
        connection.execute(f"DROP TABLE read_{role}")
    connection.execute("DROP TABLE known_items")
