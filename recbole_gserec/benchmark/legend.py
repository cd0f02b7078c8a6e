"""What the numbers of a table mean, in sentences below it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from recbole_gserec.benchmark.model_names import printed_name
from recbole_gserec.benchmark.result_table import ResultTable
from recbole_gserec.wording import name_by_numbers

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def legend(table: ResultTable) -> list[str]:
    """Return the sentences that apply to this table."""
    several = any(len(seeds) > 1 for seeds in table.seeds.values())
    what = "Mean ± standard deviation over seeds" if several else "Means of one seed"
    done = [dataset for dataset in table.datasets if table.n_users[dataset]]
    lines = [f"{what}; HR is Hit; best in bold, second underlined."]
    lines += [_amounts(table, dataset) for dataset in table.datasets]
    lines += _once({dataset: f"targets are ranked {_ranked(table.modes[dataset])}" for dataset in done})
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


def _tested(table: ResultTable, dataset: str) -> str:
    reference = table.references[dataset]
    if not reference:
        return "no reference, no tests"
    text = f"tests are of {printed_name(reference)} against each other model"
    if table.counts_training[dataset] or len(table.rows) == 1:
        return text
    return f"{text}, over users alone: with one common seed, random differences between trainings are not counted"


def _ranked(mode: str) -> str:
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
