"""The trials of a sweep as a table in CSV and Markdown, with a figure of every setting."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_gserec.escaping import markdown
from recbole_gserec.files import written_aside
from recbole_gserec.markdown_table import markdown_table
from recbole_gserec.report_files import write_figure, write_text
from recbole_gserec.tune.figure import draw_settings
from recbole_gserec.tune.sweep import Sweep
from recbole_gserec.tune.trial_record import TrialRecord, read_trials

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
    text = f"""# {markdown(sweep.model)} on {markdown(sweep.dataset)}: {len(trials)} trials

Search `{sweep.search}`, scheduler `{sweep.scheduler}`, seed {sweep.seed}. Trials are compared by {metric} on the
validation part, at their best epoch. The test part was evaluated once, for the winner.

Winner: trial `{winner["trial"]}`, {metric} {winner["score"]:.4f} (validation). Test: {test}.
Its settings: `run_recbole --config_files=best.yaml`.

Every trial is one training with one seed, so the best of many trials is partly lucky. Trials that differ by less than
trainings with different seeds are equally good as far as this sweep can show.

{markdown_table(_rows(trials, names, metric))}

`stopped`: by the scheduler, before its end. `failed`: see the reason below and the trial's `log.txt`.

![Score by value of each setting]({FIGURE}.png)
"""
    failures = [f"- `{record.trial}`: {markdown(record.error)}" for record in trials if record.error]
    if failures:
        text += "\n## Failed trials\n\n" + "\n".join(failures) + "\n"
    write_text(folder / REPORT_FILE, text)
    return folder / REPORT_FILE


def _rows(trials: Sequence[TrialRecord], names: Sequence[str], metric: str) -> list[list[str]]:
    head = ["trial", *map(markdown, names), metric, "best epoch", "epochs", "seconds", "status"]
    rows = []
    for record in trials:
        score = "–" if record.best_score is None else f"{record.best_score:.4f}"
        best = "–" if record.best_epoch is None or record.best_score is None else str(record.best_epoch + 1)
        values = [markdown(str(record.settings.get(name, "–"))) for name in names]
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
