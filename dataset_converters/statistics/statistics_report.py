"""The statistics of a dataset as pages, a figure and in the terminal."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dataset_converters.bad_rows import BadRows
from dataset_converters.filters import Step
from dataset_converters.statistics.statistics import Group, Spread, Statistics, TimeRange
from recbole_gserec.figures import BLUE, COLUMN_INCHES, save_figure
from recbole_gserec.files import scratch_folder
from recbole_gserec.report import markdown_table, write_csv

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure
    from rich.table import Table

_HEIGHT_INCHES = 2.1
_POINTS = 7.5


def draw_users_by_searches(groups: Sequence[Group]) -> Figure:
    """Draw one bar per group: its number of users, with the value above the bar."""
    # Without pyplot, the caller's matplotlib backend and figures stay unchanged.
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=(COLUMN_INCHES, _HEIGHT_INCHES), layout="constrained")
    panel = figure.add_subplot()
    labels = [group.label.replace("-", "\N{EN DASH}") for group in groups]
    positions = range(len(groups))
    bars = panel.bar(positions, [group.users for group in groups], width=0.72, color=BLUE)
    panel.set_xticks(positions, labels)
    panel.bar_label(bars, [short_number(group.users) for group in groups], padding=1.5, fontsize=_POINTS)
    panel.set_xlabel("searches of a user", fontsize=_POINTS + 1)
    panel.set_ylabel("users", fontsize=_POINTS + 1)
    panel.tick_params(labelsize=_POINTS, length=2.5)
    panel.tick_params(axis="x", length=0)
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(round(value))))
    # Leave room for the values above the bars.
    panel.margins(y=0.12)
    panel.set_ylim(bottom=0)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    return figure


def save_users_by_searches(groups: Sequence[Group], png: Path, pdf: Path) -> None:
    """Draw the figure into two files without timestamps, so that the same groups give identical files."""
    save_figure(draw_users_by_searches(groups), png, pdf)


def short_number(number: int) -> str:
    """Format a number so that it fits above its bar: ``99,999``, ``123k``, ``1.23M``."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        # From 999,500 on, rounding to thousands would give 1000k.
        if number >= max(100_000, unit * 0.9995):
            scaled = number / unit
            digits = max(0, 3 - len(str(int(scaled))))
            return f"{scaled:,.{digits}f}".rstrip("0").rstrip(".") + name if digits else f"{scaled:,.0f}{name}"
    return f"{number:,}"


Row = Sequence[str]

_NONE = "\N{EN DASH}"
SIZES_EXPLAINED = (
    "#Interaction-S is the number of searches, #Clicks-S the number of clicks in searches, and #Interaction-R the "
    "number of interactions (S for search, R for recommendation, as in GSERec's paper). #Users and #Items count users "
    "and items of both."
)


def write_report(
    folder: Path,
    name: str,
    statistics: Statistics,
    steps: Sequence[Step] = (),
    left_out: Sequence[BadRows] = (),
) -> None:
    """Write ``<name>.statistics.json``, ``.md``, ``.png`` and ``.pdf``. The same statistics give identical files.

    Args:
        folder: Folder for the files.
        name: Name of the dataset.
        statistics: Statistics of the dataset.
        steps: Counts after each filter, if known.
        left_out: Source rows that could not be used.
    """
    prefix = f"{name}.statistics"
    text = json.dumps(dataclasses.asdict(statistics), indent=2, ensure_ascii=False)
    (folder / f"{prefix}.json").write_text(text + "\n", encoding="utf-8")
    (folder / f"{prefix}.md").write_text(_page(name, statistics, steps, left_out), encoding="utf-8")
    save_users_by_searches(statistics.users_by_searches, folder / f"{prefix}.png", folder / f"{prefix}.pdf")


def write_statistics(folder: Path, dataset: str, statistics: Statistics) -> Path:
    """Write ``<dataset>.statistics.json``, ``.md``, ``.png``, ``.pdf`` and ``.csv`` (Figure 1); return the page."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder, dataset) as aside:
        write_report(aside, dataset, statistics)
        for path in sorted(aside.iterdir()):
            os.replace(path, folder / path.name)
    write_csv(folder / f"{dataset}.statistics.csv", pd.DataFrame(statistics.users_by_searches))
    return folder / f"{dataset}.statistics.md"


def print_report(
    name: str, statistics: Statistics, steps: Sequence[Step] = (), left_out: Sequence[BadRows] = ()
) -> None:
    """Print the tables of the report to standard error, because standard output is for the command's result."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    tables = [("Filters", step_rows(steps)), ("Rows left out", left_out_rows(left_out)), (name, size_rows(statistics))]
    tables += [
        ("Users by number of searches", group_rows(statistics)),
        ("Lengths", spread_rows(statistics)),
        ("More numbers", detail_rows(statistics)),
    ]
    for title, (head, *rows) in tables:
        if rows:
            console.print(_terminal_table(title, head, rows))
        if title == name:
            console.print(SIZES_EXPLAINED, style="dim")


def size_rows(statistics: Statistics) -> list[Row]:
    """Header and row of the dataset in the paper's Table 1, with searches counted in two ways."""
    return [
        ("#Users", "#Items", "#Queries", "#Interaction-S", "#Clicks-S", "#Interaction-R"),
        tuple(
            f"{number:,}"
            for number in (
                statistics.users,
                statistics.items,
                statistics.queries,
                statistics.searches,
                statistics.clicks,
                statistics.interactions,
            )
        ),
    ]


def detail_rows(statistics: Statistics) -> list[Row]:
    """Header and rows of the single numbers."""
    counts = {
        "users with searches": (statistics.users_with_searches, statistics.users),
        "users without searches": (statistics.users_without_searches, statistics.users),
        "users who only search": (statistics.users_who_only_search, statistics.users),
        "items interacted with": (statistics.items_interacted, statistics.items),
        "items only clicked in searches": (statistics.items_only_searched, statistics.items),
        "items with texts": (statistics.items_with_text, statistics.items),
        "searches without clicks": (statistics.searches_without_clicks, statistics.searches),
        "queries without words": (statistics.queries_without_words, statistics.queries),
    }
    shares = {
        "interactions at the time of another": statistics.tied_interactions,
        "searches at the time of an interaction": statistics.searches_at_an_interaction,
        "interactions after a search": statistics.interactions_after_a_search,
    }
    density = statistics.density
    return [
        ("", "number", "share"),
        *((name, f"{part:,}", _percent(part / whole if whole else None)) for name, (part, whole) in counts.items()),
        *((name, "", _percent(share)) for name, share in shares.items()),
        ("density of interactions", "", _NONE if density is None else f"{density:.3%}"),
        ("interactions from", _moment(statistics.interaction_times, "first"), ""),
        ("interactions to", _moment(statistics.interaction_times, "last"), ""),
        ("searches from", _moment(statistics.search_times, "first"), ""),
        ("searches to", _moment(statistics.search_times, "last"), ""),
    ]


def spread_rows(statistics: Statistics) -> list[Row]:
    """Header and rows of the lengths of histories and queries."""
    spreads = {
        "interactions of a user": statistics.interactions_per_user,
        "searches of a user": statistics.searches_per_user,
        "words of a query": statistics.words_per_query,
    }
    return [
        ("", "mean", "least", "25 %", "median", "75 %", "most"),
        *((name, *_spread_cells(spread)) for name, spread in spreads.items()),
    ]


def group_rows(statistics: Statistics) -> list[Row]:
    """Header and rows of the users by number of searches."""
    return [
        ("searches", "users", "share", "interactions", "of each user"),
        *(
            (
                group.label,
                f"{group.users:,}",
                _percent(group.users / statistics.users if statistics.users else None),
                f"{group.interactions:,}",
                f"{group.interactions / group.users:,.1f}" if group.users else _NONE,
            )
            for group in statistics.users_by_searches
        ),
    ]


def step_rows(steps: Sequence[Step]) -> list[Row]:
    """Header and rows of the counts after each filter."""
    return [
        ("step", "users", "items", "interactions", "searches"),
        *(
            (step.name, *(f"{number:,}" for number in (step.users, step.items, step.interactions, step.searches)))
            for step in steps
        ),
    ]


def left_out_rows(left_out: Sequence[BadRows]) -> list[Row]:
    """Header and rows of the source rows that could not be used."""
    return [
        ("file", "rows", "problem", "lines"),
        *(
            (
                bad.file,
                f"{bad.rows:,}",
                bad.problem,
                ", ".join(map(str, bad.lines)) + (", ..." if bad.lines and bad.rows > len(bad.lines) else ""),
            )
            for bad in left_out
        ),
    ]


def _page(name: str, statistics: Statistics, steps: Sequence[Step], left_out: Sequence[BadRows]) -> str:
    head, numbers = size_rows(statistics)
    parts = [
        f"# Statistics of {name}",
        _markdown_table([("Dataset", *head), (name, *numbers)]),
        SIZES_EXPLAINED,
    ]
    if steps:
        parts += ["## Filters", _markdown_table(step_rows(steps))]
    if left_out:
        parts += ["## Rows of the source left out", _markdown_table(left_out_rows(left_out))]
    parts += [
        "## Users by number of searches",
        _markdown_table(group_rows(statistics)),
        f"![Users by number of searches](<{name}.statistics.png>)",
        "## More numbers",
        _markdown_table(spread_rows(statistics)),
        _markdown_table(detail_rows(statistics)),
        "Times are compared within a user. For an interaction, models see only earlier searches, not those of the same "
        "time. 'interactions of a user' excludes users without interactions. Dates are in UTC.",
    ]
    return "\n\n".join(parts) + "\n"


def _markdown_table(rows: Sequence[Row]) -> str:
    return markdown_table([[cell.replace("|", "\\|") for cell in row] for row in rows])


def _terminal_table(title: str, head: Row, rows: Sequence[Row]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    texts = ("problem", "lines")
    for index, name in enumerate(head):
        left = index == 0 or name in texts
        # In a narrow window, only text columns become narrower.
        table.add_column(Text(name), justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _spread_cells(spread: Spread | None) -> list[str]:
    if spread is None:
        return [_NONE] * 6
    others = (spread.lowest, spread.lower_quartile, spread.median, spread.upper_quartile, spread.highest)
    return [f"{spread.mean:,.2f}", *(f"{number:,.2f}".rstrip("0").rstrip(".") for number in others)]


def _moment(times: TimeRange | None, end: str) -> str:
    if times is None:
        return _NONE
    date = getattr(times, f"{end}_date")
    return date.removesuffix("+00:00").replace("T", " ") if date else f"{getattr(times, end):.15g}"


def _percent(share: float | None) -> str:
    return _NONE if share is None else f"{share:.1%}"
