"""Relative improvement within groups of users (Figure 2 of GSERec): one panel for each compared model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from recbole_gserec.analyze.group_results import ALL, GroupResults
from recbole_gserec.benchmark.metrics import Metric
from recbole_gserec.benchmark.model_names import printed_name
from recbole_gserec.figure_files import plain_text
from recbole_gserec.figure_panels import BLUE, ORANGE, POINTS, draw_tick_lines, new_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL_INCHES = 1.5
_FEW_GROUPS = 5


def draw_groups(results: GroupResults, metric: Metric, by: str) -> Figure:
    """Draw bars with 95 % intervals: blue above 0, orange below; hatched if there is no interval.

    Args:
        results: The comparisons, with at least one other model.
        metric: The metric to show.
        by: What users are grouped by.
    """
    found = results.comparisons[results.comparisons["metric"] == metric.name]
    models = list(dict.fromkeys(found["model"]))
    # The labels of many groups need the width of the column.
    figure, panels = new_panels(len(models), _PANEL_INCHES, 2 if len(results.groups) <= _FEW_GROUPS else 1)
    users = results.means.drop_duplicates("group").set_index("group")["users"]
    labels = [f"{group.label}\n({users[group.label]:,})" for group in results.groups]
    for panel, model in zip(panels, models, strict=True):
        own = found[(found["model"] == model) & (found["group"] != ALL)].set_index("group")
        _draw(panel, own.reindex([group.label for group in results.groups]))
        panel.set_xticks(range(len(labels)), labels)
        panel.set_title(plain_text(f"{printed_name(results.reference)} vs. {printed_name(model)}"), fontsize=POINTS)
    figure.supylabel(f"gain in {metric.label} (%)", fontsize=POINTS)
    figure.supxlabel(f"training {by} of a user (users)", fontsize=POINTS)
    return figure


def _draw(panel: Axes, rows: pd.DataFrame) -> None:
    values = rows["relative_percent"].to_numpy(dtype=float)
    ends = rows[["relative_low", "relative_high"]].to_numpy(dtype=float)
    indices = np.arange(len(rows))
    known = ~np.isnan(ends).any(axis=1)
    hatches = np.where(known, "", "/////").tolist()
    colours = np.where(values < 0, ORANGE, BLUE).tolist()
    heights = np.nan_to_num(values)
    panel.bar(indices, heights, color=colours, hatch=hatches, width=0.65, linewidth=0, edgecolor="white")
    lengths = np.maximum((ends[known] - values[known, None]) * [-1, 1], 0).T
    panel.errorbar(indices[known], values[known], yerr=lengths, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)
    panel.axhline(0, color="black", linewidth=0.6)
    panel.tick_params(axis="x", length=0)
    draw_tick_lines(panel)
