"""Checks that use the data to resolve ambiguous columns. If the data does not prove a meaning, the user must choose.

The known items are those with an interaction or a row of texts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dataset_converters.choices import SEPARATORS
from dataset_converters.logs.cell_text import IS_LIST, MISSING, id_without_spaces_sql, trimmed_sql
from dataset_converters.logs.clicks import (
    FLAGS,
    broken_list_sql,
    entries_sql,
    holds_flags,
    items_sql,
    parse_separator,
    separator_name,
    unwrapped_sql,
)
from dataset_converters.logs.columns import OPTIONS, is_clicked_items_name, printable, row_kind_columns
from dataset_converters.workspace import count, literal, only_row
from recbole_gserec.errors import DataError

_OPTION = OPTIONS["searches"]
_NUMBER = r"[+-]?(\d+(\.\d*)?|\.\d+)"
# A whole number that a table stored as a float.
_WHOLE_FLOAT = r"\d+\.0*"
# Upper bounds of the clicks of a search, and of the results that a user looks at.
_MOST_CLICKS, _MOST_RESULTS = 1000, 100
# Clicked ids are spread over all ids. If all numbers are below this fraction of the highest id, they are positions.
_SMALL_PART = 10
_THOUSANDS = r"\d{1,3}(,\d{3})+"
# Characters that sometimes separate items, but more often are part of ids and addresses.
_RARE_SEPARATORS = ("/", "+", "&", "~", ":", "#", "^", "@", "_", "-", ">", "->", "，", "、", "；", "｜")
# A space beside another mark is part of that separator.
_SPACE_BETWEEN = r"[^\s,;|]\s+[^\s,;|]"
# If two rows of one session and query are further apart (in seconds), they are different searches.
_SESSION_GAP = 1800
# Searches that take longer (in seconds) are suspicious.
_LONGEST_SEARCH = 86400
_SEARCH_ROWS = "(SELECT * FROM read_searches JOIN query_texts USING (query) WHERE search IS NOT NULL)"
_SPANS = f"""
    (SELECT user, min(query), search, max(seconds) - min(seconds) AS span FROM {_SEARCH_ROWS}
    GROUP BY user, lower(words), search)
"""


def collect_known_items(
    connection: duckdb.DuckDBPyConnection, roles: Sequence[str], replace_spaces: bool, *, numbers_unified: bool
) -> None:
    """Create ``known_items`` (``id``) from the good rows of some logs.

    Args:
        connection: Connection to the workspace.
        roles: Roles of the logs.
        replace_spaces: Whether white space in item ids will be replaced.
        numbers_unified: Whether :func:`unify_numeric_ids` has unified numeric ids. If not, 17.0 is stored as 17.
    """
    item = id_without_spaces_sql("item", replace_spaces) if numbers_unified else _comparable("item", replace_spaces)
    connection.execute(
        f"""
        CREATE OR REPLACE TABLE known_items AS SELECT DISTINCT {item} AS id
        FROM ({" UNION ALL ".join(f"SELECT item FROM read_{role}" for role in roles)})
        """
    )


def _comparable(item: str, replace_spaces: bool = False) -> str:
    """SQL for an id in comparable form, where 17.0 equals 17."""
    whole = (
        f"CASE WHEN regexp_full_match({item}, {literal(_WHOLE_FLOAT)}) THEN split_part({item}, '.', 1) ELSE {item} END"
    )
    return id_without_spaces_sql(whole, replace_spaces)


@dataclass(frozen=True)
class Separator:
    """Result of the search for the separator of items in cells.

    Args:
        separator: The proven separator, or the empty text for one id per cell. None if nothing is proven.
        marks: Possible separators: usual ones in the cells, and a rare one between known items.
        example: A cell with a possible separator.
    """

    separator: str | None
    marks: list[str]
    example: str | None


@dataclass(frozen=True)
class _Reading:
    """How well a separator explains the cells.

    Args:
        separator: The separator. Empty for one id per cell.
        missed: Number of cells that another separator explains better: it finds the first or only known entries.
        known: Number of known items among the entries.
        explained: Number of cells in which all entries are known items.
    """

    separator: str
    missed: int
    known: int
    explained: int


def proven_separator(connection: duckdb.DuckDBPyConnection, table: str, column: str, replace_spaces: bool) -> Separator:
    """Find the separator of items in cells without brackets, by comparison with the known items.

    A separator is proven if no other one explains any cell better. In every cell where some separator finds a known
    item, it must find one too. Where some separator finds only known items, it must do so too. Incomplete and printed
    lists are ignored, because their rows are bad.

    Args:
        connection: Connection to the workspace, with ``known_items``.
        table: Table with the column.
        column: Name of the text column.
        replace_spaces: Whether white space in item ids will be replaced.
    """
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE cells AS SELECT DISTINCT cell
        FROM (
            SELECT {trimmed_sql(column)} AS cell FROM (SELECT DISTINCT {column} FROM {table} WHERE problem IS NULL)
        )
        WHERE cell NOT IN ({MISSING}) AND regexp_matches(cell, '[^\\pL\\pN]')
            AND NOT regexp_full_match(cell, {literal(IS_LIST)}) AND NOT {broken_list_sql("cell")}
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
    """SQL condition of a cell with the mark between letters or digits."""
    between = rf"[\pL\pN]{re.escape(mark)}[\pL\pN]"
    return f"regexp_matches(cell, {literal(between)})"


def _occurs(connection: duckdb.DuckDBPyConnection, condition: str) -> bool:
    return count(connection, f"SELECT count(*) FROM (SELECT 1 FROM cells WHERE {condition} LIMIT 1)") > 0


def _readings(connection: duckdb.DuckDBPyConnection, separators: Sequence[str], replace_spaces: bool) -> list[_Reading]:
    """Compute how well each separator explains the table ``cells``."""
    texts = " UNION ALL ".join(
        f"SELECT cell, {number} AS reading, {entries_sql('cell', separator)} AS entries FROM cells"
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
    """The only separator that misses nothing and finds known items, in full cells if ``in_full``; else None."""
    found = [reading for reading in readings if not reading.missed and reading.known]
    return found[0].separator if len(found) == 1 and (found[0].explained or not in_full) else None


def choose_separator(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    path: Path,
    requested: str | None,
    *,
    replace_spaces: bool,
    ids_hold_spaces: bool,
) -> str:
    """Choose the separator of the items in the column ``items``.

    Args:
        connection: Connection to the workspace, with ``known_items``.
        table: Table with the text column ``items``.
        path: The file, for messages.
        requested: Name of the requested separator, or the separator itself.
        replace_spaces: Whether white space in item ids will be replaced.
        ids_hold_spaces: Whether item ids of the other logs may contain white space. If not, a space is a separator.

    Raises:
        DataError: If no separator is proven.
    """
    if requested is not None:
        return parse_separator(requested)
    proven = proven_separator(connection, table, "items", replace_spaces)
    if proven.separator is not None:
        return proven.separator
    if not proven.marks or (proven.marks == [" "] and not ids_hold_spaces):
        return " "
    problem = (
        f"clicked items such as {_short(proven.example)} may be one id or several, and the known items do not decide it"
    )
    raise DataError(path, problem, "Set --click-separator; 'none' means that each cell is one id.")


def check_single_items(connection: duckdb.DuckDBPyConnection, table: str, name: str, path: Path) -> None:
    """Check that no cell of the column ``item`` is a list, although its name means a single item.

    Raises:
        DataError: If a cell has several known items.
    """
    proven = proven_separator(connection, table, "item", False)
    rare = [mark for mark in proven.marks if mark in _RARE_SEPARATORS]
    mark = proven.separator or "".join(rare)
    if mark:
        separated = f"separated by {separator_name(mark)}, such as {_short(proven.example)}"
        problem = f"column '{printable(name)}' has several known items in a cell, {separated}"
        shown = printable(name)
        advice = f"Set {_OPTION} items={shown} if they were clicked, or item={shown} if each cell is one id."
        raise DataError(path, problem, advice)


def check_one_item_per_row(connection: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    """Check that no interaction has several items with rows of texts in one cell.

    Raises:
        DataError: If a cell has several items.
    """
    proven = proven_separator(connection, "read_interactions", "item", False)
    if proven.separator:
        problem = f"column '{printable(name)}' has several items in a cell, such as {_short(proven.example)}"
        raise DataError(path, problem, "Use one row per item.")


def check_no_flags(connection: duckdb.DuckDBPyConnection, table: str, name: str, path: Path) -> None:
    """Raise DataError if the column ``items`` contains only click flags."""
    if holds_flags(connection, table):
        problem = f"column '{printable(name)}' contains click flags, not the clicked items"
        raise DataError(
            path,
            problem,
            f"Set the column of the items: {_OPTION} item=COLUMN or items=COLUMN, or items=- if they are unknown.",
        )


def check_no_counts(
    connection: duckdb.DuckDBPyConnection, table: str, name: str, separator: str, path: Path, *, is_requested: bool
) -> None:
    """Check that the column ``items`` contains ids, not numbers of clicks, positions or flags.

    Args:
        connection: Connection to the workspace, with ``known_items``.
        table: Table with the text column ``items``.
        name: Name of the file's column.
        separator: Separator of the items in a cell.
        path: The file, for messages.
        is_requested: Whether the user set the separator. If not, ``1,204`` is one number.

    Raises:
        DataError: If the data does not prove that the column contains ids.
    """
    cells = f"(SELECT DISTINCT {unwrapped_sql(trimmed_sql('items'))} AS cell FROM {table} WHERE problem IS NULL)"
    is_number = "false" if is_requested else f"regexp_full_match(cell, {literal(_THOUSANDS)})"
    several = f"CASE WHEN {is_number} THEN [cell] ELSE {items_sql('cell', separator)} END"
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
            WHEN lower(entry) IN ({FLAGS}) THEN 1 END
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
    # If a text is a known item, the numbers in the same column are ids too.
    if texts or not n:
        return
    other = "positions in a list of results, or click flags" if lists else "numbers of clicks"
    if not several:
        # The numbers are too large for numbers of clicks, and most are known items.
        meant = least > _MOST_CLICKS and 2 * known >= n
    else:
        (highest,) = only_row(connection, "SELECT max(try_cast(id AS DOUBLE)) FROM known_items")
        small = most <= _MOST_RESULTS and (highest or 0) > _SMALL_PART * most
        meant = not (most <= 1 or small or (not known and most <= _MOST_CLICKS))
    if not meant:
        problem = (
            f"column '{printable(name)}' contains numbers ({', '.join(examples)}), which may be {other}, or item ids"
        )
        advice = (
            f"Set {_OPTION} items={printable(name)} if they are ids of clicked items, items=COLUMN or item=COLUMN for "
            "another column, or items=- if clicked items are unknown."
        )
        raise DataError(path, problem, advice)


def check_rows_are_clicks(name: str, found: Sequence[str], path: Path) -> None:
    """Check that no unused column may show which rows are clicks. The rows have one ``item`` and no click flag.

    Args:
        name: Name of the item column.
        found: Columns without a meaning.
        path: The file, for messages.

    Raises:
        DataError: If such a column exists.
    """
    kinds = [] if is_clicked_items_name(name) else row_kind_columns(found)
    if kinds:
        problem = f"rows with an item may be shown results or clicks, and column '{printable(kinds[0])}' may decide it"
        raise DataError(path, problem, _click_advice(name))


def check_simultaneous_items(connection: duckdb.DuckDBPyConnection, name: str, is_position: bool, path: Path) -> None:
    """Check that search rows with one item and no click flag are clicks, not shown results.

    Nobody clicks two items within a second. Such rows are either shown results, or clicks that have the search's time.

    Args:
        connection: Connection to the workspace, with the good rows in ``read_searches`` and the table ``query_texts``.
        name: Name of the item column.
        is_position: Whether times are only positions in an order.
        path: The file, for messages.

    Raises:
        DataError: If the rows may be shown results.
    """
    if is_clicked_items_name(name):
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
            f"items at the same time of one search may be shown or clicked: {_short(first)} and {_short(last)} of user "
            f"{_short(user)} and query {_short(query)}"
        )
        raise DataError(path, problem, _click_advice(name))


def _click_advice(name: str) -> str:
    return (
        f"Set {_OPTION} item={printable(name)} if each row is a click, click=COLUMN for the column with click flags, "
        "or item=- if clicked items are unknown."
    )


def is_one_search(
    connection: duckdb.DuckDBPyConnection, name: str, is_session: bool, is_position: bool, path: Path
) -> bool:
    """Whether rows with the same value in the guessed column ``search`` are one search.

    Args:
        connection: Connection to the workspace, with the good rows in ``read_searches`` and the table ``query_texts``.
        name: Name of the column.
        is_session: Whether the column has the usual name of sessions.
        is_position: Whether times are only positions in an order.
        path: The file, for messages.

    Returns:
        False for sessions whose rows of one query are so far apart that they are different searches. Only rows of the
        same time then belong together.

    Raises:
        DataError: If the data does not decide it.
    """
    if is_session:
        doubt = "a session may be one search or several"
        doubtful = f"""
            SELECT user, query, search, gap FROM (
                SELECT user, query, search, seconds - lag(seconds) OVER (
                    PARTITION BY user, lower(words), search ORDER BY seconds) AS gap
                FROM {_SEARCH_ROWS}
            ) WHERE gap > 0 {"" if is_position else f"AND gap <= {_SESSION_GAP}"}
        """
    else:
        doubt = "a search would take days"
        doubtful = f"SELECT * FROM {_SPANS} WHERE {'false' if is_position else f'span > {_LONGEST_SEARCH}'}"
    rows = connection.execute(f"{doubtful} ORDER BY ALL LIMIT 1").fetchall()
    if not rows:
        return not is_session
    user, query, search, gap = rows[0]
    problem = (
        f"{doubt}: column '{printable(name)}' has {_short(search)} for user {_short(user)} and query {_short(query)} "
        f"again after {format_duration(gap, is_position)}"
    )
    advice = (
        f"Set {_OPTION} search={printable(name)} if its rows of one query are one search, or search=- if only rows of "
        "the same time are."
    )
    raise DataError(path, problem, advice)


def warn_about_long_searches(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Warn if the requested search ids join rows that are days apart."""
    rows, longest = only_row(connection, f"SELECT count(*), max(span) FROM {_SPANS} WHERE span > {_LONGEST_SEARCH}")
    if not rows:
        return []
    take = "search takes" if rows == 1 else "searches take"
    return [f"{rows:,} {take} longer than a day, the longest {format_duration(longest)}: check the column search=."]


def format_duration(seconds: float, is_position: bool = False) -> str:
    """Format a duration in days, hours, minutes or seconds."""
    if is_position:
        return f"{seconds:,.15g} positions"
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.4g} seconds"


def unify_numeric_ids(connection: duckdb.DuckDBPyConnection, roles: Sequence[str]) -> list[str]:
    """Convert the ids of a file with only floats (17.0) to whole numbers, if these match the ids of other files.

    Args:
        connection: Connection to the workspace, with the tables ``read_interactions``, ``read_searches`` and
            ``read_items`` of good rows.
        roles: Roles of the existing logs.

    Returns:
        One note per converted file.
    """
    notes = []
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
                notes.append(
                    f"The {kind} ids in {file} have the form 17.0. They are read as 17, as in the other files."
                )
        connection.execute("DROP TABLE other_ids")
    connection.execute("DROP TABLE float_files")
    return notes


def _short(text: str | None) -> str:
    text = " ".join((text or "").split())
    return f"'{text if len(text) <= 40 else text[:37] + '...'}'"
