"""The paper's Figure 1 for any dataset: users by number of searches, as wide as a paper's column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dataset_converters.statistics import Group
from recbole_gserec.figure_files import save_figure
from recbole_gserec.figure_panels import BLUE, COLUMN_INCHES

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

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
