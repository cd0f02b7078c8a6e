"""Table 2 as Markdown, LaTeX and CSV, and for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from recbole_gserec import escaping
from recbole_gserec.benchmark.legend import legend, note_mark
from recbole_gserec.benchmark.model_names import GROUPS
from recbole_gserec.benchmark.result_table import Cell, ResultTable, Row
from recbole_gserec.markdown_table import markdown_table

_STYLES = {0: "", 1: "bold", 2: "underline"}
_MARKDOWN = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}
_LATEX = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}


def _groups(table: ResultTable) -> Iterator[tuple[str, list[Row]]]:
    for group in GROUPS:
        if rows := [row for row in table.rows if row.group == group]:
            yield group, rows


def markdown(table: ResultTable) -> str:
    """Write a table for each dataset, with its notes."""
    parts = []
    for dataset in table.datasets:
        rows = [["model", *(metric.label for metric in table.metrics)]]
        for group, members in _groups(table):
            rows.append([f"*{group}*", *[""] * len(table.metrics)])
            for row in members:
                mark = f"<sup>{note_mark(row.notes[dataset])}</sup>" if dataset in row.notes else ""
                rows.append([escaping.markdown(row.name) + mark, *map(_markdown_cell, row.cells[dataset])])
        parts += [f"### {escaping.markdown(dataset)}", markdown_table(rows)]
    parts += [escaping.markdown(line) for line in legend(table)]
    parts += [f"<sup>{note_mark(index)}</sup> {escaping.markdown(note)}" for index, note in enumerate(table.notes)]
    return "\n\n".join(parts) + "\n"


def _markdown_cell(cell: Cell) -> str:
    star = r"\*" if cell.star else ""
    deviation = f" ± {cell.deviation:.4f}" if cell.deviation is not None else ""
    return _MARKDOWN[cell.position].format(cell.text) + star + deviation


def latex(table: ResultTable) -> str:
    """Write one table for all datasets, as wide as both columns of a paper."""
    n_metrics = len(table.metrics)
    n_columns = 1 + n_metrics * len(table.datasets)
    heads = [rf"\multicolumn{{{n_metrics}}}{{c}}{{{escaping.latex(dataset)}}}" for dataset in table.datasets]
    rules = [rf"\cmidrule(lr){{{2 + i * n_metrics}-{1 + (i + 1) * n_metrics}}}" for i in range(len(table.datasets))]
    labels = [metric.label for metric in table.metrics] * len(table.datasets)
    lines = [
        r"% \usepackage{booktabs,graphicx}",
        r"\providecommand{\deviation}[1]{$_{\pm#1}$}",
        r"\begin{table*}",
        r"\centering",
        r"\caption{" + " ".join(map(escaping.latex, legend(table))) + "}",
        r"\label{tab:benchmark}",
        r"\setlength{\tabcolsep}{3pt}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{l*{{{n_columns - 1}}}{{c}}}}",
        r"\toprule",
        rf"& {' & '.join(heads)} \\",
        " ".join(rules),
        rf"Model & {' & '.join(labels)} \\",
    ]
    for group, rows in _groups(table):
        lines += [r"\midrule", rf"\multicolumn{{{n_columns}}}{{l}}{{\textit{{{group}}}}} \\"]
        lines += [_latex_row(table, row) for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.notes:
        notes = (
            rf"\textsuperscript{{{note_mark(index)}}} {escaping.latex(note)}" for index, note in enumerate(table.notes)
        )
        lines += [r"\par\smallskip\raggedright\footnotesize", "\n\\par\n".join(notes)]
    return "\n".join([*lines, r"\end{table*}", ""])


def _latex_row(table: ResultTable, row: Row) -> str:
    cells = []
    for dataset in table.datasets:
        own = list(map(_latex_cell, row.cells[dataset]))
        if dataset in row.notes:
            own[0] += rf"\textsuperscript{{{note_mark(row.notes[dataset])}}}"
        cells += own
    return rf"{escaping.latex(row.name)} & {' & '.join(cells)} \\"


def _latex_cell(cell: Cell) -> str:
    deviation = rf"\deviation{{{cell.deviation:.4f}}}".replace("{0.", "{.") if cell.deviation is not None else ""
    mean = _LATEX[cell.position].format(escaping.latex(cell.text))
    return mean + "*" * cell.star + deviation


def long_frame(table: ResultTable) -> pd.DataFrame:
    """Make one row for each dataset, model and metric; without a result, ``word`` is ``failed`` or ``–``."""
    rows = [
        {
            "dataset": dataset,
            "model": row.model,
            "group": row.group,
            "metric": metric.name,
            "mean": cell.mean,
            "deviation": cell.deviation,
            "n_seeds": cell.n_seeds,
            "place": cell.position or None,
            "significant": cell.star,
            "word": cell.word,
            "note": table.notes[row.notes[dataset]] if dataset in row.notes else "",
        }
        for dataset in table.datasets
        for row in table.rows
        for metric, cell in zip(table.metrics, row.cells[dataset], strict=True)
    ]
    return pd.DataFrame(rows).astype({"mean": float, "deviation": float, "place": "Int64"})


def wide_frame(table: ResultTable) -> pd.DataFrame:
    """Make the table as printed: one row for each model, one column of means for each dataset and metric."""
    rows = [
        {
            "model": row.model,
            **{
                f"{dataset} {metric.label}": cell.text
                for dataset in table.datasets
                for metric, cell in zip(table.metrics, row.cells[dataset], strict=True)
            },
        }
        for row in table.rows
    ]
    return pd.DataFrame(rows)


def terminal(table: ResultTable) -> Group:
    """Make a table for each dataset, for ``rich.console.Console.print``."""
    shown: list[Table | Text] = []
    for dataset in table.datasets:
        rich_table = Table(title=Text(dataset))
        rich_table.add_column("model", no_wrap=True)
        for metric in table.metrics:
            rich_table.add_column(metric.label, justify="right")
        for _, rows in _groups(table):
            for row in rows:
                mark = f" ({note_mark(row.notes[dataset])})" if dataset in row.notes else ""
                rich_table.add_row(Text(row.name + mark), *map(_rich_cell, row.cells[dataset]))
            rich_table.add_section()
        shown.append(rich_table)
    shown += [Text(line) for line in legend(table)]
    shown += [Text(f"({note_mark(index)}) {note}") for index, note in enumerate(table.notes)]
    return Group(*shown)


def _rich_cell(cell: Cell) -> Text:
    text = Text(cell.text, style=_STYLES[cell.position])
    text = Text.assemble(text, "*" * cell.star)
    return text.append(f" ± {cell.deviation:.4f}") if cell.deviation is not None else text
