"""Conversion of text tables to event tables. Every value is checked, and every bad row gets its problem."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dataset_converters.choices import MEANINGS, NO_QUERY
from dataset_converters.logs.cell_text import (
    WHITE_SPACE_PROBLEM,
    item_problem_sql,
    present_id_sql,
    query_sql,
    trimmed_sql,
    user_problem_sql,
)
from dataset_converters.logs.clicks import (
    cell_problem_sql,
    click_problem_sql,
    clicked_sql,
    holds_lists,
    items_problem_sql,
    items_sql,
    unwrapped_sql,
)
from dataset_converters.logs.columns import OPTIONS, Columns, is_clicked_items_name, printable
from dataset_converters.logs.proofs import (
    check_no_counts,
    check_no_flags,
    check_rows_are_clicks,
    check_single_items,
    choose_separator,
)
from dataset_converters.logs.times import Clock, TimeSettings, detect_clock, seconds_sql
from dataset_converters.workspace import count, only_row, run
from recbole_gserec.errors import DataError

_ROWS_GROUPED_AT_ONCE = 1_000_000
#: Advice for bad rows, keyed by the first words of their problem.
ADVICE = {
    "the row has": "Check --delimiter and --quote, or fix the row.",
    "its quotation": "Check --quote, or fix the row.",
    "a cell has": "Check --quote, or fix the row.",
    "user begins": "Check --quote, or fix the row.",
    "item begins": "Check --quote, or fix the row.",
    "not text": "Set --encoding, or fix the row.",
    "not JSON": "Give one JSON object per line.",
    "time is neither": "Set the format of the times: --time-format, as for strptime.",
    "time does not match": "Check --time-format.",
    "time has no day": "Give times with their day.",
    "time is a day": "Set the unit, --time-unit ms, or the format of the clock, --time-format '%Y-%m-%d %H%M%S'.",
    "time is more": "Check the unit of the numbers behind the day: --time-unit.",
    "time can be": "Choose one: --time-unit s, or --time-format '%Y%m%d%H'.",
    "time is in another": "Use one unit for all times of the file, or set --time-unit.",
    "item contains": "Use --replace-spaces. If the column lists several items, set items=COLUMN.",
    "clicked item contains": "Use --replace-spaces, or set the separator of the items: --click-separator.",
    "duplicate item": "Keep one row for each item.",
    "item is a list": "Use one row per item. In a log of searches, set items=COLUMN.",
    "clicked items are split": "Set the separator of the items: --click-separator.",
}


@dataclass(frozen=True)
class CellSettings:
    """CellSettings of the cells.

    Args:
        time: CellSettings of the times.
        click_separator: Separator of the clicked items in a cell. None to detect it.
        replace_spaces: Whether white space in item ids becomes ``_``.
        no_query: Texts that mean "no query", upper or lower case.
    """

    time: TimeSettings
    click_separator: str | None = None
    replace_spaces: bool = False
    no_query: tuple[str, ...] = NO_QUERY


def read_interactions(connection: duckdb.DuckDBPyConnection, settings: CellSettings) -> Clock | None:
    """Create ``read_interactions`` (``source_row, file, line, problem, user, item, seconds``).

    Returns:
        The kind of the times; None if there are no times.
    """
    texts = _trimmed_columns("text_interactions", ["user", "item", "time"])
    clock = detect_clock(connection, texts, settings.time)
    run(
        connection,
        f"""
        CREATE TABLE read_interactions AS
        SELECT source_row, file, line, user, item, seconds, coalesce(
            form, {user_problem_sql("user")}, {item_problem_sql("item", settings.replace_spaces)}, time_problem
        ) AS problem
        FROM ({seconds_sql(texts, clock, settings.time)})
        """,
        label="Checking interactions",
    )
    connection.execute("DROP TABLE text_interactions")
    return clock


def read_items(connection: duckdb.DuckDBPyConnection, columns: Sequence[str], settings: CellSettings) -> None:
    """Create ``read_items`` (``source_row, file, line, problem, item``, then texts) from ``text_items``."""
    names = ", ".join(name for name in columns if name != "item")
    run(
        connection,
        f"""
        CREATE TABLE read_items AS
        SELECT source_row, file, line, item{", " + names if names else ""}, CASE
            WHEN problem IS NULL AND source_row <> min(source_row) FILTER (problem IS NULL) OVER (PARTITION BY item)
            THEN 'duplicate item' ELSE problem END AS problem
        FROM (
            SELECT *, coalesce(form, {item_problem_sql("item", settings.replace_spaces)}) AS problem
            FROM {_trimmed_columns("text_items", columns)}
        )
        ORDER BY source_row
        """,
        label="Checking items",
    )
    connection.execute("DROP TABLE text_items")


@dataclass(frozen=True)
class SearchForm:
    """How the rows of a file make up searches.

    Args:
        row_is_click: Whether a row is one click or one result. Otherwise, a row is one search.
        separator: Separator of the items in a cell.
        grouped_by: Columns with equal values in all rows of one search.
    """

    row_is_click: bool
    separator: str
    grouped_by: tuple[str, ...]

    def __str__(self) -> str:
        each = "one row per click" if self.row_is_click else "one row per search"
        return each + (f"; rows of the same {', '.join(self.grouped_by)} are one search" if self.grouped_by else "")


def detect_search_form(
    connection: duckdb.DuckDBPyConnection,
    columns: Columns,
    requested: Columns,
    found: Sequence[str],
    settings: CellSettings,
    path: Path,
    problems: Collection[str] = (),
) -> tuple[SearchForm, Columns]:
    """Detect how the rows of ``text_searches`` make up searches.

    Args:
        connection: Connection to the workspace, with ``known_items``.
        columns: Columns of each meaning.
        requested: Columns requested by the user.
        found: All columns of the file.
        settings: CellSettings of the cells.
        path: The file, for messages.
        problems: Problems of rows in the other logs.

    Returns:
        The row format, and the columns of each meaning. These can change: a column with the name of a single item may
        contain lists.

    Raises:
        DataError: If the clicked items are ambiguous.
    """
    table, option = "text_searches", OPTIONS["searches"]
    if "item" in columns and holds_lists(connection, table):
        (name,) = columns["item"]
        if "item" in requested or not is_clicked_items_name(name):
            advice = f"If they were clicked, set {option} items={printable(name)}."
            raise DataError(path, f"column '{printable(name)}' contains lists of items, not single items", advice)
        connection.execute(f"ALTER TABLE {table} RENAME COLUMN item TO items")
        columns = {"items" if meaning == "item" else meaning: names for meaning, names in columns.items()}
        for meaning in ("click", "search"):
            if meaning in columns and meaning not in requested:
                columns = {other: names for other, names in columns.items() if other != meaning}
    row_is_click = "item" in columns
    separator = " "
    if "items" in columns:
        (name,) = columns["items"]
        is_guess = "items" not in requested and not is_clicked_items_name(name)
        if is_guess:
            check_no_flags(connection, table, name, path)
        separator = choose_separator(
            connection,
            table,
            path,
            settings.click_separator,
            replace_spaces=settings.replace_spaces,
            ids_hold_spaces=settings.replace_spaces or WHITE_SPACE_PROBLEM in problems,
        )
        if is_guess:
            is_requested = settings.click_separator is not None
            check_no_counts(connection, table, name, separator, path, is_requested=is_requested)
    elif row_is_click and "item" not in requested:
        (name,) = columns["item"]
        check_single_items(connection, table, name, path)
        if "click" not in columns:
            used = {column for names in columns.values() for column in names}
            unused = [column for column in found if column not in used]
            check_rows_are_clicks(name, unused, path)
    one_search = ("user", "query", "search" if "search" in columns else "time")
    grouped_by = one_search if row_is_click or "search" in columns else ()
    return SearchForm(row_is_click, separator, grouped_by), {
        m: columns[m] for m in MEANINGS["searches"] if m in columns
    }


def read_searches(
    connection: duckdb.DuckDBPyConnection, columns: Columns, form: SearchForm, settings: CellSettings
) -> Clock | None:
    """Create ``read_searches`` (``source_row, file, line, problem, user, query, seconds, items, search``).

    Each row is a row of ``text_searches``. :func:`group_searches` later combines rows to searches.

    Returns:
        The kind of the times; None if there are no times.
    """
    texts = _trimmed_columns("text_searches", list(columns))
    if "items" in columns:
        texts = f"(SELECT * REPLACE ({unwrapped_sql('items')} AS items) FROM {texts})"
    clock = detect_clock(connection, texts, settings.time)
    problems = ["form", user_problem_sql("user"), "time_problem"]
    if "items" in columns:
        problems.append(cell_problem_sql("items", form.separator))
        items = items_sql("items", form.separator)
    elif "item" in columns:
        condition = f"{present_id_sql('item')} IS NOT NULL"
        if "click" in columns:
            problems.append(click_problem_sql("click"))
            is_clicked = f"coalesce({clicked_sql('click')}, false)"
            problems.append(
                f"CASE WHEN {is_clicked} AND {present_id_sql('item')} IS NULL THEN 'clicked item is missing' END"
            )
            condition += f" AND {is_clicked}"
        items = f"CASE WHEN {condition} THEN [item] ELSE []::VARCHAR[] END"
    else:
        items = "[]::VARCHAR[]"
    search = present_id_sql("search") if "search" in columns else "NULL::VARCHAR"
    run(
        connection,
        f"""
        CREATE TABLE read_searches AS
        SELECT source_row, file, line, user, query, seconds, items, search,
            coalesce(problem, {items_problem_sql("items", settings.replace_spaces)}) AS problem
        FROM (
            SELECT source_row, file, line, user, {query_sql("query", settings.no_query)} AS query, seconds,
                {search} AS search, coalesce({", ".join(problems)}) AS problem,
                CASE WHEN problem IS NULL THEN {items} END AS items
            FROM ({seconds_sql(texts, clock, settings.time)})
        )
        """,
        label="Checking searches",
    )
    connection.execute("DROP TABLE text_searches")
    return clock


def _trimmed_columns(table: str, columns: Sequence[str]) -> str:
    """Subquery of a text table: trimmed cells, ``source_row``, and ``form``, the problem with a row's format."""
    cells = ", ".join(f"{trimmed_sql(name)} AS {name}" for name in columns)
    return f"(SELECT rowid AS source_row, file, line, problem AS form, {cells} FROM {table})"


def group_searches(connection: duckdb.DuckDBPyConnection, form: SearchForm, item: str) -> float | None:
    """Create ``searches`` from the good rows of ``read_searches``.

    Args:
        connection: Connection to the workspace, with the words of the queries in ``query_texts``.
        form: How the rows make up searches.
        item: SQL that converts an ``entry`` of the items to the id in the dataset.

    Returns:
        The longest time between the first and the last row of a search; None if each row is a search.
    """
    items = f"list_transform(items, lambda entry: {item})" if item != "entry" else "items"
    label = "Combining searches"
    if not form.grouped_by:
        select = f"SELECT user, query, seconds AS time, {items} AS items, source_row FROM read_searches"
        run(connection, f"CREATE TABLE searches AS {select}", label=label)
        return None
    connection.execute(
        "CREATE TABLE searches "
        "(user VARCHAR, query VARCHAR, time DOUBLE, items VARCHAR[], source_row BIGINT, span DOUBLE)"
    )
    # The rows of a search may write its query in a different case or with different marks. Without an id, their times
    # must be equal.
    shared = "user, lower(words), search, CASE WHEN search IS NULL THEN seconds END"
    # A search gets the time of its last click, because a model that sees the search sees all its clicks.
    # DuckDB keeps lists in memory while it builds them, so the searches are made in parts.
    parts = max(1, math.ceil(count(connection, "SELECT count(*) FROM read_searches") / _ROWS_GROUPED_AT_ONCE))
    for part in range(parts):
        run(
            connection,
            f"""
            INSERT INTO searches
            SELECT user, arg_min(query, row(seconds, source_row)),
                coalesce(max(seconds) FILTER (len(items) > 0), min(seconds)),
                flatten(list({items} ORDER BY seconds, source_row)), min(source_row), max(seconds) - min(seconds)
            FROM read_searches JOIN query_texts USING (query)
            WHERE hash({shared}) % {parts} = {part} GROUP BY {shared}
            """,
            label=label,
        )
    (longest,) = only_row(connection, "SELECT max(span) FROM searches")
    connection.execute("ALTER TABLE searches DROP COLUMN span")
    return longest
