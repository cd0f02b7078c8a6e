"""Checks that compare the logs: the same kind of time, overlapping times, and distinct item ids."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from dataset_converters.logs_text import WHITE_SPACE, id_without_spaces_sql
from dataset_converters.logs_time import Clock
from dataset_converters.sql_text import literal
from dataset_converters.workspace import count
from recbole_gserec.errors import DataError
from recbole_gserec.wording import plural

_FIRST_YEAR = 1990
_DAY = 86400


def time_range(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[float, float] | None:
    """First and last time in a table; None if it is empty."""
    first, last = connection.execute(f"SELECT min(seconds), max(seconds) FROM {table}").fetchall()[0]
    return None if first is None else (first, last)


def format_time(seconds: float, clock: Clock | None) -> str:
    """Format a time as a date in UTC, or as a number if it is a position."""
    if clock is not None and clock.is_position:
        return f"{seconds:.15g}"
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.15g} seconds since 1970"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def check_times(
    connection: duckdb.DuckDBPyConnection,
    paths: Mapping[str, Path],
    clocks: Mapping[str, Clock | None],
    allow_disjoint: bool,
) -> list[str]:
    """Check that the times of interactions and searches are comparable.

    Args:
        connection: Connection to the workspace, with the good rows in ``read_interactions`` and ``read_searches``.
        paths: Files of ``interactions`` and ``searches``, for messages.
        clocks: Kind of the times in each log.
        allow_disjoint: Accept logs that do not overlap in time.

    Returns:
        Warnings.

    Raises:
        DataError: If the times are not comparable.
    """
    known = {role: clock for role, clock in clocks.items() if clock is not None}
    if len(known) < len(clocks):
        return []
    positions = {role for role, clock in known.items() if clock.is_position}
    if len(positions) == 1:
        kinds = " and ".join(f"{role} have {clock}" for role, clock in clocks.items())
        raise DataError(
            paths["searches"],
            f"the times of the two logs are not comparable: {kinds}",
            "Use the same kind of time in both, or set --time-unit.",
        )
    found = ((role, time_range(connection, f"read_{role}")) for role in clocks)
    ranges = {role: times for role, times in found if times is not None}
    if len(ranges) < len(clocks):
        return []
    warnings = []
    if max(first for first, _ in ranges.values()) > min(last for _, last in ranges.values()):
        described = "; ".join(
            f"{role} from {format_time(first, clocks[role])} to {format_time(last, clocks[role])} ({clocks[role]})"
            for role, (first, last) in ranges.items()
        )
        problem = f"the two logs do not overlap in time: {described}"
        if not allow_disjoint:
            advice = "Check units and time zones (--time-unit, --time-zone), or use --allow-disjoint-times."
            raise DataError(paths["searches"], problem, advice)
        warnings.append(f"{problem[0].upper()}{problem[1:]}.")
    return warnings if positions else warnings + _unlikely_times(connection, clocks)


def _unlikely_times(connection: duckdb.DuckDBPyConnection, clocks: Mapping[str, Clock | None]) -> list[str]:
    bounds = {
        f"before {_FIRST_YEAR}": f"seconds < {datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp()!r}",
        # Clocks and time zones may be up to a day ahead.
        "in the future": f"seconds > {time.time() + _DAY!r}",
    }
    numbers = {
        (role, when): count(connection, f"SELECT count(*) FROM read_{role} WHERE {condition}")
        for role in clocks
        for when, condition in bounds.items()
    }
    return [
        f"{number:,} {plural('time', number)} of {role} {'is' if number == 1 else 'are'} {when}: "
        "check units and time zones."
        for (role, when), number in numbers.items()
        if number
    ]


def check_spaces(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Path]) -> None:
    """Check that different item ids stay different when their white space is replaced.

    Args:
        connection: Connection to the workspace, with the good rows.
        tables: File of each table ``read_interactions``, ``read_searches`` and ``read_items``.

    Raises:
        DataError: If two item ids become equal.
    """
    ids = " UNION ".join(
        f"SELECT {'unnest(items)' if table == 'read_searches' else 'item'} AS item FROM {table}" for table in tables
    )
    replaced = id_without_spaces_sql("item", True)
    collisions = connection.execute(
        f"""
        WITH ids AS ({ids}), spaced AS (SELECT DISTINCT {replaced} AS id FROM ids
            WHERE regexp_matches(item, {literal(WHITE_SPACE)}))
        SELECT id, min(item), max(item) FROM ids JOIN spaced ON {replaced} = id GROUP BY id HAVING count(*) > 1
        ORDER BY id LIMIT 1
        """
    ).fetchall()
    if collisions:
        name, first, second = collisions[0]
        problem = f"items {first!r} and {second!r} would both become '{name}'"
        raise DataError(next(iter(tables.values())), problem, "Use item ids without white space.")
