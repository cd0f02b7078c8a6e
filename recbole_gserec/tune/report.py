"""The trials of a sweep as a table in CSV and Markdown, with a figure for every setting."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from recbole_gserec.files import written_aside
from recbole_gserec.report import escape_markdown, markdown_table, write_figure, write_text
from recbole_gserec.tune.space import Choice, Range
from recbole_gserec.tune.sweep import Sweep, TrialRecord, read_trials

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL_INCHES = 1.25


def draw_settings(trials: Sequence[TrialRecord], space: Mapping[str, Choice | Range], metric: str) -> Figure:
    """Draw a panel for each setting: a dot for each trial, and a line through the best trial of each value."""
    figure, panels = new_panels(len(space), _PANEL_INCHES)
    scored = [record for record in trials if record.best_score is not None]
    for panel, (name, values) in zip(panels, space.items(), strict=True):
        # All panels share the score axis, so that they show how much each setting matters.
        panel.sharey(panels[0])
        _draw(panel, name, values, scored)
    figure.supylabel(plain_text(metric), fontsize=POINTS)
    return figure


def _draw(panel: Axes, name: str, values: Choice | Range, trials: Sequence[TrialRecord]) -> None:
    tried = [(record.settings[name], record) for record in trials if name in record.settings]
    if isinstance(values, Choice):
        ordered = sorted(values.values, key=_order)
        indices = {_key(value): index for index, value in enumerate(ordered)}
        name_values(panel, [format_short(value) if is_number(value) else str(value) for value in ordered])
        points = [(indices[_key(value)], record) for value, record in tried if _key(value) in indices]
    else:
        points = list(tried)
        if "log" in values.kind:
            panel.set_xscale("log")
        elif values.kind == "randint":
            panel.locator_params(axis="x", integer=True)
    xs, ys = [index for index, _ in points], [_score(record) for _, record in points]
    panel.plot(xs, ys, linestyle="", marker="o", markersize=2.5, color=BLUE, alpha=0.6)
    if isinstance(values, Choice):
        best: dict[Any, TrialRecord] = {}
        for index, record in points:
            if index not in best or record.rank < best[index].rank:
                best[index] = record
        at = sorted(best)
        panel.plot(at, [_score(best[index]) for index in at], linewidth=1, color=ORANGE)
    panel.set_xlabel(plain_text(name), fontsize=POINTS)
    draw_tick_lines(panel)


def _score(record: TrialRecord) -> float:
    return math.nan if record.best_score is None else record.best_score


def _key(value: Any) -> str:
    return repr(value)


def _order(value: Any) -> tuple[bool, Any]:
    return not is_number(value), value if is_number(value) else str(value)


TABLE_FILE, REPORT_FILE, FIGURE = "trials.csv", "report.md", "settings"


def write_sweep_report(folder: Path, sweep: Sweep, winner: dict[str, Any], metric: str) -> Path:
    """Write the table, the figure and the page that shows both; return the page.

    Args:
        folder: Folder of the sweep.
        sweep: The sweep.
        winner: See :mod:`winner`.
        metric: RecBole's ``valid_metric``.
    """
    trials, names = read_trials(folder), list(sweep.space)
    _write_table(folder / TABLE_FILE, trials, names)
    write_figure(folder, FIGURE, draw_settings(trials, sweep.space, metric))
    test = ", ".join(f"{name} {value:.4f}" for name, value in winner["test"].items())
    text = f"""# {escape_markdown(sweep.model)} on {escape_markdown(sweep.dataset)}: {len(trials)} trials

Search `{sweep.search}`, scheduler `{sweep.scheduler}`, seed {sweep.seed}. Trials are compared by {metric} on the
validation part, at their best epoch. The test part was evaluated once, for the winner.

Winner: trial `{winner["trial"]}`, {metric} {winner["score"]:.4f} (validation). Test: {test}.
Its settings: `run_recbole --config_files=best.yaml`.

Every trial is one training with one seed, so the best of many trials is partly chance. Trials that differ by less than
trainings with different seeds are equally good as far as this sweep can show.

{markdown_table(_rows(trials, names, metric))}

`stopped`: by the scheduler, before its end. `failed`: see the reason below and the trial's `log.txt`.

![Score by value of each setting]({FIGURE}.png)
"""
    failures = [f"- `{record.trial}`: {escape_markdown(record.error)}" for record in trials if record.error]
    if failures:
        text += "\n## Failed trials\n\n" + "\n".join(failures) + "\n"
    write_text(folder / REPORT_FILE, text)
    return folder / REPORT_FILE


def _rows(trials: Sequence[TrialRecord], names: Sequence[str], metric: str) -> list[list[str]]:
    head = ["trial", *map(escape_markdown, names), metric, "best epoch", "epochs", "seconds", "status"]
    rows = []
    for record in trials:
        score = "–" if record.best_score is None else f"{record.best_score:.4f}"
        best = "–" if record.best_epoch is None or record.best_score is None else str(record.best_epoch + 1)
        values = [escape_markdown(str(record.settings.get(name, "–"))) for name in names]
        rows.append([record.trial, *values, score, best, str(record.epochs), f"{record.seconds:.0f}", record.status])
    return [head, *rows]


def _write_table(path: Path, trials: Sequence[TrialRecord], names: Sequence[str]) -> None:
    columns = ["trial", *names, "score", "best_epoch", "epochs", "seconds", "status", "error"]
    with written_aside(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for record in trials:
            best = None if record.best_epoch is None else record.best_epoch + 1
            what = [record.best_score, best, record.epochs, round(record.seconds, 3), record.status, record.error]
            writer.writerow([record.trial, *(record.settings.get(name) for name in names), *what])
