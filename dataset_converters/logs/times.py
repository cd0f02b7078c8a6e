"""Times of a log: detection of their unit or format from the whole column, and conversion to seconds since 1970."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from dataset_converters.choices import UNITS
from dataset_converters.logs.cell_text import MISSING
from dataset_converters.workspace import count, literal
from recbole_gserec.errors import SettingError
from recbole_gserec.report import plural

_KIND_TEXTS = {
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
    "position": "positions in an order",
    "date": "dates in ISO 8601",
    "compact": "dates like 20240131 or 20240131235959",
    "format": "dates in the requested format",
    "offset": "days, and the time since the start of the day",
}
_UNCLEAR = "seconds since 1970, or dates with an hour"
# Upper bounds of the years 1973 to 5138 in each unit. Smaller numbers are positions.
_FIRST_SECOND = 1e8
_MAGNITUDES = {"position": _FIRST_SECOND, "s": 1e11, "ms": 1e14, "us": 1e17, "ns": 1e20}
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
# A day, optionally with hour and minute, second or millisecond.
_COMPACT = r"(19|20)\d{6}(\d{4}|\d{6}|\d{9})?"
_HOUR = "%Y%m%d%H"

# All variants of ISO 8601 that people write. _PARTS names the groups.
_ZONE = r"(?i:Z|UTC|GMT)|(?:UTC|GMT)?[+\-\x{2212}](?:\d{2}(?::?\d{2})?|\d:\d{2})"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?|\d{2}(?:\d{2}(?:\d{2}(?:[.,]\d+)?)?)?"
_DAY = r"(\d{4}[-/]\d{1,2}[-/]\d{1,2})|(\d{8})|(\d{4}-?[Ww]\d{2}-?\d)|(\d{4}-?\d{3})"
# After a day without a clock, a zone is only accepted if it cannot be an hour.
_MOMENT = rf"(?:{_DAY})(?:(?:[Tt]|\s+)({_CLOCK})(?:\s*({_ZONE})(?:\[[\w/+-]+\])?)?|([Zz]|\+\d{{2}}:\d{{2}}))?"
_UNBROKEN = rf"(\d{{8}})(\d{{4}}(?:\d{{2}}(?:[.,]\d+)?)?)\s*({_ZONE})"
_ISO = rf"^(?:{_MOMENT}|{_UNBROKEN})$"
# The most common variants, which DuckDB parses itself and much faster.
_PLAIN_ZONE = r"(Z| ?UTC| ?GMT|[+-]([01]\d|2[0-3])(:?[0-5]\d)?)"
_PLAIN = rf"\d{{4}}([-/])\d{{1,2}}[-/]\d{{1,2}}([T ]\d{{1,2}}:\d{{2}}(:\d{{2}}([.,]\d+)?)?{_PLAIN_ZONE}?)?"
_PARTS = ("day", "basic", "week", "ordinal", "clock", "zone", "day_zone", "basic2", "clock2", "zone2")
_NO_DAY = r"\d{4}[-/]\d{1,2}|\d{4}-?[Ww]\d{2}"

# Patterns for times joined from a day and another column.
_MIDNIGHT = r"^(\S+)[T ]00:00:00(?:\.0+)?\s+(\S.*)$"
_NUMBER_BEHIND = r"^(.*\S)\s+(\d+\.?\d*(?:[eE]\+?\d+)?)$"
_CLOCK_IN_DIGITS = r"(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?"
# Upper bound, in seconds, of the time since the start of a day. It may be slightly longer than a day.
_MOST_SINCE_DAY = 2 * 86400
_PLAIN_TEXT = "replace(replace(front, '/', '-'), ',', '.')"


@dataclass(frozen=True)
class TimeSettings:
    """Settings of the times.

    Args:
        unit: Unit of numbers. None to detect it from their magnitude.
        format: Format of dates, as for ``strptime``. ISO 8601 needs none.
        zone: Time zone of dates without one.
        joined: Whether each time was joined from several columns.
    """

    unit: str | None = None
    format: str | None = None
    zone: str = "UTC"
    joined: bool = False

    def check(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Raise SettingError if the unit, zone or format is invalid."""
        if self.unit is not None and self.unit not in UNITS:
            raise SettingError(f"unknown time unit '{self.unit}'. Use one of {', '.join(UNITS)}.")
        zones = "SELECT count(*) FROM pg_timezone_names() WHERE name = ?"
        if not count(connection, zones, [self.zone]):
            raise SettingError(f"unknown time zone '{self.zone}'. Give one like Europe/Berlin or Asia/Shanghai.")
        if self.format is not None:
            try:
                connection.execute(f"SELECT try_strptime('', {literal(self.format)})")
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                raise SettingError(f"time format '{self.format}' is invalid: {reason}") from None


@dataclass(frozen=True)
class ClockChange:
    """Local times that occur twice or never, because clocks are set back or forward.

    Args:
        kind: ``repeated`` or ``skipped``.
        rows: Number of such times.
        example: One of these times.
    """

    kind: str
    rows: int
    example: str


@dataclass(frozen=True)
class Clock:
    """Kind of the times in one file.

    Args:
        kind: ``s``, ``ms``, ``us``, ``ns``, ``position``, ``date``, ``compact``, ``format`` or ``offset``; ``unclear``
            for numbers that can be seconds or dates.
        zone: Time zone of dates without one.
        unit: Unit of the time since the start of a day.
        digits_are_clock: Whether a number after a day is a time of day, such as 093000.
        changes: Times that occur twice or never in the zone.
    """

    kind: str
    zone: str = "UTC"
    unit: str | None = None
    digits_are_clock: bool = False
    changes: tuple[ClockChange, ...] = ()

    @property
    def is_position(self) -> bool:
        """Whether the times are only positions in an order."""
        return self.kind == "position"

    def __str__(self) -> str:
        dated = self.kind in ("date", "compact", "format", "offset")
        unit = f" in {self.unit}" if self.kind == "offset" else ""
        return _KIND_TEXTS.get(self.kind, _UNCLEAR) + unit + (f", in {self.zone} if they have no zone" if dated else "")

    def warnings(self, role: str) -> list[str]:
        """Warnings about times that occur twice or never.

        Args:
            role: Log of the times.
        """
        texts = {
            "repeated": (
                "occurred twice in {0}, because clocks went back",
                "read as the second of the two. Give times with their offset, like +01:00, to choose",
            ),
            "skipped": (
                "did not occur in {0}, because clocks went forward",
                "read as before the change. Check --time-zone",
            ),
        }
        return [
            f"{change.rows:,} {plural('time', change.rows)} of {role}, such as {change.example}, "
            f"{texts[change.kind][0].format(self.zone)}: {texts[change.kind][1]}."
            for change in self.changes
        ]


def detect_clock(connection: duckdb.DuckDBPyConnection, table: str, settings: TimeSettings) -> Clock | None:
    """Detect the kind of most times in a table.

    Args:
        connection: Connection to the workspace.
        table: Table with the text column ``time``.
        settings: Settings of the times.

    Returns:
        The kind, or None if no time can be read.
    """
    times = f"(SELECT time FROM {table})"
    digits_are_clock = settings.joined and settings.unit is None and _digits_are_clock(connection, times, settings)
    classified = _classified(times, settings, digits_are_clock)
    found = connection.execute(
        f"""
        SELECT kind, count(*), count(*) FILTER (compact), count(*) FILTER (hour), min(local), max(local)
        FROM ({classified}) WHERE kind IN ({", ".join(map(literal, _KIND_TEXTS))})
        GROUP BY kind ORDER BY count(*) DESC, kind
        """
    ).fetchall()
    if not found:
        return None
    kind = _kind([counts[:4] for counts in found], settings)
    if kind in UNITS or kind == "unclear":
        return Clock(kind, settings.zone)
    unit = settings.unit if kind == "offset" else None
    rows = f"(SELECT * FROM ({classified}) WHERE {_fits(kind)})"
    bounds = [bound for counts in found for bound in counts[4:] if bound is not None]
    changes = _clock_changes(connection, rows, settings.zone, bounds)
    return Clock(kind, settings.zone, unit, digits_are_clock, changes)


def _kind(found: list[tuple[str, int, int, int]], settings: TimeSettings) -> str:
    """Choose one kind. ``found`` has the number of times of each kind, and how many can be dates or hours in digits."""
    rows = {kind: number for kind, number, *_ in found}
    compact = sum(number for *_, number, _ in found)
    # Ordinary numbers sometimes look like dates, so they are dates only if most of them look like dates.
    if 2 * (rows.get("date", 0) + compact) > sum(rows.values()) and compact:
        return "date" if rows.get("date") else "compact"
    kind, number, _, hours = found[0]
    # If every number is a valid hour of a date, the data does not decide between seconds and dates.
    return "unclear" if kind == "s" and hours == number and settings.unit is None else kind


def _digits_are_clock(connection: duckdb.DuckDBPyConnection, times: str, settings: TimeSettings) -> bool:
    """Whether the digits after days must be times of day: all are valid times, and some begin with 0."""
    all_of_them, four, six, with_zero = connection.execute(
        f"""
        SELECT count(*), count(*) FILTER (length(digits) = 4), count(*) FILTER (length(digits) = 6),
            count(*) FILTER (starts_with(digits, '0'))
        FROM (
            SELECT CASE WHEN regexp_full_match(behind, {literal(_CLOCK_IN_DIGITS)}) THEN behind END AS digits
            FROM ({_classified(times, settings)}) WHERE kind = 'unclear'
        )
        """
    ).fetchall()[0]
    return with_zero > 0 and all_of_them in (four, six)


def _clock_changes(
    connection: duckdb.DuckDBPyConnection, rows: str, zone: str, bounds: Sequence[datetime]
) -> tuple[ClockChange, ...]:
    """Count the times without a zone that occur twice or never in the time zone.

    Args:
        connection: Connection to the workspace.
        rows: SQL of the rows, with the columns ``local`` and ``time``.
        zone: Time zone of the times.
        bounds: All values of ``local`` lie between the smallest and the largest bound.
    """
    if zone == "UTC" or not bounds:
        return ()
    # If the offset from UTC differs between two days, find the minute of the change.
    distance = f"timezone({literal(zone)}, timezone('UTC', {{0}})) - {{0}}"
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE clock_changes AS
        WITH days AS (
            SELECT unnest(generate_series(
                date_trunc('day', $first) - INTERVAL 2 DAY, $last + INTERVAL 2 DAY, INTERVAL 1 DAY)) AS day
        ), changing AS (
            SELECT day FROM days WHERE {distance.format("day")} <> {distance.format("(day + INTERVAL 1 DAY)")}
        ), minutes AS (
            SELECT day + to_minutes(number) AS moment
            FROM changing, (SELECT unnest(range(1, 1441))::INTEGER AS number)
        ), changes AS (
            SELECT moment, {distance.format("moment")} AS after,
                {distance.format("(moment - INTERVAL 1 MINUTE)")} AS before
            FROM minutes
        )
        SELECT CASE WHEN after < before THEN 'repeated' ELSE 'skipped' END AS kind,
            moment + least(before, after) AS first, moment + greatest(before, after) AS last
        FROM changes WHERE before <> after
        """,
        {"first": min(bounds), "last": max(bounds)},
    )
    found = connection.execute(
        f"""
        SELECT clock_changes.kind, count(*), min(time) FROM {rows} AS rows
        JOIN clock_changes ON local >= first AND local < last GROUP BY ALL ORDER BY ALL
        """
    ).fetchall()
    connection.execute("DROP TABLE clock_changes")
    return tuple(ClockChange(*change) for change in found)


def seconds_sql(table: str, clock: Clock | None, settings: TimeSettings) -> str:
    """SQL that adds the columns ``seconds`` and ``time_problem`` to a table. One of the two is NULL."""
    kind = clock.kind if clock else ""
    unreadable = "is neither a number nor an ISO 8601 date"
    if settings.format:
        unreadable = "does not match the requested format, and is neither a number nor an ISO 8601 date"
    most = f"but most are {_KIND_TEXTS[kind]}" if kind in _KIND_TEXTS else ""
    others = " ".join(f"WHEN {literal(name)} THEN {literal(text)}" for name, text in _KIND_TEXTS.items())
    names = ("number", "date", "formatted", "compact", "compact_date", "hour", "local", "behind", "kind")
    return f"""
        SELECT * EXCLUDE ({", ".join(names)}),
            CASE WHEN time_problem IS NULL THEN {_seconds(kind, settings)} END AS seconds FROM (
            SELECT *, CASE
                WHEN kind = 'missing' THEN 'time is missing'
                WHEN kind = 'negative' OR {_seconds(kind, settings) if kind == "compact" else "NULL"} < 0
                    THEN 'time is negative'
                WHEN kind = 'unreadable' THEN {literal(f"time {unreadable}")}
                WHEN kind = 'no day' THEN 'time has no day'
                WHEN kind = 'unclear' THEN 'time is a day and a number without a known unit'
                WHEN kind = 's' AND {literal(kind)} = 'unclear'
                    THEN 'time can be seconds since 1970 or a date with an hour'
                WHEN kind = 'offset' AND {_since_day(settings)} > {_MOST_SINCE_DAY}
                    THEN 'time is more than two days after its day'
                WHEN NOT ({_fits(kind)})
                    THEN 'time is in another unit: ' || CASE kind {others} END || {literal(", " + most)}
            END AS time_problem
            FROM ({_classified(table, settings, clock is not None and clock.digits_are_clock)})
        )
    """


def _fits(kind: str) -> str:
    """SQL condition of a time that can be read if most times are of a kind."""
    return "(kind = 'date' OR compact)" if kind in ("date", "compact") else f"kind = {literal(kind)}"


def _classified(table: str, settings: TimeSettings, digits_are_clock: bool = False) -> str:
    """SQL that adds to a table the ``kind`` of each time and the values from which it can be computed."""
    if settings.unit is None:
        units = " ".join(f"WHEN number < {bound!r} THEN '{unit}'" for unit, bound in _MAGNITUDES.items())
    else:
        units = f"WHEN true THEN {literal(settings.unit)}"
    in_format = f"try_strptime(time, {literal(settings.format)})" if settings.format else "NULL::TIMESTAMP"
    names_zone = settings.format is not None and "%z" in settings.format.lower()
    # The settings decide whether a number after a day is a clock in digits.
    text = f"regexp_replace(time, {literal(_MIDNIGHT)}, '\\1 \\2')" if settings.joined else "time"
    split = settings.joined and not digits_are_clock
    behind = f"nullif(regexp_extract(text, {literal(_NUMBER_BEHIND)}, 2), '')" if split else "NULL::VARCHAR"
    front = f"CASE WHEN behind IS NULL THEN text ELSE regexp_extract(text, {literal(_NUMBER_BEHIND)}, 1) END"
    offset = "'offset'" if settings.unit in UNITS and settings.unit != "position" else "'unclear'"
    parts = ", ".join(map(literal, _PARTS))
    return f"""
        SELECT * EXCLUDE (text, front, is_plain, parts, wall_clock), CASE
            WHEN time IS NULL OR time IN ({MISSING}) THEN 'missing'
            WHEN formatted IS NOT NULL THEN
                CASE WHEN {_epoch("formatted", settings)} < 0 THEN 'negative' ELSE 'format' END
            WHEN number < 0 THEN 'negative'
            WHEN number IS NOT NULL THEN CASE {units} ELSE 'unreadable' END
            WHEN date IS NOT NULL THEN CASE WHEN epoch(date) < 0 THEN 'negative'
                WHEN behind IS NOT NULL THEN {offset} ELSE 'date' END
            WHEN regexp_full_match(time, {literal(_NO_DAY)}) THEN 'no day'
            ELSE 'unreadable' END AS kind,
            coalesce(compact_date IS NOT NULL, false) AS compact,
            CASE WHEN number BETWEEN 1.9e9 AND 2.1e9 AND length(time) = 10
                THEN try_strptime(time, '{_HOUR}') IS NOT NULL ELSE false END AS hour,
            CASE WHEN formatted IS NOT NULL THEN {"NULL" if names_zone else "formatted"}
                WHEN compact_date IS NOT NULL THEN compact_date
                WHEN is_plain OR {_zone_of("parts")} = '' THEN wall_clock END AS local
        FROM (SELECT *, CASE
                WHEN is_plain AND wall_clock IS NULL THEN try_cast({_PLAIN_TEXT} AS TIMESTAMPTZ)
                WHEN is_plain THEN timezone({literal(settings.zone)}, wall_clock)
                ELSE {_moment("parts", "wall_clock", settings)} END AS date
        FROM (SELECT *, CASE
                WHEN NOT is_plain THEN {_wall_clock("parts")}
                WHEN NOT regexp_matches(front, {literal(":.*" + _PLAIN_ZONE + "$")})
                    THEN try_cast({_PLAIN_TEXT} AS TIMESTAMP) END AS wall_clock
        FROM (SELECT *,
            CASE WHEN NOT is_plain THEN regexp_extract(front, {literal(_ISO)}, [{parts}]) END AS parts,
            CASE WHEN number IS NOT NULL AND {settings.unit is None} AND regexp_full_match(time, {literal(_COMPACT)})
                THEN {_compact("time")} END AS compact_date
        FROM (SELECT *, CASE WHEN number IS NULL THEN regexp_full_match(front, {literal(_PLAIN)}) END AS is_plain
        FROM (SELECT *, {front} AS front
        FROM (SELECT *, {behind} AS behind, {in_format} AS formatted,
            CASE WHEN regexp_full_match(time, {literal(_NUMBER)}) AND isfinite(try_cast(time AS DOUBLE))
                THEN try_cast(time AS DOUBLE) END AS number
        FROM (SELECT *, {text} AS text FROM {table})))))))
    """


def _compact(text: str) -> str:
    """SQL for the time written in digits; NULL if it does not exist."""
    return f"""
        CASE length({text}) WHEN 8 THEN try_strptime({text}, '%Y%m%d') WHEN 12 THEN try_strptime({text}, '%Y%m%d%H%M')
            ELSE try_strptime(left({text}, 14), '%Y%m%d%H%M%S')
                + to_milliseconds(coalesce(try_cast(substr({text}, 15) AS BIGINT), 0)) END
    """


def _wall_clock(parts: str) -> str:
    """SQL for the local time written in the parts; NULL if it does not exist."""
    week = rf"regexp_replace({parts}.week, '^(\d{{4}})-?[Ww](\d{{2}})-?(\d)$', '\1-W\2-\3')"
    basic = f"{parts}.basic || {parts}.basic2"
    # A week that does not exist would become a week of the next year, so it is checked.
    day = f"""
        CASE WHEN {parts}.day <> '' THEN replace({parts}.day, '/', '-')
            WHEN {basic} <> '' THEN left({basic}, 4) || '-' || substr({basic}, 5, 2) || '-' || right({basic}, 2)
            WHEN {parts}.ordinal <> ''
                THEN strftime(try_strptime(replace({parts}.ordinal, '-', ''), '%Y%j'), '%Y-%m-%d')
            WHEN strftime(try_strptime({week}, '%G-W%V-%u'), '%G-W%V-%u') = {week}
                THEN strftime(try_strptime({week}, '%G-W%V-%u'), '%Y-%m-%d') END
    """
    clock = f"{parts}.clock || {parts}.clock2"
    return f"""
        try_cast({day} || ' ' || CASE WHEN contains({parts}.clock, ':') THEN replace({parts}.clock, ',', '.')
            WHEN {clock} = '' THEN '00:00'
            ELSE left({clock}, 2) || ':' || CASE WHEN length({clock}) < 4 THEN '00' ELSE substr({clock}, 3, 2) END
                || CASE WHEN length({clock}) < 6 THEN '' ELSE ':' || replace(substr({clock}, 5), ',', '.') END
        END AS TIMESTAMP)
    """


def _zone_of(parts: str) -> str:
    return f"{parts}.zone || {parts}.day_zone || {parts}.zone2"


def _moment(parts: str, wall_clock: str, settings: TimeSettings) -> str:
    """SQL for the point in time of a date. Dates without a zone use the zone of the settings."""
    zone = _zone_of(parts)
    digits = f"regexp_replace({zone}, '[^0-9]', '', 'g')"
    hours = f"(CASE WHEN length({digits}) = 3 THEN left({digits}, 1) ELSE left({digits}, 2) END)::INTEGER"
    minutes = f"(CASE WHEN length({digits}) > 2 THEN right({digits}, 2) ELSE '0' END)::INTEGER"
    sign = f"CASE WHEN contains({zone}, '+') THEN 1 ELSE -1 END"
    return f"""
        CASE WHEN {wall_clock} IS NULL THEN NULL
            WHEN {zone} = '' THEN timezone({literal(settings.zone)}, {wall_clock})
            WHEN {digits} = '' THEN timezone('UTC', {wall_clock})
            WHEN {hours} < 24 AND {minutes} < 60
                THEN timezone('UTC', {wall_clock} - to_minutes({sign} * (60 * {hours} + {minutes}))) END
    """


def _epoch(value: str, settings: TimeSettings) -> str:
    """SQL for the seconds since 1970 of a date. The requested format may contain a zone."""
    if settings.format and "%z" in settings.format.lower():
        return f"epoch({value})"
    return f"epoch(timezone({literal(settings.zone)}, {value}))"


def _since_day(settings: TimeSettings) -> str:
    return f"behind::DOUBLE / {UNITS.get(settings.unit or '', 1.0)!r}"


def _seconds(kind: str, settings: TimeSettings) -> str:
    if kind in UNITS:
        return f"number / {UNITS[kind]!r}"
    dated = f"epoch(coalesce(date, timezone({literal(settings.zone)}, compact_date)))"
    return {
        "date": dated,
        "compact": dated,
        "offset": f"epoch(date) + {_since_day(settings)}",
        "format": _epoch("formatted", settings),
    }.get(kind, "NULL::DOUBLE")
