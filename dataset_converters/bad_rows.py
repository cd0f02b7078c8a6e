"""Source rows that cannot be used: either the first one raises an error, or all are counted and left out."""

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
        return f"{self.file}: {self.rows:,} rows left out: {self.problem}{where}"


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
