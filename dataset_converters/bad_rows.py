"""Rows of a source that cannot be used: the first is an error, or all are counted and left out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import duckdb

from dataset_converters.choices import ACTIONS
from dataset_converters.workspace import count, literal, run
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.report import plural

if TYPE_CHECKING:
    import duckdb

_LINES_SHOWN = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BadRows:
    """Rows of one file that have the same problem and are left out of the dataset.

    Args:
        file: Name of the file.
        problem: What is wrong with the rows.
        rows: Number of rows.
        lines: Positions of the first few: 1-based lines of a text file or rows of a Parquet file. Empty if the rows
            are valid but not needed.
    """

    file: str
    problem: str
    rows: int
    lines: tuple[int, ...]

    def __str__(self) -> str:
        more = ", ..." if self.rows > len(self.lines) else ""
        where = f" (line {', '.join(map(str, self.lines))}{more})" if self.lines else ""
        return f"{self.file}: {self.rows:,} {plural('row', self.rows)} left out: {self.problem}{where}"


def check_bad_rows_action(action: str) -> None:
    """Raise SettingError if the action is unknown."""
    if action not in ACTIONS:
        raise SettingError(f"bad_rows must be {' or '.join(ACTIONS)}, not '{action}'.")


def handle_bad_rows(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    paths: Mapping[str, Path],
    action: str,
    advice_by_problem: Mapping[str, str] | None = None,
) -> list[BadRows]:
    """Raise an error for the first bad row of a table, or remove all bad rows.

    Args:
        connection: Connection to the workspace.
        table: Table with the columns ``file`` (name), ``line`` (1-based) and ``problem`` (NULL for a good row).
        paths: Path of each file, keyed by its name.
        action: ``error`` or ``skip``.
        advice_by_problem: Advice for the user, keyed by the first words of a problem. Others get general advice.

    Returns:
        The rows left out, ordered by file and problem. The table then contains only good rows.

    Raises:
        DataError: If the action is ``error`` and the table has a bad row.
        SettingError: If the action is unknown.
    """
    check_bad_rows_action(action)
    if action == "error":
        first = connection.execute(
            f"SELECT file, line, problem FROM {table} WHERE problem IS NOT NULL ORDER BY file, line LIMIT 1"
        ).fetchall()
        if not first:
            return []
        rows = count(connection, f"SELECT count(*) FROM {table} WHERE problem IS NOT NULL")
        file, line, problem = first[0]
        more = f" ({rows:,} bad rows in total)" if rows > 1 else ""
        advice = next(
            (text for start, text in (advice_by_problem or {}).items() if problem.startswith(start)), "Fix the row."
        )
        raise DataError(paths[file], problem + more, f"{advice} To leave bad rows out, use --bad-rows skip.", line)
    found = remove_bad_rows(connection, table)
    for bad in found:
        logger.warning("%s", bad)
    return found


def remove_bad_rows(connection: duckdb.DuckDBPyConnection, table: str) -> list[BadRows]:
    """Remove the bad rows of a table and return them, without a warning in the log."""
    groups = connection.execute(
        f"""
        SELECT file, problem, count(*), list_slice(list_sort(list(line)), 1, {_LINES_SHOWN})
        FROM {table} WHERE problem IS NOT NULL GROUP BY file, problem ORDER BY file, problem
        """
    ).fetchall()
    connection.execute(f"DELETE FROM {table} WHERE problem IS NOT NULL")
    return [BadRows(file, problem, rows, tuple(lines)) for file, problem, rows, lines in groups]


def count_left_out(
    connection: duckdb.DuckDBPyConnection, file: str, problem: str, table: str, condition: str = "true"
) -> list[BadRows]:
    """Count valid rows of a table that are left out for another reason, so that the counts cover the whole file.

    Returns:
        One entry without lines, or none if no row meets the condition.
    """
    rows = count(connection, f"SELECT count(*) FROM {table} WHERE {condition}")
    return [BadRows(file, problem, rows, ())] if rows else []


def mark_repeated(
    connection: duckdb.DuckDBPyConnection, table: str, column: str, problem: str, *, row: str = "rowid"
) -> None:
    """Mark good rows that repeat an earlier good row's value of a column as bad.

    Args:
        connection: Connection to the workspace.
        table: Table with the column ``problem``.
        column: Column whose values must differ.
        problem: What is wrong with the later rows.
        row: Column with the order of the rows.
    """
    run(
        connection,
        f"""
        UPDATE {table} SET problem = {literal(problem)}
        FROM (
            SELECT {column} AS value, min({row}) AS first FROM {table}
            WHERE problem IS NULL GROUP BY ALL HAVING count(*) > 1
        ) AS repeated
        WHERE {table}.problem IS NULL AND {table}.{column} = repeated.value AND {table}.{row} > repeated.first
        """,
    )


_USERS = "(SELECT user FROM interactions UNION SELECT user FROM searches)"
_ITEMS = "(SELECT item FROM interactions UNION SELECT unnest(items) FROM searches)"
_MISSING = "coalesce({0}, '') = '' OR coalesce({1}, '') = '' OR coalesce(isfinite(time), false) = false"
# White space of any script, because all of it is written as a plain space.
_WHITE_SPACE = r"regexp_matches(item, '[\s\pZ]')"
_UNREADABLE = r"""regexp_matches({0}, '^"|\p{{Cc}}')"""
# Texts that pandas, and so RecBole, reads as a missing value, and RecBole's padding token.
MISSING_VALUE_TEXTS = (
    *("-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", "#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "n/a", "NA"),
    *("NULL", "null", "NaN", "nan", "-NaN", "-nan", "None", "[PAD]"),
)
# The years 1990 to 2100 in seconds since 1970.
_SECONDS = (6.3e8, 4.2e9)


class _Check(NamedTuple):
    problem: str
    table: str
    condition: str
    example: str = "NULL"


_CHECKS = (
    _Check("an interaction without user, item or time", "interactions", _MISSING.format("user", "item")),
    _Check("a search without user or time", "searches", _MISSING.format("user", "user")),
    _Check("a searched item without an id", "searches", "len(list_filter(items, lambda x: coalesce(x, '') = '')) > 0"),
    _Check("duplicate texts of an item", "(SELECT item FROM items GROUP BY item HAVING count(*) > 1)", "true", "item"),
    _Check("an item id with white space, which separates the items of a search", _ITEMS, _WHITE_SPACE, "item"),
    *(
        _Check(f"{side} id {problem}", table, condition.format(name), name)
        for side, table, name in (("a user", _USERS, "user"), ("an item", _ITEMS, "item"))
        for problem, condition in (
            ("with a leading quotation mark or a control character", _UNREADABLE),
            ("that RecBole reads as a missing value", f"{{0}} IN {MISSING_VALUE_TEXTS}"),
        )
    ),
)


def check_tables(connection: duckdb.DuckDBPyConnection, source: Path, *, mixed_units: bool = False) -> None:
    """Check the tables of a conversion. Most converters report such rows earlier, with their lines.

    Args:
        connection: Connection to the workspace.
        source: Folder of the source, for messages.
        mixed_units: Whether interactions and searches may have times in different units.

    Raises:
        DataError: If a check fails, with an example and the number of rows.
    """
    for check in _CHECKS:
        rows, example = connection.execute(
            f"SELECT count(*), min({check.example})::VARCHAR FROM {check.table} WHERE {check.condition}"
        ).fetchall()[0]
        if rows:
            shown = f", such as {example!r}" if example is not None else ""
            raise DataError(source, f"{check.problem}{shown} ({rows:,} in total)", "Clean the source.")
    if not mixed_units:
        _check_units(connection, source)


def _check_units(connection: duckdb.DuckDBPyConnection, source: Path) -> None:
    """Reject seconds mixed with milliseconds, which would put all searches before or after all interactions."""
    units = {}
    for table in ("interactions", "searches"):
        first, last = connection.execute(f"SELECT min(time), max(time) FROM {table}").fetchall()[0]
        for unit, factor in (("seconds", 1), ("milliseconds", 1000)):
            if first is not None and _SECONDS[0] * factor <= first <= last < _SECONDS[1] * factor:
                units[table] = unit
    if len(set(units.values())) > 1:
        raise DataError(
            source,
            f"interaction times look like {units['interactions']}, but search times like {units['searches']}",
            "Give both in the same unit.",
        )
