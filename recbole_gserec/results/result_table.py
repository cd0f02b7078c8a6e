"""The content of Table 2: rows, columns, and every note that a reader needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recbole_gserec.results.cells import Cell, best_model, cell_note, fill_column
from recbole_gserec.results.load import ModelRuns, recorded_mode, why_not_comparable
from recbole_gserec.results.metrics import Metric
from recbole_gserec.results.origins import loss_of
from recbole_gserec.results.significance import Comparison
from recbole_gserec.settings import model_group, printed_name


@dataclass(frozen=True)
class Row:
    """The row of a model.

    Attributes:
        model: Its name in RecBole.
        name: Its printed name.
        group: The paper's group of the model.
        cells: By dataset, one cell for each metric.
        notes: By dataset, the index of its note among the table's notes, if it has one.
    """

    model: str
    name: str
    group: str
    cells: Mapping[str, tuple[Cell, ...]]
    notes: Mapping[str, int]


@dataclass(frozen=True)
class ResultTable:
    """Everything that a table shows, in any format.

    Attributes:
        datasets: In the order of the columns.
        metrics: Columns of each dataset.
        rows: In the paper's order.
        seeds: By dataset, the seeds of all models.
        n_users: By dataset; 0 without a finished run.
        modes: By dataset, how targets are ranked, such as ``uni99``; empty without a finished run.
        references: By dataset, the model that others are compared with; None if it has no finished run.
        counts_training: By dataset, whether tests account for random differences of training, which takes several
            seeds.
        losses: By dataset, the loss that each model with a finished run was trained by.
        remarks: Sentences about the results of a whole dataset.
        notes: Texts that rows refer to.
    """

    datasets: tuple[str, ...]
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    seeds: Mapping[str, tuple[int, ...]]
    n_users: Mapping[str, int]
    modes: Mapping[str, str]
    references: Mapping[str, str | None]
    counts_training: Mapping[str, bool]
    losses: Mapping[str, Mapping[str, str]]
    remarks: tuple[str, ...]
    notes: tuple[str, ...]


def build_table(
    cells: Mapping[tuple[str, str], ModelRuns],
    datasets: Sequence[str],
    models: Sequence[str],
    metrics: tuple[Metric, ...],
    references: Mapping[str, str | None],
    comparisons: Sequence[Comparison],
    remarks: Sequence[str],
) -> ResultTable:
    """Build the table.

    A result whose data or candidates differ from the reference's (without a reference, from the best model's) is shown
    with a note and not ranked.

    Args:
        cells: For every dataset and model.
        datasets: In the order of the columns.
        models: In the order of the rows.
        metrics: Columns of each dataset.
        references: The reference of each dataset.
        comparisons: The references against all other models.
        remarks: Sentences about the results of a whole dataset.
    """
    filled: dict[tuple[str, str], list[Cell]] = {}
    notes: dict[tuple[str, str], str] = {}
    seeds, n_users, modes, losses = {}, {}, {}, {}
    for dataset in datasets:
        own = {model: cells[dataset, model] for model in models}
        seeds[dataset] = tuple(sorted({run.seed for cell in own.values() for run in cell.runs}))
        anchor = references[dataset] or best_model(own.values(), metrics)
        run = next(iter(own[anchor].finished.values())) if anchor else None
        n_users[dataset] = len(run.test_ranks.users) if run else 0
        modes[dataset] = recorded_mode(run.record) if run else ""
        firsts = {model: next(iter(cell.finished.values())) for model, cell in own.items() if cell.finished}
        losses[dataset] = {model: loss_of(first.record) for model, first in firsts.items()}
        refused = {model: why_not_comparable(own[anchor], cell) for model, cell in own.items()} if anchor else {}
        for model, cell in own.items():
            if note := cell_note(cell, seeds[dataset], anchor, refused.get(model)):
                notes[dataset, model] = note
        for metric in metrics:
            found = {each.model: each for each in comparisons if (each.dataset, each.metric) == (dataset, metric.name)}
            for model, shown in fill_column(own, metric, references[dataset], refused, found).items():
                filled.setdefault((dataset, model), []).append(shown)
    # Notes are lettered in order of appearance, row by row.
    texts = [notes[dataset, model] for model in models for dataset in datasets if (dataset, model) in notes]
    rows = [
        Row(
            model,
            printed_name(model),
            model_group(model),
            {dataset: tuple(filled[dataset, model]) for dataset in datasets},
            {dataset: texts.index(notes[dataset, model]) for dataset in datasets if (dataset, model) in notes},
        )
        for model in models
    ]
    several = {each.dataset for each in comparisons if each.counts_training}
    by_dataset = (seeds, n_users, modes, references, {dataset: dataset in several for dataset in datasets}, losses)
    return ResultTable(tuple(datasets), metrics, tuple(rows), *by_dataset, tuple(remarks), tuple(texts))
