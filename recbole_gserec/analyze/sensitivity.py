"""``gserec analyze sensitivity``: the score by value of each setting (Figure 7 of GSERec)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recbole_gserec.analyze.settings_tried import TriedSettings
from recbole_gserec.errors import is_number
from recbole_gserec.figures import (
    BLUE,
    ORANGE,
    POINTS,
    draw_tick_lines,
    format_short,
    name_values,
    new_panels,
    plain_text,
)
from recbole_gserec.report import escape_markdown, number, text_table, write_csv, write_figure, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL_INCHES = 1.35
_MARGIN = 0.08


def draw_sensitivity(frame: pd.DataFrame, metric: str) -> Figure:
    """Draw two lines for every setting: others held at the best trial's values, and the mean over all trials.

    Args:
        frame: The frame of :func:`recbole_gserec.analyze.sensitivity.sensitivity_frame`.
        metric: Name of the score.
    """
    names = list(dict.fromkeys(frame["setting"]))
    figure, panels = new_panels(len(names), _PANEL_INCHES)
    lowest, highest = (pick(frame[["held", "mean"]].stack()) for pick in (min, max))
    room = highest - lowest or 1e-4
    for panel, name in zip(panels, names, strict=True):
        own = frame[frame["setting"] == name].reset_index(drop=True)
        held = own[own["held"].notna()]
        mean: dict[str, Any] = {"color": BLUE, "marker": "o", "linestyle": "--", "markersize": 2.5, "linewidth": 0.8}
        best: dict[str, Any] = {"color": ORANGE, "marker": "s", "linestyle": "-", "markersize": 3, "linewidth": 1}
        panel.plot(own.index, own["mean"], label="mean over all trials", **mean)
        panel.plot(held.index, held["held"], label="others as in the best trial", **best)
        pairs = zip(own["value"], own["place"], strict=True)
        name_values(panel, [value if place != place else format_short(place) for value, place in pairs])
        panel.set_xlabel(plain_text(name), fontsize=POINTS)
        draw_tick_lines(panel)
        # All panels share the score axis, so that they show how much each setting matters.
        panel.set_ylim(lowest - _MARGIN * room, highest + _MARGIN * room)
    figure.supylabel(plain_text(metric), fontsize=POINTS)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=POINTS - 0.5, frameon=False)
    return figure


MOST_VALUES = 12
N_BINS = 6
HOW_TO_READ = (
    "Held: the score of the value with all other settings at the best trial's values, as in the paper; – if there is "
    "no such trial. Mean, lowest and highest are over all trials with the value, whatever their other settings. A "
    "trial of a sweep is one training. Random differences between trainings are not counted, and small differences in "
    "score may come from them."
)


def sensitivity_frame(tried: TriedSettings) -> pd.DataFrame:
    """Make one row for each setting and value, with its scores.

    Numbers with more than :data:`MOST_VALUES` tried values, for example from a range, are binned with about equally
    many trials each.

    Returns:
        ``setting``, ``value`` (as text), ``place`` (the number to draw it at; NaN for other values), ``held``
        (NaN where there is no such trial), ``mean``, ``lowest``, ``highest``, ``trials`` and ``is_best``, whether the
        best trial has the value.
    """
    parts = [_of_one_setting(tried, name) for name in tried.names]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _of_one_setting(tried: TriedSettings, name: str) -> pd.DataFrame:
    trials = [trial for trial in tried.trials if name in trial.settings]
    best = tried.best
    values = [trial.settings[name] for trial in trials]
    others = [_key({other: trial.settings.get(other) for other in tried.names if other != name}) for trial in trials]
    wanted = _key({other: best.settings.get(other) for other in tried.names if other != name})
    frame = pd.DataFrame({"key": list(map(_key, values)), "score": [trial.score for trial in trials]})
    if not len(frame):
        return frame
    frame["held"] = frame["score"].where(np.array([own == wanted for own in others]))
    frame["number"] = [float(value) if is_number(value) else np.nan for value in values]
    frame["is_best"] = frame["key"] == _key(best.settings.get(name))
    frame["value"] = list(map(_label, values))
    if frame["key"].nunique() > MOST_VALUES and frame["number"].notna().all():
        frame = _binned(frame)
    pick = "max" if tried.bigger else "min"
    table = frame.groupby("key", sort=False).agg(
        value=("value", "first"),
        place=("number", "mean"),
        # Of several trials with exactly the same settings, the best counts.
        held=("held", pick),
        mean=("score", "mean"),
        lowest=("score", "min"),
        highest=("score", "max"),
        trials=("score", "size"),
        is_best=("is_best", "any"),
    )
    table.insert(0, "setting", name)
    return table.sort_values(["place", "value"], kind="stable").reset_index(drop=True)


def _binned(frame: pd.DataFrame) -> pd.DataFrame:
    bins = pd.qcut(frame["number"], N_BINS, labels=False, duplicates="drop")
    ends = frame["number"].groupby(bins).agg(["min", "max"])
    labels = [f"{low:.3g} to {high:.3g}" for low, high in ends.itertuples(index=False)]
    # Values of a range are never equal, so no other trial has the best one's other settings.
    return frame.assign(key=bins.map(str), value=[labels[place] for place in bins])


def _label(value: Any) -> str:
    return f"{value:g}" if is_number(value) else str(value)


def _key(value: Any) -> str:
    # 1 and 1.0 are one value; True is another.
    if is_number(value):
        value = float(value)
    if isinstance(value, dict):
        return json.dumps({name: _key(part) for name, part in value.items()}, sort_keys=True)
    return json.dumps(value, sort_keys=True, default=str)


def write_sensitivity(tried: TriedSettings, folder: Path) -> Path:
    """Write the table and the figure; return the page ``sensitivity.md``."""
    frame = sensitivity_frame(tried)
    best = tried.best
    settings = ", ".join(f"{name} {_label(best.settings.get(name))}" for name in tried.names)
    page = [f"# Sensitivity: {escape_markdown(tried.title)}"]
    page.append(
        escape_markdown(f"{tried.metric} of {len(tried.trials)} trials; the best, {best.score:.4f}, has {settings}.")
    )
    for name, own in frame.groupby("setting", sort=False):
        rows = [["value", "held", "mean", "lowest", "highest", "trials"]]
        row: Any
        for row in own.itertuples():
            value = f"{row.value} (best)" if row.is_best else row.value
            numbers = [number(part) for part in (row.held, row.mean, row.lowest, row.highest)]
            rows.append([value, *numbers, f"{row.trials:,}"])
        page += [f"## {escape_markdown(str(name))}", text_table(rows)]
    page += [escape_markdown(line) for line in tried.remarks]
    page += [HOW_TO_READ, "![Score by value of each setting](sensitivity.png)"]
    write_figure(folder, "sensitivity", draw_sensitivity(frame, tried.metric))
    write_csv(folder / "sensitivity.csv", frame)
    write_text(folder / "sensitivity.md", "\n\n".join(page) + "\n")
    return folder / "sensitivity.md"
