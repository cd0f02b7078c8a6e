"""What the data of logs proves where names of columns leave two meanings; what it does not prove, the user is asked.

The known items are those that are interacted with or have a row of texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dataset_converters import logs_clicks
from dataset_converters.choices import SEPARATORS
from dataset_converters.logs_clicks import list_of_cell, split, told_separator, unwrapped
from dataset_converters.logs_columns import OPTIONS, kinds_of_rows, says_clicked, shown
from dataset_converters.logs_text import IS_LIST, MISSING, trimmed, without_spaces
from dataset_converters.sql_text import literal
from dataset_converters.workspace import count, only_row
from recbole_gserec.errors import DataError

_OPTION = OPTIONS["searches"]
_NUMBER = r"[+-]?(\d+(\.\d*)?|\.\d+)"
# An id as tables write it in which whole numbers became floats.
_WHOLE_FLOAT = r"\d+\.0*"
# No search has so many clicks, nor so many results that are looked at.
_MOST_CLICKS, _MOST_RESULTS = 1000, 100
# Clicked ids are spread over all ids; numbers that all lie in so small a part of them are places.
_SMALL_PART = 10
_THOUSANDS = r"\d{1,3}(,\d{3})+"
# Marks that separate items now and then, and are parts of ids and addresses more often.
_RARE_SEPARATORS = ("/", "+", "&", "~", ":", "#", "^", "@", "_", "-", ">", "->", "，", "、", "；", "｜")
# Beside another mark, a space is a part of the separator.
_SPACE_BETWEEN = r"[^\s,;|]\s+[^\s,;|]"
# Rows of one session and query that are further apart, in seconds, are different searches.
_SESSION_GAP = 1800
# A search that takes longer, in seconds, is doubtful.
_LONGEST_SEARCH = 86400
_SEARCH_ROWS = "(SELECT * FROM read_searches JOIN query_texts USING (query) WHERE search IS NOT NULL)"
_SPANS = f"""
    (SELECT user, min(query), search, max(seconds) - min(seconds) AS span FROM {_SEARCH_ROWS}
    GROUP BY user, lower(words), search)
"""


def note_known_items(
    connection: duckdb.DuckDBPyConnection, roles: Sequence[str], replace_spaces: bool, *, united: bool
) -> None:
    """Make ``known_items`` (``id``) of the good rows of some logs.

    Args:
        connection: Of the workspace.
        roles: Of the logs.
        replace_spaces: Whether white space in item ids will be replaced.
        united: Whether numbers are written alike in all logs (:func:`unite_numbers`); if not yet, 17.0 is noted as 17.
    """
    item = without_spaces("item", replace_spaces) if united else _comparable("item", replace_spaces)
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE known_items AS SELECT DISTINCT {item} AS id
        FROM ({" UNION ALL ".join(f"SELECT item FROM read_{role}" for role in roles)})
        """
    )


def _comparable(item: str, replace_spaces: bool = False) -> str:
    """SQL of an id as it is compared: 17.0 is 17."""
    whole = (
        f"CASE WHEN regexp_full_match({item}, {literal(_WHOLE_FLOAT)}) THEN split_part({item}, '.', 1) ELSE {item} END"
    )
    return without_spaces(whole, replace_spaces)


@dataclass(frozen=True)
class Separator:
    """What is known of the separator of items in cells.

    Args:
        separator: The mark, the empty text for one id in each cell, or None if neither is proven.
        marks: Separators that the cells may have: usual ones that they hold, and a rare one between known items.
        example: A cell that holds one.
    """

    separator: str | None
    marks: list[str]
    example: str | None


@dataclass(frozen=True)
class _Reading:
    """How well a separator explains the cells that hold any.

    Args:
        separator: The mark; the empty text for one id in each cell.
        missed: Cells in which it knows nothing, or not all, while another one does.
        known: Entries that it knows.
        explained: Cells in which it knows all entries.
    """

    separator: str
    missed: int
    known: int
    explained: int


def proven_separator(connection: duckdb.DuckDBPyConnection, table: str, column: str, replace_spaces: bool) -> Separator:
    """What separates the items in those cells that are no lists in brackets.

    Both readings of a cell, one id or several, are compared with the known items: that reading is proven which alone
    knows an entry of every cell in which any knows one, and all entries where any knows all. A list that is cut short
    or printed says nothing of the others: its row is bad.

    Args:
        connection: Of the workspace, with ``known_items``.
        table: Has the column of text.
        column: Its name.
        replace_spaces: Whether white space in item ids will be replaced.
    """
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE cells AS SELECT DISTINCT cell
        FROM (
            SELECT {trimmed(column)} AS cell FROM (SELECT DISTINCT {column} FROM {table} WHERE problem IS NULL)
        )
        WHERE cell NOT IN ({MISSING}) AND regexp_matches(cell, '[^\\pL\\pN]')
            AND NOT regexp_full_match(cell, {literal(IS_LIST)}) AND NOT {logs_clicks.is_broken_list("cell")}
        """
    )
    usual = [mark for mark in SEPARATORS.values() if mark]
    marks = [mark for mark in usual if _occurs(connection, _holds(mark))]
    found = _proven(_readings(connection, ["", *marks], replace_spaces)) if marks else None
    if found is None:
        rare = [mark for mark in _RARE_SEPARATORS if _occurs(connection, _joins(mark))]
        readings = _readings(connection, ["", *marks, *rare], replace_spaces) if rare else []
        proven = _proven(readings, in_full=True)
        if proven in rare:
            marks.append(proven)
        elif marks:
            found = proven
    example = None
    if marks:
        (example,) = only_row(connection, f"SELECT min(cell) FROM cells WHERE {' OR '.join(map(_holds, marks))}")
    connection.execute("DROP TABLE cells")
    return Separator(found, marks, example)


def _holds(mark: str) -> str:
    return f"regexp_matches(cell, {literal(_SPACE_BETWEEN)})" if mark == " " else f"contains(cell, {literal(mark)})"


def _joins(mark: str) -> str:
    """SQL of whether a mark stands between letters or digits."""
    between = rf"[\pL\pN]{re.escape(mark)}[\pL\pN]"
    return f"regexp_matches(cell, {literal(between)})"


def _occurs(connection: duckdb.DuckDBPyConnection, condition: str) -> bool:
    return count(connection, f"SELECT count(*) FROM (SELECT 1 FROM cells WHERE {condition} LIMIT 1)") > 0


def _readings(connection: duckdb.DuckDBPyConnection, separators: Sequence[str], replace_spaces: bool) -> list[_Reading]:
    """How well each separator explains the table ``cells``."""
    texts = " UNION ALL ".join(
        f"SELECT cell, {number} AS reading, {split('cell', separator)} AS entries FROM cells"
        for number, separator in enumerate(separators)
    )
    values = connection.execute(
        f"""
        SELECT reading, count(*) FILTER ((best > 0 AND known = 0) OR (any_whole AND known < n)), sum(known),
            count(*) FILTER (known = n)
        FROM (
            SELECT *, max(known) OVER (PARTITION BY cell) AS best,
                bool_or(known = n) OVER (PARTITION BY cell) AS any_whole
            FROM (
                SELECT cell, reading, count(id) AS known, count(*) AS n
                FROM (SELECT cell, reading, unnest(entries) AS entry FROM ({texts}))
                LEFT JOIN known_items ON {_comparable("entry", replace_spaces)} = id GROUP BY cell, reading
            )
        ) GROUP BY reading ORDER BY reading
        """
    ).fetchall()
    return [_Reading(separators[reading], *numbers) for reading, *numbers in values]


def _proven(readings: Sequence[_Reading], in_full: bool = False) -> str | None:
    """The separator of the only reading that misses nothing, if it knows something, or explains a cell in full."""
    found = [reading for reading in readings if not reading.missed and reading.known]
    return found[0].separator if len(found) == 1 and (found[0].explained or not in_full) else None


def separator_of(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    path: Path,
    given: str | None,
    *,
    replace_spaces: bool,
    ids_hold_spaces: bool,
) -> str:
    """What separates the items in the column ``items``.

    Args:
        connection: Of the workspace, with ``known_items``.
        table: Has the text column ``items``.
        path: The file, for messages.
        given: A name or the separator itself, if the user says it.
        replace_spaces: Whether white space in item ids will be replaced.
        ids_hold_spaces: Whether item ids of the other logs hold white space, or may; otherwise a space separates.

    Raises:
        DataError: If it is not proven.
    """
    if given is not None:
        return logs_clicks.named_separator(given)
    proven = proven_separator(connection, table, "items", replace_spaces)
    if proven.separator is not None:
        return proven.separator
    if not proven.marks or (proven.marks == [" "] and not ids_hold_spaces):
        return " "
    problem = (
        f"clicked items such as {_short(proven.example)} may be one id or several, and the known items do not tell"
    )
    raise DataError(path, problem, "Say what separates them: --click-separator, 'none' where each cell is one id.")


def check_one_item(connection: duckdb.DuckDBPyConnection, table: str, name: str, path: Path) -> None:
    """Check that the cells of the column ``item``, which has a name of single items, are proven to be no lists.

    Raises:
        DataError: If several known items stand in a cell.
    """
    proven = proven_separator(connection, table, "item", False)
    rare = [mark for mark in proven.marks if mark in _RARE_SEPARATORS]
    mark = proven.separator or "".join(rare)
    if mark:
        separated = f"separated by {told_separator(mark)}, such as {_short(proven.example)}"
        problem = f"column '{shown(name)}' holds several known items in a cell, {separated}"
        remedy = (
            f"Name it: {_OPTION} items={shown(name)} if they were clicked, item={shown(name)} if each cell is one id."
        )
        raise DataError(path, problem, remedy)


def check_one_item_a_row(connection: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    """Check that the interactions, which are read, have no more than one of the items that have a row of texts each.

    Raises:
        DataError: If several stand in a cell.
    """
    proven = proven_separator(connection, "read_interactions", "item", False)
    if proven.separator:
        problem = f"column '{shown(name)}' holds several items in a cell, such as {_short(proven.example)}"
        raise DataError(path, problem, "Give a row for each item.")


def check_no_flags(connection: duckdb.DuckDBPyConnection, table: str, name: str, path: Path) -> None:
    """Raise DataError if the column ``items`` says no more than whether something was clicked."""
    if logs_clicks.holds_flags(connection, table):
        problem = f"column '{shown(name)}' tells only whether there was a click, not the clicked items"
        raise DataError(
            path,
            problem,
            f"Name the column of the items: {_OPTION} item=COLUMN or items=COLUMN; items=- if they are not known.",
        )


def check_no_counts(
    connection: duckdb.DuckDBPyConnection, table: str, name: str, separator: str, path: Path, *, is_given: bool
) -> None:
    """Check that the column ``items`` is proven to hold ids, not numbers of clicks, or places or marks in a list.

    Args:
        connection: Of the workspace, with ``known_items``.
        table: Has the text column ``items``.
        name: Of the column.
        separator: Of the items in a cell.
        path: The file, for messages.
        is_given: Whether the user says the separator; otherwise ``1,204`` is one number.

    Raises:
        DataError: If it is not.
    """
    cells = f"(SELECT DISTINCT {unwrapped(trimmed('items'))} AS cell FROM {table} WHERE problem IS NULL)"
    is_number = "false" if is_given else f"regexp_full_match(cell, {literal(_THOUSANDS)})"
    several = f"CASE WHEN {is_number} THEN [cell] ELSE {list_of_cell('cell', separator)} END"
    entries = f"""
        (SELECT DISTINCT entry, has_several, is_list FROM (
            SELECT unnest(entries) AS entry, len(entries) > 1 AS has_several,
                len(entries) > 1 OR regexp_full_match(cell, {literal(IS_LIST)}) AS is_list
            FROM (SELECT cell, {several} AS entries FROM {cells}))
        WHERE entry IS NOT NULL)
    """
    number = f"""
        CASE WHEN regexp_full_match(entry, {literal(_NUMBER)}) THEN try_cast(entry AS DOUBLE)
            WHEN regexp_full_match(entry, {literal(_THOUSANDS)}) THEN try_cast(replace(entry, ',', '') AS DOUBLE)
            WHEN lower(entry) IN ({logs_clicks.FLAGS}) THEN 1 END
    """
    texts, n, several, lists, least, most, known, examples = only_row(
        connection,
        f"""
        SELECT count(id) FILTER (number IS NULL), count(number), count(number) FILTER (has_several),
            count(number) FILTER (is_list), min(number), max(number), count(id),
            min(entry, 3) FILTER (number IS NOT NULL)
        FROM (SELECT *, {number} AS number FROM {entries}) LEFT JOIN known_items ON {_comparable("entry")} = id
        """,
    )
    # One word that is a known item proves that the numbers beside it are ids too.
    if texts or not n:
        return
    other = "places in a list of results, or marks of those clicked" if lists else "numbers of clicks"
    if not several:
        # Greater than any number of clicks and, for the most part, known.
        meant = least > _MOST_CLICKS and 2 * known >= n
    else:
        (highest,) = only_row(connection, "SELECT max(try_cast(id AS DOUBLE)) FROM known_items")
        small = most <= _MOST_RESULTS and (highest or 0) > _SMALL_PART * most
        meant = not (most <= 1 or small or (not known and most <= _MOST_CLICKS))
    if not meant:
        problem = f"column '{shown(name)}' holds numbers ({', '.join(examples)}): {other}, or item ids"
        remedy = (
            f"Say which: {_OPTION} items={shown(name)} if they are ids of clicked items; items=COLUMN or item=COLUMN "
            "for another column of them; items=- if clicked items are not known."
        )
        raise DataError(path, problem, remedy)


def check_clicked(name: str, found: Sequence[str], path: Path) -> None:
    """Check that no column may tell which rows are clicks, where rows have one ``item`` and no flag.

    Args:
        name: Of the column of the item.
        found: All columns that have no meaning yet.
        path: The file, for messages.

    Raises:
        DataError: If one may.
    """
    kinds = [] if says_clicked(name) else kinds_of_rows(found)
    if kinds:
        problem = f"rows with an item may be results that were shown, or clicks: column '{shown(kinds[0])}' may tell"
        raise DataError(path, problem, _click_remedy(name))


def check_moments(connection: duckdb.DuckDBPyConnection, name: str, is_position: bool, path: Path) -> None:
    """Check that the rows of searches, which have one item and no flag, are proven to be clicks, not results.

    Nobody clicks two items within a second: they are results of a search, or clicks that all have its time.

    Args:
        connection: Of the workspace, with the good rows in ``read_searches`` and the table ``query_texts``.
        name: Of the column of the item.
        is_position: Whether times only say what comes first.
        path: The file, for messages.

    Raises:
        DataError: If they are not.
    """
    if says_clicked(name):
        return
    rows = connection.execute(
        f"""
        SELECT user, query, least(item, before) AS first, greatest(item, before) AS last FROM (
            SELECT user, query, item, lag(item) OVER search AS before, seconds - lag(seconds) OVER search AS gap
            FROM (
                SELECT user, query, lower(words) AS words, seconds, items[1] AS item
                FROM read_searches JOIN query_texts USING (query) WHERE len(items) > 0
            ) WINDOW search AS (PARTITION BY user, words ORDER BY seconds, item)
        ) WHERE item <> before AND {"gap = 0" if is_position else "gap < 1"} ORDER BY ALL LIMIT 1
        """
    ).fetchall()
    if rows:
        user, query, first, last = rows[0]
        problem = (
            f"items at one moment of one search may have been shown, or clicked: {_short(first)} and {_short(last)} of "
            f"user {_short(user)} and query {_short(query)}"
        )
        raise DataError(path, problem, _click_remedy(name))


def _click_remedy(name: str) -> str:
    return (
        f"Say so: {_OPTION} item={shown(name)} if each row is a click; click=COLUMN for the column that tells; "
        "item=- if clicked items are not known."
    )


def is_one_search(
    connection: duckdb.DuckDBPyConnection, name: str, is_session: bool, is_position: bool, path: Path
) -> bool:
    """Whether the rows of one value of the guessed column ``search`` are one search, as far as the data proves it.

    Args:
        connection: Of the workspace, with the good rows in ``read_searches`` and the table ``query_texts``.
        name: Of the column.
        is_session: Whether its name is one of sessions.
        is_position: Whether times only say what comes first.
        path: The file, for messages.

    Returns:
        False for a session whose rows of one query are so far apart that they are different searches; rows of one
        time belong together then.

    Raises:
        DataError: If it is not clear.
    """
    if is_session:
        told = "a session may be one search or several"
        doubtful = f"""
            SELECT user, query, search, gap FROM (
                SELECT user, query, search, seconds - lag(seconds) OVER (
                    PARTITION BY user, lower(words), search ORDER BY seconds) AS gap
                FROM {_SEARCH_ROWS}
            ) WHERE gap > 0 {"" if is_position else f"AND gap <= {_SESSION_GAP}"}
        """
    else:
        told = "a search would take days"
        doubtful = f"SELECT * FROM {_SPANS} WHERE {'false' if is_position else f'span > {_LONGEST_SEARCH}'}"
    rows = connection.execute(f"{doubtful} ORDER BY ALL LIMIT 1").fetchall()
    if not rows:
        return not is_session
    user, query, search, gap = rows[0]
    problem = (
        f"{told}: column '{shown(name)}' has {_short(search)} for user {_short(user)} and query {_short(query)} again "
        f"after {told_span(gap, is_position)}"
    )
    remedy = (
        f"Say what it is: {_OPTION} search={shown(name)} if its rows of one query are one search, search=- if only "
        "rows of the same time are."
    )
    raise DataError(path, problem, remedy)


def long_searches(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """A warning if the ids that the user named join rows that are days apart."""
    rows, longest = only_row(connection, f"SELECT count(*), max(span) FROM {_SPANS} WHERE span > {_LONGEST_SEARCH}")
    if not rows:
        return []
    take = "search takes" if rows == 1 else "searches take"
    return [f"{rows:,} {take} longer than a day, the longest {told_span(longest)}: check search=."]


def told_span(seconds: float, is_position: bool = False) -> str:
    """A length of time in words."""
    if is_position:
        return f"{seconds:,.15g} positions"
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.4g} seconds"


def unite_numbers(connection: duckdb.DuckDBPyConnection, roles: Sequence[str]) -> list[str]:
    """Write ids of a file in which all are floats (17.0) as whole numbers, where other files prove that they are those.

    Args:
        connection: Of the workspace, with the good rows in ``read_interactions``, ``read_searches`` and ``read_items``.
        roles: Of the logs that there are.

    Returns:
        What was done, for each file.
    """
    told = []
    for kind, plain in (("user", ("interactions", "searches")), ("item", ("interactions", "items"))):
        selects = [f"SELECT '{role}' AS role, file, {kind} AS id FROM read_{role}" for role in plain if role in roles]
        if kind == "item":
            selects.append("SELECT 'searches' AS role, file, unnest(items) AS id FROM read_searches")
        ids = f"({' UNION ALL '.join(selects)})"
        is_float = f"contains(id, '.') AND regexp_full_match(id, {literal(_WHOLE_FLOAT)})"
        connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE float_files AS
            SELECT role, file FROM {ids} GROUP BY role, file HAVING bool_and({is_float})
            """
        )
        files = connection.execute("SELECT role, file FROM float_files ORDER BY role, file").fetchall()
        if not files:
            continue
        connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE other_ids AS
            SELECT DISTINCT id FROM {ids} ANTI JOIN float_files USING (role, file)
            """
        )
        for role, file in files:
            of_file = f"(SELECT DISTINCT id FROM {ids} WHERE role = {literal(role)} AND file = {literal(file)})"
            alike, whole = only_row(
                connection,
                f"""
                SELECT count(*) FILTER (id IN (SELECT id FROM other_ids)),
                    count(*) FILTER (split_part(id, '.', 1) IN (SELECT id FROM other_ids)) FROM {of_file}
                """,
            )
            if whole and not alike:
                column = "items" if (role, kind) == ("searches", "item") else kind
                value = f"split_part({column}, '.', 1)"
                if column == "items":
                    value = "list_transform(items, lambda entry: split_part(entry, '.', 1))"
                connection.execute(f"UPDATE read_{role} SET {column} = {value} WHERE file = ?", [file])
                told.append(
                    f"Ids of {kind}s in {file} are written like 17.0: they are read as 17, as in the other files."
                )
        connection.execute("DROP TABLE other_ids")
    connection.execute("DROP TABLE float_files")
    return told


def _short(text: str | None) -> str:
    text = " ".join((text or "").split())
    return f"'{text if len(text) <= 40 else text[:37] + '...'}'"
