"""Checks for values that atomic files cannot contain, or that RecBole would misread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from recbole_gserec.errors import DataError

if TYPE_CHECKING:
    import duckdb

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
