"""Refusals of what no atomic file can hold, or what RecBole would read as something else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from recbole_gserec.errors import DataError

if TYPE_CHECKING:
    import duckdb

_USERS = "(SELECT user FROM interactions UNION SELECT user FROM searches)"
_ITEMS = "(SELECT item FROM interactions UNION SELECT unnest(items) FROM searches)"
_MISSING = "coalesce({0}, '') = '' OR coalesce({1}, '') = '' OR coalesce(isfinite(time), false) = false"
# Of any script: all of it is written as a space.
_WHITE_SPACE = r"regexp_matches(item, '[\s\pZ]')"
_UNREADABLE = r"""regexp_matches({0}, '^"|\p{{Cc}}')"""
# What pandas, by which RecBole reads, takes for no value, and the token with which RecBole pads.
NO_IDS = (
    *("-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", "#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "n/a", "NA"),
    *("NULL", "null", "NaN", "nan", "-NaN", "-nan", "None", "[PAD]"),
)
# Times of these years in seconds since 1970: 1990 to 2100.
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
    _Check("texts of an item twice", "(SELECT item FROM items GROUP BY item HAVING count(*) > 1)", "true", "item"),
    _Check("an item id with white space, which separates the items of a search", _ITEMS, _WHITE_SPACE, "item"),
    *(
        _Check(f"{side} id {problem}", table, condition.format(name), name)
        for side, table, name in (("a user", _USERS, "user"), ("an item", _ITEMS, "item"))
        for problem, condition in (
            ("with a leading quotation mark or a control character", _UNREADABLE),
            ("that RecBole reads as a missing value", f"{{0}} IN {NO_IDS}"),
        )
    ),
)


def check_tables(connection: duckdb.DuckDBPyConnection, source: Path, *, mixed_units: bool = False) -> None:
    """Look at the tables of a conversion; a converter that knows lines has told of most such rows before.

    Args:
        connection: Of the workspace.
        source: The folder of the source.
        mixed_units: Whether times of interactions and searches may have different units.

    Raises:
        DataError: With an example, and how many there are.
    """
    for check in _CHECKS:
        rows, example = connection.execute(
            f"SELECT count(*), min({check.example})::VARCHAR FROM {check.table} WHERE {check.condition}"
        ).fetchall()[0]
        if rows:
            shown = f", such as {example!r}" if example is not None else ""
            raise DataError(source, f"{check.problem}{shown} ({rows:,} in all)", "Clean the source.")
    if not mixed_units:
        _check_units(connection, source)


def _check_units(connection: duckdb.DuckDBPyConnection, source: Path) -> None:
    """Refuse seconds beside milliseconds: every search would lie before, or after, every interaction."""
    units = {}
    for table in ("interactions", "searches"):
        first, last = connection.execute(f"SELECT min(time), max(time) FROM {table}").fetchall()[0]
        for unit, factor in (("seconds", 1), ("milliseconds", 1000)):
            if first is not None and _SECONDS[0] * factor <= first <= last < _SECONDS[1] * factor:
                units[table] = unit
    if len(set(units.values())) > 1:
        raise DataError(
            source,
            f"times of interactions look like {units['interactions']}, those of searches like {units['searches']}",
            "Give both in one unit.",
        )
