"""Table 2 as Markdown, LaTeX, CSV and for the terminal, with its legend and the list of failed runs."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from recbole_gserec.report import escape_latex, escape_markdown, markdown_table, name_by_numbers
from recbole_gserec.results.load import StoredRun
from recbole_gserec.results.result_table import Cell, ResultTable, Row
from recbole_gserec.runs import FINISHED, OF_SEARCHES
from recbole_gserec.settings import GROUPS, printed_name

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def legend(table: ResultTable) -> list[str]:
    """Return the sentences that apply to this table."""
    several = any(len(seeds) > 1 for seeds in table.seeds.values())
    what = "Mean ± standard deviation over seeds" if several else "Means of one seed"
    done = [dataset for dataset in table.datasets if table.n_users[dataset]]
    lines = [f"{what}; HR is Hit; best in bold, second underlined."]
    lines += [_amounts(table, dataset) for dataset in table.datasets]
    lines += _once({dataset: f"targets are ranked {_ranked(table.modes[dataset])}" for dataset in done})
    lines += _once({dataset: _trained(table, dataset) for dataset in done})
    lines += _once({dataset: _tested(table, dataset) for dataset in done})
    lines += table.remarks
    tests = {
        table.counts_training[dataset]
        for row in table.rows
        for dataset, cells in row.cells.items()
        if any(cell.star for cell in cells)
    }
    if tests:
        test = " or, with one seed, ".join(_TESTS[counted] for counted in sorted(tests, reverse=True))
        lines.append(
            f"* better than the best other model: {test}, p < 0.05 after Holm's correction for the number of models "
            "compared."
        )
    return lines


_TESTS = {True: "two-way test over users and seeds", False: "paired t-test over users"}


def _amounts(table: ResultTable, dataset: str) -> str:
    seeds, users = table.seeds[dataset], table.n_users[dataset]
    if not seeds:
        return f"{dataset}: no runs."
    amount = f"{users:,} users" if users else "no finished run"
    return f"{dataset}: {amount}, {name_by_numbers('seed', seeds)}."


def _once(facts: Mapping[str, str]) -> list[str]:
    """Return one sentence for all datasets if they are alike, or else one for each dataset."""
    if len(set(facts.values())) == 1:
        fact = next(iter(facts.values()))
        return [f"{fact[0].upper()}{fact[1:]}."]
    return [f"{dataset}: {fact}." for dataset, fact in facts.items()]


def _trained(table: ResultTable, dataset: str) -> str:
    models: dict[str, list[str]] = {}
    for model, loss in table.losses[dataset].items():
        models.setdefault(loss, []).append(printed_name(model))
    if len(models) == 1:
        return f"loss: {next(iter(models))}"
    return "loss: " + "; ".join(f"{loss} {', '.join(names)}" for loss, names in models.items())


def _tested(table: ResultTable, dataset: str) -> str:
    reference = table.references[dataset]
    if not reference:
        return "no reference, no tests"
    text = f"tests are of {printed_name(reference)} against each other model"
    if table.counts_training[dataset] or len(table.rows) == 1:
        return text
    return f"{text}, over users alone: with one common seed, random differences between trainings are not counted"


def _ranked(mode: str) -> str:
    if mode.endswith(OF_SEARCHES):
        how = _ranked(mode.removesuffix(OF_SEARCHES))
        return f"{how}; a target is the last click of a user's last search with a click"
    if sampled := re.fullmatch(r"(uni|pop)(\d+)", mode):
        how = "uniformly" if sampled[1] == "uni" else "by popularity"
        return f"among {sampled[2]} items sampled {how}"
    if mode == "full":
        return "among all items (RecBole leaves out those of the user's history for its general models alone)"
    return f"by {mode}"


def note_mark(index: int) -> str:
    """Return the letter of a note: a, b, ..., z, aa, ab, ..."""
    mark = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, len(LETTERS))
        mark = LETTERS[letter] + mark
    return mark


def failures_markdown(runs: Sequence[StoredRun]) -> str:
    """Write a heading, the error and the traceback of each run that did not finish."""
    parts = []
    for run in runs:
        if run.state == FINISHED:
            continue
        title = f"{printed_name(run.model)} on {run.dataset}, seed {run.seed}: {run.state}"
        parts += [f"### {escape_markdown(title)}", _code(run.problem or ""), f"In `{run.folder}`."]
        if isinstance(trace := run.record.get("traceback"), str) and trace.strip():
            parts.append(_code(trace))
    return "\n\n".join(parts or ["All runs finished."]) + "\n"


def _code(text: str) -> str:
    """Indent a text as a code block; no character of the text can end such a block."""
    return textwrap.indent(text.rstrip(), "    ", lambda line: True)


_STYLES = {0: "", 1: "bold", 2: "underline"}
_MARKDOWN = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}
_LATEX = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}


def _groups(table: ResultTable) -> Iterator[tuple[str, list[Row]]]:
    for group in GROUPS:
        if rows := [row for row in table.rows if row.group == group]:
            yield group, rows


def table_markdown(table: ResultTable) -> str:
    """Write a table for each dataset, with its notes."""
    parts = []
    for dataset in table.datasets:
        rows = [["model", *(metric.label for metric in table.metrics)]]
        for group, members in _groups(table):
            rows.append([f"*{group}*", *[""] * len(table.metrics)])
            for row in members:
                mark = f"<sup>{note_mark(row.notes[dataset])}</sup>" if dataset in row.notes else ""
                rows.append([escape_markdown(row.name) + mark, *map(_markdown_cell, row.cells[dataset])])
        parts += [f"### {escape_markdown(dataset)}", markdown_table(rows)]
    parts += [escape_markdown(line) for line in legend(table)]
    parts += [f"<sup>{note_mark(index)}</sup> {escape_markdown(note)}" for index, note in enumerate(table.notes)]
    return "\n\n".join(parts) + "\n"


def _markdown_cell(cell: Cell) -> str:
    star = r"\*" if cell.star else ""
    deviation = f" ± {cell.deviation:.4f}" if cell.deviation is not None else ""
    return _MARKDOWN[cell.position].format(cell.text) + star + deviation


def table_latex(table: ResultTable) -> str:
    """Write one table for all datasets, as wide as both columns of a paper."""
    n_metrics = len(table.metrics)
    n_columns = 1 + n_metrics * len(table.datasets)
    heads = [rf"\multicolumn{{{n_metrics}}}{{c}}{{{escape_latex(dataset)}}}" for dataset in table.datasets]
    rules = [rf"\cmidrule(lr){{{2 + i * n_metrics}-{1 + (i + 1) * n_metrics}}}" for i in range(len(table.datasets))]
    labels = [metric.label for metric in table.metrics] * len(table.datasets)
    lines = [
        r"% \usepackage{booktabs,graphicx}",
        r"\providecommand{\deviation}[1]{$_{\pm#1}$}",
        r"\begin{table*}",
        r"\centering",
        r"\caption{" + " ".join(map(escape_latex, legend(table))) + "}",
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
            rf"\textsuperscript{{{note_mark(index)}}} {escape_latex(note)}" for index, note in enumerate(table.notes)
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
    return rf"{escape_latex(row.name)} & {' & '.join(cells)} \\"


def _latex_cell(cell: Cell) -> str:
    deviation = rf"\deviation{{{cell.deviation:.4f}}}".replace("{0.", "{.") if cell.deviation is not None else ""
    mean = _LATEX[cell.position].format(escape_latex(cell.text))
    return mean + "*" * cell.star + deviation


def long_frame(table: ResultTable) -> pd.DataFrame:
    """Make one row for each dataset, model and metric; without a result, ``word`` is ``failed`` or ``–``."""
    rows = [
        {
            "dataset": dataset,
            "model": row.model,
            "group": row.group,
            "loss": table.losses[dataset].get(row.model),
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


def table_terminal(table: ResultTable) -> Group:
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
