"""What two logs say only together: one kind of time, times that overlap, item ids that stay apart."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from dataset_converters.logs_text import WHITE_SPACE, without_spaces
from dataset_converters.logs_time import Clock
from dataset_converters.sql_text import literal
from dataset_converters.workspace import count
from recbole_gserec.errors import DataError
from recbole_gserec.wording import plural

_FIRST_YEAR = 1990
_DAY = 86400


def time_range(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[float, float] | None:
    """First and last time of the rows of a table; None if it is empty."""
    first, last = connection.execute(f"SELECT min(seconds), max(seconds) FROM {table}").fetchall()[0]
    return None if first is None else (first, last)


def told_time(seconds: float, clock: Clock | None) -> str:
    """A time as a date in UTC, or as the number it is."""
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
    """Check that the times of interactions and searches can be compared.

    Args:
        connection: Of the workspace, with the good rows in ``read_interactions`` and ``read_searches``.
        paths: Of ``interactions`` and ``searches``, for messages.
        clocks: What the times of each are.
        allow_disjoint: Accept logs that do not overlap in time.

    Returns:
        Warnings.

    Raises:
        DataError: If they cannot.
    """
    known = {role: clock for role, clock in clocks.items() if clock is not None}
    if len(known) < len(clocks):
        return []
    positions = {role for role, clock in known.items() if clock.is_position}
    if len(positions) == 1:
        told = " and ".join(f"{role} have {clock}" for role, clock in clocks.items())
        raise DataError(
            paths["searches"],
            f"times of the two logs cannot be compared: {told}",
            "Give both the same kind of time, or say --time-unit.",
        )
    found = ((role, time_range(connection, f"read_{role}")) for role in clocks)
    ranges = {role: times for role, times in found if times is not None}
    if len(ranges) < len(clocks):
        return []
    warnings = []
    if max(first for first, _ in ranges.values()) > min(last for _, last in ranges.values()):
        told = "; ".join(
            f"{role} from {told_time(first, clocks[role])} to {told_time(last, clocks[role])} ({clocks[role]})"
            for role, (first, last) in ranges.items()
        )
        problem = f"the two logs do not overlap in time: {told}"
        if not allow_disjoint:
            remedy = "Check units and time zones (--time-unit, --time-zone), or give --allow-disjoint-times."
            raise DataError(paths["searches"], problem, remedy)
        warnings.append(f"{problem[0].upper()}{problem[1:]}.")
    return warnings if positions else warnings + _unlikely_times(connection, clocks)


def _unlikely_times(connection: duckdb.DuckDBPyConnection, clocks: Mapping[str, Clock | None]) -> list[str]:
    bounds = {
        f"before {_FIRST_YEAR}": f"seconds < {datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp()!r}",
        # A day ahead, clocks and zones may be.
        "in the future": f"seconds > {time.time() + _DAY!r}",
    }
    numbers = {
        (role, told): count(connection, f"SELECT count(*) FROM read_{role} WHERE {condition}")
        for role in clocks
        for told, condition in bounds.items()
    }
    return [
        f"{number:,} {plural('time', number)} of {role} {'lies' if number == 1 else 'lie'} {told}: "
        "check units and time zones."
        for (role, told), number in numbers.items()
        if number
    ]


def check_spaces(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Path]) -> None:
    """Check that no two item ids become one when white space in them is replaced.

    Args:
        connection: Of the workspace, with the good rows.
        tables: The file of each table ``read_interactions``, ``read_searches`` and ``read_items``.

    Raises:
        DataError: If two do.
    """
    ids = " UNION ".join(
        f"SELECT {'unnest(items)' if table == 'read_searches' else 'item'} AS item FROM {table}" for table in tables
    )
    replaced = without_spaces("item", True)
    ones = connection.execute(
        f"""
        WITH ids AS ({ids}), spaced AS (SELECT DISTINCT {replaced} AS id FROM ids
            WHERE regexp_matches(item, {literal(WHITE_SPACE)}))
        SELECT id, min(item), max(item) FROM ids JOIN spaced ON {replaced} = id GROUP BY id HAVING count(*) > 1
        ORDER BY id LIMIT 1
        """
    ).fetchall()
    if ones:
        name, first, second = ones[0]
        problem = f"items {first!r} and {second!r} would both become '{name}'"
        raise DataError(next(iter(tables.values())), problem, "Give items ids without white space.")
