"""A readable summary of how the logs were interpreted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from dataset_converters.bad_rows import BadRows
from dataset_converters.logs_checks import format_time, time_range
from dataset_converters.logs_clicks import separator_name
from dataset_converters.logs_columns import Columns, printable
from dataset_converters.logs_layout import Layout
from dataset_converters.logs_proofs import format_duration
from dataset_converters.logs_tables import SearchForm
from dataset_converters.logs_time import Clock
from dataset_converters.workspace import count

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
        connection: Connection to the workspace after :func:`dataset_converters.logs_steps.fill_tables`.
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
            f"SELECT * EXCLUDE (place, file, line, problem) FROM read_items ORDER BY place LIMIT {_ROWS_SHOWN}"
        )
        names = [name for name, *_ in items.description or []]
        events = [dict(zip(names, row, strict=True)) for row in items.fetchall()]
    elif log.role == "searches":
        rows = connection.execute(
            f"SELECT user, query, time, items FROM searches ORDER BY place LIMIT {_ROWS_SHOWN}"
        ).fetchall()
        events = [
            {"user": user, "query": query, "time": format_time(when, log.clock), "items": " ".join(clicked)}
            for user, query, when, clicked in rows
        ]
    else:
        rows = connection.execute(
            f"SELECT user, item, seconds FROM read_interactions ORDER BY place LIMIT {_ROWS_SHOWN}"
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
