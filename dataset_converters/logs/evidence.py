"""What was understood of the logs, in words and numbers, and checks of one log against the other."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from dataset_converters.bad_rows import BadRows
from dataset_converters.logs.cell_text import WHITE_SPACE, id_without_spaces_sql
from dataset_converters.logs.clicks import separator_name
from dataset_converters.logs.columns import Columns, printable
from dataset_converters.logs.log_settings import Layout
from dataset_converters.logs.proofs import format_duration
from dataset_converters.logs.sql_tables import SearchForm
from dataset_converters.logs.times import Clock
from dataset_converters.workspace import count, literal
from recbole_gserec.errors import DataError
from recbole_gserec.report import plural

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


_ROWS_SHOWN = 3
_FILES_SHOWN = 3
_WIDEST = 60


@dataclass(frozen=True)
class LogInterpretation:
    """How one log was interpreted.

    Args:
        role: ``interactions``, ``searches`` or ``items``.
        layouts: Layouts of its files.
        columns: Columns of each meaning.
        rows: Number of rows, including bad ones.
        bad_rows: Rows that cannot be used.
        clock: Kind of its times.
        form: How its rows make up searches.
        warnings: Warnings about doubtful data.
    """

    role: str
    layouts: Sequence[Layout]
    columns: Columns
    rows: int
    bad_rows: Sequence[BadRows]
    clock: Clock | None = None
    form: SearchForm | None = None
    warnings: tuple[str, ...] = ()

    @property
    def n_bad_rows(self) -> int:
        """Number of rows that cannot be used."""
        return sum(bad.rows for bad in self.bad_rows)

    def facts(self) -> dict[str, str]:
        """The interpretation as texts, keyed by topic."""
        names = [layout.file.path.as_posix() for layout in self.layouts]
        more = f" and {len(names) - _FILES_SHOWN:,} more" if len(names) > _FILES_SHOWN else ""
        facts = {
            "files": ", ".join(names[:_FILES_SHOWN]) + more,
            "format": str(self.layouts[0]),
            "columns": ", ".join(f"{meaning}={format_columns(names)}" for meaning, names in self.columns.items()),
        }
        if self.clock is not None:
            facts["times"] = str(self.clock)
        if self.form is not None:
            facts["searches"] = str(self.form)
            if "items" in self.columns:
                facts["clicked items"] = "one per cell without brackets"
                if self.form.separator:
                    separator = separator_name(self.form.separator)
                    facts["clicked items"] = f"lists, separated by {separator} if without brackets"
        return facts | {"rows": f"{self.rows:,}, {self.n_bad_rows:,} of them bad"}


def format_columns(names: Sequence[str]) -> str:
    """The columns of one meaning, in the form of the command line."""
    return "+".join(map(printable, names))


def describe(
    connection: duckdb.DuckDBPyConnection, interpretations: Sequence[LogInterpretation], longest: float | None = None
) -> str:
    """Describe the interpretation of each log, and what the logs have in common.

    Args:
        connection: Connection to the workspace after :func:`dataset_converters.logs.steps.fill_tables`.
        interpretations: Interpretation of each log.
        longest: Duration of the longest search with several rows; None if each row is a search.
    """
    lines = []
    for log in interpretations:
        lines.append(log.role)
        lines += _table(log.facts() | _counts(connection, log, longest))
        lines += [f"  bad rows: {bad.rows:,}: {_format_bad_rows(bad)}" for bad in log.bad_rows]
        lines += [*_sample(connection, log), ""]
    return "\n".join([*lines, "together", *_table(_together(connection))])


def _table(facts: dict[str, str]) -> list[str]:
    width = max(map(len, facts))
    return [f"  {topic:{width}}  {text}" for topic, text in facts.items()]


def _format_bad_rows(bad: BadRows) -> str:
    more = ", ..." if bad.rows > len(bad.lines) else ""
    return f"{bad.problem} ({bad.file}, line {', '.join(map(str, bad.lines))}{more})"


def _counts(connection: duckdb.DuckDBPyConnection, log: LogInterpretation, longest: float | None) -> dict[str, str]:
    if log.role == "items":
        return {}
    between = time_range(connection, f"read_{log.role}")
    if between is None:
        return {}
    users = count(connection, f"SELECT count(DISTINCT user) FROM read_{log.role}")
    counts = {
        "from": format_time(between[0], log.clock),
        "to": format_time(between[1], log.clock),
        "users": f"{users:,}",
    }
    if log.role == "searches":
        searches, clicks, empty = connection.execute(
            "SELECT count(*), avg((len(items) > 0)::INTEGER), count(*) FILTER (query = '') FROM searches"
        ).fetchall()[0]
        counts |= {"searches made": f"{searches:,}, {clicks:.1%} of them with clicks, {empty:,} without a query"}
        mean, most, none = connection.execute(
            "SELECT avg(len(items)), max(len(items)), count(*) FILTER (len(items) = 0) FROM searches"
        ).fetchall()[0]
        searched = "search" if none == 1 else "searches"
        counts |= {"clicks of a search": f"{mean:.2f} on average, {most:,} at most, no clicks in {none:,} {searched}"}
        if longest is not None:
            is_position = log.clock is not None and log.clock.is_position
            counts |= {"longest search": format_duration(longest, is_position)}
    return counts


def _sample(connection: duckdb.DuckDBPyConnection, log: LogInterpretation) -> list[str]:
    if log.role == "items":
        items = connection.execute(
            "SELECT * EXCLUDE (source_row, file, line, problem) FROM read_items "
            f"ORDER BY source_row LIMIT {_ROWS_SHOWN}"
        )
        names = [name for name, *_ in items.description or []]
        events = [dict(zip(names, row, strict=True)) for row in items.fetchall()]
    elif log.role == "searches":
        rows = connection.execute(
            f"SELECT user, query, time, items FROM searches ORDER BY source_row LIMIT {_ROWS_SHOWN}"
        ).fetchall()
        events = [
            {"user": user, "query": query, "time": format_time(when, log.clock), "items": " ".join(clicked)}
            for user, query, when, clicked in rows
        ]
    else:
        rows = connection.execute(
            f"SELECT user, item, seconds FROM read_interactions ORDER BY source_row LIMIT {_ROWS_SHOWN}"
        ).fetchall()
        events = [{"user": user, "item": item, "time": format_time(when, log.clock)} for user, item, when in rows]
    return [f"  row {number}: {_format_event(event)}" for number, event in enumerate(events, 1)]


def _format_event(event: dict[str, str | None]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in event.items())


def _short(value: str | None) -> str:
    text = " ".join((value or "").split())
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def _together(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """How much the logs have in common. A small overlap suggests that they write ids in different forms."""
    shares = {
        "searching users who interact": ("SELECT user FROM searches", "SELECT user FROM interactions"),
        "clicked items that are interacted with": (
            "SELECT unnest(items) FROM searches",
            "SELECT item FROM interactions",
        ),
        "clicked items that are known": ("SELECT unnest(items) FROM searches", "SELECT id FROM known_items"),
        "interacted items with a row of texts": ("SELECT item FROM interactions", "SELECT item FROM items"),
    }
    overlaps = {}
    for topic, (some, others) in shares.items():
        number, of_all = connection.execute(
            f"""
            SELECT count(*) FILTER (id IN ({others})), count(*) FROM (SELECT DISTINCT id FROM ({some}) ids(id))
            """
        ).fetchall()[0]
        overlaps[topic] = f"{number:,} of {of_all:,}" + (f" ({number / of_all:.1%})" if of_all else "")
    return overlaps
