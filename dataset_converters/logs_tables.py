"""Tables of text to tables of events: every value checked, every bad row with what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dataset_converters import logs_clicks, logs_proofs, logs_time
from dataset_converters.choices import MEANINGS
from dataset_converters.logs_columns import OPTIONS, Columns, says_clicked, shown
from dataset_converters.logs_text import NO_QUERY, SPACED, item_problem, present, query, trimmed, user_problem
from dataset_converters.logs_time import Clock, TimeSettings
from dataset_converters.workspace import count, only_row, run
from recbole_gserec.errors import DataError

_ROWS_GROUPED_AT_ONCE = 1_000_000
#: What to do about bad rows, by the first words of what is wrong with them.
REMEDIES = {
    "it has": "Check --delimiter and --quote, or mend the row.",
    "its quotation": "Check --quote, or mend the row.",
    "a cell has": "Check --quote, or mend the row.",
    "user begins": "Check --quote, or mend the row.",
    "item begins": "Check --quote, or mend the row.",
    "not text": "Give the file's --encoding, or mend the row.",
    "not JSON": "Give one JSON object a line.",
    "time is no": "Say how times are written: --time-format, as for strptime.",
    "time is in no": "Say how times are written: --time-format, as for strptime.",
    "time is in the": "Check --time-format.",
    "time names": "Give times with their day.",
    "time is a day": "Say the unit, --time-unit ms, or how the clock is written, --time-format '%Y-%m-%d %H%M%S'.",
    "time is more": "Check the unit of what is counted since the day: --time-unit.",
    "time can be": "Say which: --time-unit s, or --time-format '%Y%m%d%H'.",
    "time is in another": "Bring all times of the file to one unit, or say which: --time-unit.",
    "item holds": "Give --replace-spaces; a column that lists several items is named by items=COLUMN.",
    "clicked item holds": "Give --replace-spaces, or say what separates the items: --click-separator.",
    "item is there": "Keep one row for each item.",
    "item is a list": "Give a row for each item; in a log of searches, name the column items=COLUMN.",
    "clicked items are torn": "Say what separates the items: --click-separator.",
}


@dataclass(frozen=True)
class Settings:
    """What the user says of the cells.

    Args:
        time: Of times.
        click_separator: Between the clicked items in a cell; found if it is None.
        replace_spaces: Whether white space in item ids becomes ``_``.
        no_query: Texts that stand for no query, in any case.
    """

    time: TimeSettings
    click_separator: str | None = None
    replace_spaces: bool = False
    no_query: tuple[str, ...] = NO_QUERY


def read_interactions(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Clock | None:
    """Make ``read_interactions`` (``place, file, line, problem, user, item, seconds``) of ``text_interactions``.

    Returns:
        What the times are; None if there are none.
    """
    texts = _trimmed_columns("text_interactions", ["user", "item", "time"])
    clock = logs_time.detect(connection, texts, settings.time)
    run(
        connection,
        f"""
        CREATE TABLE read_interactions AS
        SELECT place, file, line, user, item, seconds, coalesce(
            form, {user_problem("user")}, {item_problem("item", settings.replace_spaces)}, time_problem) AS problem
        FROM ({logs_time.timed(texts, clock, settings.time)})
        """,
        label="Checking interactions",
    )
    connection.execute("DROP TABLE text_interactions")
    return clock


def read_items(connection: duckdb.DuckDBPyConnection, columns: Sequence[str], settings: Settings) -> None:
    """Make ``read_items`` (``place, file, line, problem, item``, then texts) of ``text_items``."""
    names = ", ".join(name for name in columns if name != "item")
    run(
        connection,
        f"""
        CREATE TABLE read_items AS
        SELECT place, file, line, item{", " + names if names else ""}, CASE
            WHEN problem IS NULL AND place <> min(place) FILTER (problem IS NULL) OVER (PARTITION BY item)
            THEN 'item is there a second time' ELSE problem END AS problem
        FROM (
            SELECT *, coalesce(form, {item_problem("item", settings.replace_spaces)}) AS problem
            FROM {_trimmed_columns("text_items", columns)}
        )
        ORDER BY place
        """,
        label="Checking items",
    )
    connection.execute("DROP TABLE text_items")


@dataclass(frozen=True)
class SearchForm:
    """How a file tells searches.

    Args:
        by_click: Whether a row is one click, or one result, rather than one search.
        separator: Between the items in a cell that lists several.
        grouped_by: The columns whose values the rows of one search share.
    """

    by_click: bool
    separator: str
    grouped_by: tuple[str, ...]

    def __str__(self) -> str:
        each = "a row a click" if self.by_click else "a row a search"
        return each + (f"; rows of the same {', '.join(self.grouped_by)} are one search" if self.grouped_by else "")


def search_form(
    connection: duckdb.DuckDBPyConnection,
    columns: Columns,
    given: Columns,
    found: Sequence[str],
    settings: Settings,
    path: Path,
    problems: Collection[str] = (),
) -> tuple[SearchForm, Columns]:
    """Find out how ``text_searches`` tells searches.

    Args:
        connection: Of the workspace, with ``known_items``.
        columns: Of each meaning.
        given: Those that the user names.
        found: All columns of the file.
        settings: As given.
        path: The file, for messages.
        problems: Of rows of the other logs.

    Returns:
        How, and the columns of each meaning, since what looks like one item by its name may turn out to be a list.

    Raises:
        DataError: If the clicked items cannot be understood.
    """
    table, option = "text_searches", OPTIONS["searches"]
    if "item" in columns and logs_clicks.holds_lists(connection, table):
        (name,) = columns["item"]
        if "item" in given or not says_clicked(name):
            remedy = f"Name it, if they were clicked: {option} items={shown(name)}."
            raise DataError(path, f"column '{shown(name)}' holds lists of items, not one item", remedy)
        connection.execute(f"ALTER TABLE {table} RENAME COLUMN item TO items")
        columns = {"items" if meaning == "item" else meaning: names for meaning, names in columns.items()}
        for meaning in ("click", "search"):
            if meaning in columns and meaning not in given:
                columns = {other: names for other, names in columns.items() if other != meaning}
    by_click = "item" in columns
    separator = " "
    if "items" in columns:
        (name,) = columns["items"]
        is_guess = "items" not in given and not says_clicked(name)
        if is_guess:
            logs_proofs.check_no_flags(connection, table, name, path)
        separator = logs_proofs.separator_of(
            connection,
            table,
            path,
            settings.click_separator,
            replace_spaces=settings.replace_spaces,
            ids_hold_spaces=settings.replace_spaces or SPACED in problems,
        )
        if is_guess:
            is_given = settings.click_separator is not None
            logs_proofs.check_no_counts(connection, table, name, separator, path, is_given=is_given)
    elif by_click and "item" not in given:
        (name,) = columns["item"]
        logs_proofs.check_one_item(connection, table, name, path)
        if "click" not in columns:
            used = {column for names in columns.values() for column in names}
            unused = [column for column in found if column not in used]
            logs_proofs.check_clicked(name, unused, path)
    one_search = ("user", "query", "search" if "search" in columns else "time")
    grouped_by = one_search if by_click or "search" in columns else ()
    return SearchForm(by_click, separator, grouped_by), {m: columns[m] for m in MEANINGS["searches"] if m in columns}


def read_searches(
    connection: duckdb.DuckDBPyConnection, columns: Columns, form: SearchForm, settings: Settings
) -> Clock | None:
    """Make ``read_searches`` (``place, file, line, problem, user, query, seconds, items, search``) of its text.

    A row is one of the source's; what is one search is put together by :func:`group_searches`.

    Returns:
        What the times are; None if there are none.
    """
    texts = _trimmed_columns("text_searches", list(columns))
    if "items" in columns:
        texts = f"(SELECT * REPLACE ({logs_clicks.unwrapped('items')} AS items) FROM {texts})"
    clock = logs_time.detect(connection, texts, settings.time)
    problems = ["form", user_problem("user"), "time_problem"]
    if "items" in columns:
        problems.append(logs_clicks.cell_problem("items", form.separator))
        items = logs_clicks.list_of_cell("items", form.separator)
    elif "item" in columns:
        condition = f"{present('item')} IS NOT NULL"
        if "click" in columns:
            problems.append(logs_clicks.click_problem("click"))
            is_clicked = f"coalesce({logs_clicks.clicked('click')}, false)"
            problems.append(f"CASE WHEN {is_clicked} AND {present('item')} IS NULL THEN 'clicked item is missing' END")
            condition += f" AND {is_clicked}"
        items = f"CASE WHEN {condition} THEN [item] ELSE []::VARCHAR[] END"
    else:
        items = "[]::VARCHAR[]"
    search = present("search") if "search" in columns else "NULL::VARCHAR"
    run(
        connection,
        f"""
        CREATE TABLE read_searches AS
        SELECT place, file, line, user, query, seconds, items, search,
            coalesce(problem, {logs_clicks.items_problem("items", settings.replace_spaces)}) AS problem
        FROM (
            SELECT place, file, line, user, {query("query", settings.no_query)} AS query, seconds, {search} AS search,
                coalesce({", ".join(problems)}) AS problem, CASE WHEN problem IS NULL THEN {items} END AS items
            FROM ({logs_time.timed(texts, clock, settings.time)})
        )
        """,
        label="Checking searches",
    )
    connection.execute("DROP TABLE text_searches")
    return clock


def _trimmed_columns(table: str, columns: Sequence[str]) -> str:
    """The rows of a table of text as a subquery, with their place; ``form`` is what is wrong with their form."""
    cells = ", ".join(f"{trimmed(name)} AS {name}" for name in columns)
    return f"(SELECT rowid AS place, file, line, problem AS form, {cells} FROM {table})"


def group_searches(connection: duckdb.DuckDBPyConnection, form: SearchForm, item: str) -> float | None:
    """Make ``searches`` of the good rows of ``read_searches``.

    Args:
        connection: Of the workspace, with the words of the queries in ``query_texts``.
        form: How the rows tell searches.
        item: SQL of the id that is written for an ``entry`` of the items.

    Returns:
        The longest time from the first to the last row of one search; None if each row is a search.
    """
    items = f"list_transform(items, lambda entry: {item})" if item != "entry" else "items"
    label = "Putting searches together"
    if not form.grouped_by:
        select = f"SELECT user, query, seconds AS time, {items} AS items, place FROM read_searches"
        run(connection, f"CREATE TABLE searches AS {select}", label=label)
        return None
    connection.execute(
        "CREATE TABLE searches (user VARCHAR, query VARCHAR, time DOUBLE, items VARCHAR[], place BIGINT, span DOUBLE)"
    )
    # Rows of one search may write its query in other case or with other marks. Without an id, they share its time.
    shared = "user, lower(words), search, CASE WHEN search IS NULL THEN seconds END"
    # A model that sees a search sees all its clicks, so it is not seen before the last of them.
    # Lists that are being put together stay in memory, so searches are made in parts.
    parts = max(1, math.ceil(count(connection, "SELECT count(*) FROM read_searches") / _ROWS_GROUPED_AT_ONCE))
    for part in range(parts):
        run(
            connection,
            f"""
            INSERT INTO searches
            SELECT user, arg_min(query, row(seconds, place)),
                coalesce(max(seconds) FILTER (len(items) > 0), min(seconds)),
                flatten(list({items} ORDER BY seconds, place)), min(place), max(seconds) - min(seconds)
            FROM read_searches JOIN query_texts USING (query)
            WHERE hash({shared}) % {parts} = {part} GROUP BY {shared}
            """,
            label=label,
        )
    (longest,) = only_row(connection, "SELECT max(span) FROM searches")
    connection.execute("ALTER TABLE searches DROP COLUMN span")
    return longest
