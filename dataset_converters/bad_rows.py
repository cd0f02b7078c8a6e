"""Rows of a source that cannot be used: the first is an error, or all are counted and left out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from dataset_converters.choices import ACTIONS
from dataset_converters.workspace import count
from recbole_gserec.errors import DataError, SettingError

_LINES_SHOWN = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BadRows:
    """Rows of one file with the same problem, left out of the dataset.

    Args:
        file: The file's name.
        problem: What is wrong with them.
        rows: How many.
        lines: Where the first of them are: 1-based lines of a text file, 1-based rows of a Parquet file. None for rows
            that are fine and not wanted.
    """

    file: str
    problem: str
    rows: int
    lines: tuple[int, ...]

    def __str__(self) -> str:
        more = ", ..." if self.rows > len(self.lines) else ""
        where = f" (line {', '.join(map(str, self.lines))}{more})" if self.lines else ""
        return f"{self.file}: {self.rows:,} rows left out: {self.problem}{where}"


def check_action(action: str) -> None:
    """Raise SettingError unless the action is known."""
    if action not in ACTIONS:
        raise SettingError(f"bad_rows can be {' or '.join(ACTIONS)}, not '{action}'.")


def settle(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    paths: Mapping[str, Path],
    action: str,
    remedies: Mapping[str, str] | None = None,
) -> list[BadRows]:
    """Raise for the first bad row of a table, or take all of them out.

    Args:
        connection: Of the workspace.
        table: Has the columns ``file`` (name), ``line`` (1-based) and ``problem`` (NULL for a good row) besides others.
        paths: The path of each file name.
        action: ``error`` or ``skip``.
        remedies: What to do about a problem, keyed by its first words; a general remedy is given for others.

    Returns:
        What was left out, ordered by file and problem. The table then holds good rows only.

    Raises:
        DataError: If the action is ``error`` and there is a bad row.
        SettingError: If the action is unknown.
    """
    check_action(action)
    if action == "error":
        first = connection.execute(
            f"SELECT file, line, problem FROM {table} WHERE problem IS NOT NULL ORDER BY file, line LIMIT 1"
        ).fetchall()
        if not first:
            return []
        rows = count(connection, f"SELECT count(*) FROM {table} WHERE problem IS NOT NULL")
        file, line, problem = first[0]
        more = f" ({rows:,} bad rows in all)" if rows > 1 else ""
        remedy = next((text for start, text in (remedies or {}).items() if problem.startswith(start)), "Mend the row.")
        raise DataError(paths[file], problem + more, f"{remedy} Or leave bad rows out: --bad-rows skip.", line)
    found = take_out(connection, table)
    for bad in found:
        logger.warning("%s", bad)
    return found


def take_out(connection: duckdb.DuckDBPyConnection, table: str) -> list[BadRows]:
    """Take the bad rows out of a table, as :func:`settle` does, and return them; nothing is told."""
    groups = connection.execute(
        f"""
        SELECT file, problem, count(*), list_slice(list_sort(list(line)), 1, {_LINES_SHOWN})
        FROM {table} WHERE problem IS NOT NULL GROUP BY file, problem ORDER BY file, problem
        """
    ).fetchall()
    connection.execute(f"DELETE FROM {table} WHERE problem IS NOT NULL")
    return [BadRows(file, problem, rows, tuple(lines)) for file, problem, rows, lines in groups]
