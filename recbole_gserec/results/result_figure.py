"""A figure of each model's result with an interval over users and seeds, as wide as one column of a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from recbole_gserec.figures import BLUE, ORANGE, POINTS, new_panels, plain_text
from recbole_gserec.results.load import ModelRuns
from recbole_gserec.results.metrics import Metric, main_metric
from recbole_gserec.results.paired_tests import crossed_variance
from recbole_gserec.results.result_table import ResultTable
from recbole_gserec.settings import GROUPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_INCHES = 0.15
_PANEL_INCHES = 0.55
_LEGEND_INCHES = 0.2
_STYLES = dict(zip(GROUPS, ((BLUE, "o"), (ORANGE, "s")), strict=True))
_NORMAL_95 = 1.959964


def draw(table: ResultTable, cells: Mapping[tuple[str, str], ModelRuns]) -> Figure:
    """Draw the main metric of every model, from top to bottom in the order of the table.

    Args:
        table: The table.
        cells: The runs shown in the table.
    """
    metric = main_metric(table.metrics)
    height = _PANEL_INCHES + _ROW_INCHES * len(table.rows) + _LEGEND_INCHES / len(table.datasets)
    figure, panels = new_panels(len(table.datasets), height, n_columns=1)
    for panel, dataset in zip(panels, table.datasets, strict=True):
        _draw_panel(panel, table, cells, dataset, metric)
    _explain_colours(figure, table)
    return figure


def _explain_colours(figure: Figure, table: ResultTable) -> None:
    from matplotlib.lines import Line2D

    groups = [group for group in GROUPS if any(row.group == group for row in table.rows)]
    if len(groups) > 1:
        marks = [Line2D([], [], linestyle="", color=_STYLES[group][0], marker=_STYLES[group][1]) for group in groups]
        look = {"fontsize": POINTS, "frameon": False, "handletextpad": 0.1, "columnspacing": 1, "markerscale": 0.6}
        figure.legend(marks, groups, loc="outside lower center", ncols=len(groups), **look)


def _draw_panel(
    panel: Axes,
    table: ResultTable,
    cells: Mapping[tuple[str, str], ModelRuns],
    dataset: str,
    metric: Metric,
) -> None:
    from matplotlib.transforms import blended_transform_factory

    for index, row in enumerate(table.rows):
        cell = cells[dataset, row.model]
        colour, marker = _STYLES[row.group]
        if cell.finished:
            mean, half = mean_and_half_interval(cell, metric)
            # Hollow if its data or candidates differ from the reference's.
            face = colour if row.cells[dataset][0].is_ranked else "white"
            panel.errorbar(
                mean,
                index,
                xerr=half,
                fmt=marker,
                color=colour,
                markerfacecolor=face,
                markersize=3,
                elinewidth=1,
                capsize=1.5,
            )
        else:
            word = row.cells[dataset][0].word
            beside = blended_transform_factory(panel.transAxes, panel.transData)
            panel.text(0.02, index, word, transform=beside, va="center", fontsize=POINTS, color="#555555")
    panel.set_yticks(range(len(table.rows)), [plain_text(row.name) for row in table.rows])
    panel.set_ylim(len(table.rows) - 0.4, -0.6)
    for label, row in zip(panel.get_yticklabels(), table.rows, strict=True):
        if row.model == table.references[dataset]:
            label.set_fontweight("bold")
    if not any(cells[dataset, row.model].finished for row in table.rows):
        panel.set_xticks([])
    panel.set_title(plain_text(dataset), fontsize=POINTS + 1)
    panel.set_xlabel(metric.label, fontsize=POINTS + 1)
    panel.tick_params(labelsize=POINTS, length=2.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color="#DDDDDD", linewidth=0.5)
    panel.set_axisbelow(True)


def mean_and_half_interval(cell: ModelRuns, metric: Metric) -> tuple[float, float]:
    """Return the mean over users and seeds, and half the width of its 95 % interval over users and, if several, seeds.

    With one seed and many users, a mean is normally distributed. With few seeds it follows Student's t.
    """
    # Seeds have different users only in damaged folders; then the interval is that of the first seed.
    runs = list(cell.finished.values())
    seeds = [run.seed for run in runs if run.test_ranks.same_targets(runs[0].test_ranks)]
    if len(seeds) > 1 and len(runs[0].test_ranks.users) > 1:
        half = crossed_variance(cell.per_seed(metric, seeds)).half_interval()
        return float(cell.means(metric).mean()), half
    values = cell.per_user(metric, seeds)
    half = _NORMAL_95 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(cell.means(metric).mean()), float(half)
