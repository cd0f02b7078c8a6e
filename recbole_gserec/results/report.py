"""The report of a benchmark, made only from its stored runs. The same runs produce the same bytes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from recbole_gserec.errors import DataError, SettingError, nearest
from recbole_gserec.files import write_json
from recbole_gserec.report import write_csv, write_figure, write_text
from recbole_gserec.results.all_items import all_items_frame, all_items_markdown
from recbole_gserec.results.beside import SideBySide, beside_markdown, side_by_side
from recbole_gserec.results.cells import reference_model
from recbole_gserec.results.costs import costs_frame, markdown
from recbole_gserec.results.load import ModelRuns, StoredRun, choose_runs, load_runs
from recbole_gserec.results.metrics import chosen_metrics, main_metric
from recbole_gserec.results.origins import describe_mixed_code, settings_markdown, versions_markdown
from recbole_gserec.results.result_figure import draw
from recbole_gserec.results.result_table import ResultTable, build_table
from recbole_gserec.results.significance import Comparison, compare, comparisons_frame, significance_markdown
from recbole_gserec.results.tables import (
    failures_markdown,
    long_frame,
    table_latex,
    table_markdown,
    table_terminal,
    wide_frame,
)
from recbole_gserec.settings import OURS, in_paper_order, printed_name

_logger = getLogger(__name__)

OPTIONS_FILE = "options.json"
_ALL_ITEMS_FILES = ("all_items.md", "all_items.csv")
_BESIDE_FILES = ("beside.md", "beside.csv")

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that is reported.

    Attributes:
        table: Table 2.
        comparisons: The references against all other models.
        cells: Every dataset and model, including those without runs.
        runs: All stored runs of these datasets and models.
        costs: The frame of :func:`costs.costs_frame`.
    """

    table: ResultTable
    comparisons: Sequence[Comparison]
    cells: Mapping[tuple[str, str], ModelRuns]
    runs: Sequence[StoredRun]
    costs: pd.DataFrame


def write_report(
    output: Path,
    *,
    reference: str | None = None,
    metrics: list[str] | None = None,
    models: list[str] | None = None,
    datasets: list[str] | None = None,
    keys: Collection[str] | None = None,
    beside: Path | None = None,
    console: Console | None = None,
) -> Path:
    """Write ``<output>/report/`` from the runs stored in ``<output>/runs/``.

    The requested reference and metrics are stored in ``report/options.json``, and later reports use them too.

    Args:
        output: The benchmark's folder.
        reference: The model that all others are compared with. By default, the one last requested, or else GSERec, or
            without runs of GSERec the best model.
        metrics: For example ``NDCG@10``. By default, those last requested, or else those of the paper's Table 2.
        models: Rows of the table, including models without runs; by default all models with runs.
        datasets: Columns of the table; by default all datasets with runs.
        keys: Use only runs with these keys; by default the newest settings of each model on each dataset.
        beside: Folder of another benchmark, whose results are put beside these, model by model.
        console: Where to print the table; None prints nothing.

    Returns:
        ``<output>/report/report.md``.

    Raises:
        DataError: If there are no such runs, or those of the other folder have other data, targets or candidates.
        SettingError: For an unknown metric, or a reference that is not in the table.
    """
    folder = Path(output) / "report"
    kept = _kept_options(folder / OPTIONS_FILE)
    asked = {"reference": reference, "metrics": metrics}
    options = {**kept, **{name: value for name, value in asked.items() if value is not None}}
    if again := {name: value for name, value in options.items() if asked[name] is None}:
        described = ", ".join(f"{name} {value}" for name, value in again.items())
        _logger.info(f"As in the last report: {described}. For the defaults, delete {folder / OPTIONS_FILE}")
    try:
        report = make_report(output, **options, models=models, datasets=datasets, keys=keys)
    except SettingError:
        if "reference" not in again:
            raise
        # It was requested for a table with other models.
        _logger.warning(f"{again['reference']} is not among these models, and not the reference of this report")
        report = make_report(output, metrics=options.get("metrics"), models=models, datasets=datasets, keys=keys)
    if console:
        console.print(table_terminal(report.table))
    side, problem = None, None
    if beside is not None:
        try:
            side = side_by_side(report.table, report.cells, Path(output), Path(beside))
        except DataError as error:
            # The report is written first.
            problem = error
    page = save_report(report, folder, side)
    if options:
        write_json(folder / OPTIONS_FILE, options)
    if problem is not None:
        raise problem
    return page


def _kept_options(path: Path) -> dict[str, Any]:
    """Return what was requested for an earlier report; nothing if that cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    content = content if isinstance(content, dict) else {}
    reference, metrics = content.get("reference"), content.get("metrics")
    options: dict[str, Any] = {"reference": reference} if isinstance(reference, str) else {}
    if isinstance(metrics, list) and all(isinstance(metric, str) for metric in metrics):
        options["metrics"] = metrics
    return options


def make_report(
    output: Path,
    *,
    reference: str | None = None,
    metrics: list[str] | None = None,
    models: list[str] | None = None,
    datasets: list[str] | None = None,
    keys: Collection[str] | None = None,
) -> Report:
    """Read the runs and compare them; see :func:`write_report`."""
    wanted = chosen_metrics(metrics)
    stored = load_runs(output)
    runs = [run for run in stored if keys is None or run.key in keys]
    datasets = list(dict.fromkeys(datasets or sorted({run.dataset for run in runs})))
    rows = in_paper_order(models or {run.model for run in runs if run.dataset in datasets})
    runs = [run for run in runs if run.dataset in datasets and run.model in rows]
    if not runs:
        raise DataError(Path(output) / "runs", "has no runs of these models on these datasets", "Run the benchmark")
    if reference is not None and reference not in rows:
        near = nearest(reference, rows)
        hint = f"Did you mean '{near}'?" if near else f"There are {', '.join(rows)}."
        raise SettingError(f"the reference '{reference}' is not among the models. {hint}")
    chosen = choose_runs(runs)
    cells = {
        (dataset, model): chosen.get((dataset, model), ModelRuns(dataset, model))
        for dataset in datasets
        for model in rows
    }
    references, comparisons, remarks = {}, [], []
    for dataset in datasets:
        own = {model: cells[dataset, model] for model in rows}
        references[dataset] = reference_model(own.values(), wanted, reference)
        if (name := references[dataset]) is not None:
            _logger.info(f"{dataset}: comparing {name} with the others ({len(rows) - 1})")
            comparisons += compare(own[name], [cell for model, cell in own.items() if model != name], wanted)
            if reference is None and name != OURS and len(rows) > 1:
                best = f"{printed_name(name)} is the reference because it is the best by {main_metric(wanted).label}"
                remarks.append(f"{dataset}: {best}; chosen by the tested results, so its p-values are too small.")
        if mixed := describe_mixed_code(dataset, own.values()):
            remarks.append(mixed)
    table = build_table(cells, datasets, rows, wanted, references, comparisons, remarks)
    return Report(table, comparisons, cells, runs, costs_frame(cells.values(), stored))


def save_report(report: Report, folder: Path, side: SideBySide | None = None) -> Path:
    """Write all files of a report; return the path of the page that contains everything.

    Args:
        report: The report.
        folder: Where to write. Files of an earlier report with two folders are removed.
        side: The results of two folders side by side.
    """
    table = table_markdown(report.table)
    tests = significance_markdown(report.comparisons)
    cost = markdown(report.costs)
    failed = failures_markdown(report.runs)
    write_text(folder / "table.md", "# Results\n\n" + table)
    write_text(folder / "table.tex", table_latex(report.table))
    write_csv(folder / "table.csv", long_frame(report.table))
    write_csv(folder / "table_wide.csv", wide_frame(report.table))
    write_text(folder / "significance.md", "# Tests\n\n" + tests)
    write_csv(folder / "significance.csv", comparisons_frame(report.comparisons))
    write_text(folder / "costs.md", "# Costs\n\n" + cost)
    write_csv(folder / "costs.csv", report.costs)
    write_text(folder / "failed.md", "# Runs that did not finish\n\n" + failed)
    write_figure(folder, "figure", draw(report.table, report.cells))
    parts = ["# Benchmark", "## Results", table.rstrip(), "![Results with intervals over users](figure.png)"]
    frame = all_items_frame(report.table, report.cells)
    among_all = None if frame.empty else (all_items_markdown(frame), frame)
    parts += _written_or_removed(folder, _ALL_ITEMS_FILES, "Among all items", among_all)
    beside = None if side is None else (beside_markdown(side), side.frame)
    parts += _written_or_removed(folder, _BESIDE_FILES, "Side by side", beside)
    parts += ["## Tests", tests.rstrip(), "## Costs", cost.rstrip(), "## Settings", *_settings(report)]
    parts += ["## Runs that did not finish", failed]
    write_text(folder / "report.md", "\n\n".join(parts))
    return folder / "report.md"


def _written_or_removed(
    folder: Path, names: tuple[str, str], title: str, content: tuple[str, pd.DataFrame] | None
) -> list[str]:
    """Write the page and the table of an optional section and return it, or else remove those of earlier reports."""
    if content is None:
        for name in names:
            (folder / name).unlink(missing_ok=True)
        return []
    text, frame = content
    write_text(folder / names[0], f"# {title}\n\n{text}")
    write_csv(folder / names[1], frame)
    return [f"## {title}", text.rstrip()]


def _settings(report: Report) -> list[str]:
    parts = [
        settings_markdown(dataset, [report.cells[dataset, row.model] for row in report.table.rows])
        for dataset in report.table.datasets
    ]
    chosen = [run for cell in report.cells.values() for run in cell.runs]
    return [*parts, *filter(None, [versions_markdown(chosen)])]
