"""Times of a log: which unit or format they are in, found over the whole column, and seconds since 1970 from them."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from dataset_converters.logs_text import MISSING
from dataset_converters.sql_text import literal
from dataset_converters.workspace import count
from recbole_gserec.errors import SettingError

#: Units of numbers, and how many of them are a second.
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "position": 1.0}
_TOLD = {
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
    "position": "positions in an order",
    "date": "dates in ISO 8601",
    "compact": "dates like 20240131 or 20240131235959",
    "format": "dates in the given format",
}
# Times of the years 1973 to 5138, in each unit; what is less counts positions.
_FIRST_SECOND = 1e8
_MAGNITUDES = {"position": _FIRST_SECOND, "s": 1e11, "ms": 1e14, "us": 1e17, "ns": 1e20}
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_COMPACT = r"(19|20)\d{6}(\d{6})?"
_ZONE = r"(Z|z| ?UTC| ?GMT|[+-]\d{2}(:?\d{2})?)"
_DATE = rf"\d{{4}}([-/])\d{{1,2}}[-/]\d{{1,2}}([T ]\d{{1,2}}:\d{{2}}(:\d{{2}}([.,]\d+)?)? ?{_ZONE}?)?"


@dataclass(frozen=True)
class TimeSettings:
    """What the user says of times.

    Args:
        unit: Of numbers; found by their magnitude if it is None.
        format: Of dates, as for ``strptime``; ISO 8601 is understood without it.
        zone: Of dates that name none.
    """

    unit: str | None = None
    format: str | None = None
    zone: str = "UTC"

    def check(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Raise SettingError for what does not exist."""
        if self.unit is not None and self.unit not in UNITS:
            raise SettingError(f"time unit '{self.unit}' is not known. Known are {', '.join(UNITS)}.")
        zones = "SELECT count(*) FROM pg_timezone_names() WHERE name = ?"
        if not count(connection, zones, [self.zone]):
            raise SettingError(f"time zone '{self.zone}' is not known. Give one like Europe/Berlin or Asia/Shanghai.")
        if self.format is not None:
            try:
                connection.execute(f"SELECT try_strptime('', {literal(self.format)})")
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                raise SettingError(f"time format '{self.format}' cannot be used: {reason}") from None


@dataclass(frozen=True)
class Clock:
    """What the times of one file are.

    Args:
        kind: ``s``, ``ms``, ``us``, ``ns``, ``position``, ``date``, ``compact`` or ``format``.
        zone: Of dates that name none.
    """

    kind: str
    zone: str = "UTC"

    @property
    def is_position(self) -> bool:
        """Whether times only say what comes first."""
        return self.kind == "position"

    def __str__(self) -> str:
        dated = self.kind in ("date", "compact", "format")
        return _TOLD[self.kind] + (f", in {self.zone} where they name no zone" if dated else "")


def detect(connection: duckdb.DuckDBPyConnection, table: str, settings: TimeSettings) -> Clock | None:
    """What most times in a table are.

    Args:
        connection: Of the workspace.
        table: Has the text column ``time``.
        settings: As given.

    Returns:
        None if not one time can be read.
    """
    kinds = connection.execute(
        f"""
        SELECT kind, count(*), count(*) FILTER (compact) FROM ({_classified(f"(SELECT time FROM {table})", settings)})
        WHERE kind IN ({", ".join(map(literal, _TOLD))}) GROUP BY kind ORDER BY count(*) DESC, kind
        """
    ).fetchall()
    if not kinds:
        return None
    kind, rows, compact = kinds[0]
    # Counting numbers pass through dates now and then; only where most are dates, dates are meant.
    return Clock("compact" if 2 * compact > rows and settings.unit is None else kind, settings.zone)


def timed(table: str, clock: Clock | None, settings: TimeSettings) -> str:
    """Select the rows of a table with the columns ``seconds`` and ``time_problem``, one of which is NULL."""
    kind = clock.kind if clock else ""
    fits = "compact" if kind == "compact" else f"kind = {literal(kind)}"
    form = "in the given format, no number" if settings.format else "no number"
    most = f"where most are {_TOLD[kind]}" if kind else ""
    others = " ".join(f"WHEN {literal(name)} THEN {literal(told)}" for name, told in _TOLD.items())
    return f"""
        SELECT *, CASE WHEN time_problem IS NULL THEN {_seconds(kind, settings)} END AS seconds FROM (
            SELECT *, CASE
                WHEN kind = 'missing' THEN 'time is missing'
                WHEN kind = 'negative' THEN 'time is negative'
                WHEN kind = 'unreadable' THEN {literal(f"time is {form} and no date in ISO 8601")}
                WHEN NOT ({fits}) THEN 'time is in another unit: ' || CASE kind {others} END || {literal(", " + most)}
            END AS time_problem
            FROM ({_classified(table, settings)})
        )
    """


def _classified(table: str, settings: TimeSettings) -> str:
    """Select the rows of a table with the ``kind`` of their time and the values it may be computed from."""
    if settings.unit is None:
        units = " ".join(f"WHEN number < {bound!r} THEN '{unit}'" for unit, bound in _MAGNITUDES.items())
    else:
        units = f"WHEN true THEN {literal(settings.unit)}"
    in_format = f"try_strptime(time, {literal(settings.format)})" if settings.format else "NULL::TIMESTAMP"
    return f"""
        SELECT *, CASE
            WHEN time IS NULL OR time IN ({MISSING}) THEN 'missing'
            WHEN formatted IS NOT NULL THEN
                CASE WHEN {_epoch("formatted", settings)} < 0 THEN 'negative' ELSE 'format' END
            WHEN number < 0 THEN 'negative'
            WHEN number IS NOT NULL THEN CASE {units} ELSE 'unreadable' END
            WHEN date IS NOT NULL THEN CASE WHEN epoch(date) < 0 THEN 'negative' ELSE 'date' END
            ELSE 'unreadable' END AS kind,
            coalesce(compact_date IS NOT NULL, false) AS compact
        FROM (
            SELECT *, {in_format} AS formatted,
                CASE WHEN regexp_full_match(time, {literal(_NUMBER)}) AND isfinite(try_cast(time AS DOUBLE))
                    THEN try_cast(time AS DOUBLE) END AS number,
                CASE WHEN regexp_full_match(time, {literal(_DATE)}) THEN {_iso(settings)} END AS date,
                CASE WHEN regexp_full_match(time, {literal(_COMPACT)})
                    THEN coalesce(try_strptime(time, '%Y%m%d'), try_strptime(time, '%Y%m%d%H%M%S')) END AS compact_date
            FROM {table}
        )
    """


def _iso(settings: TimeSettings) -> str:
    """A date in ISO 8601 as a moment; one without a zone is in the given zone."""
    plain = "replace(replace(time, '/', '-'), ',', '.')"
    return f"""
        CASE WHEN regexp_matches(time, {literal(":.*" + _ZONE + "$")}) THEN try_cast({plain} AS TIMESTAMPTZ)
            ELSE timezone({literal(settings.zone)}, try_cast({plain} AS TIMESTAMP)) END
    """


def _epoch(value: str, settings: TimeSettings) -> str:
    """Seconds since 1970 of a date that may, by its format, name its zone."""
    if settings.format and "%z" in settings.format.lower():
        return f"epoch({value})"
    return f"epoch(timezone({literal(settings.zone)}, {value}))"


def _seconds(kind: str, settings: TimeSettings) -> str:
    if kind in UNITS:
        return f"number / {UNITS[kind]!r}"
    return {
        "date": "epoch(date)",
        "compact": f"epoch(timezone({literal(settings.zone)}, compact_date))",
        "format": _epoch("formatted", settings),
        "": "NULL::DOUBLE",
    }[kind]
