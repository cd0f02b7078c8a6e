"""The same models by lists of candidates and among all items, which may order them differently."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from recbole_gserec.errors import not_none
from recbole_gserec.report import escape_markdown, interval, markdown_table, number
from recbole_gserec.results.load import ModelRuns
from recbole_gserec.results.metrics import Metric, main_metric, parse_metric
from recbole_gserec.results.result_figure import mean_and_half_interval
from recbole_gserec.results.result_table import ResultTable
from recbole_gserec.runs import TestRanks
from recbole_gserec.settings import printed_name

_SIDES = ("lists", "all")
_HEAD = ("model", "by lists", "95 % interval", "position", "among all", "95 % interval", "position", "seeds")
HOW_TO_READ = (
    "Targets of the same users, once in the candidate lists of the table and once among all items without those that "
    "the user interacted with or clicked in a search, the same for all models. Intervals are over users and, with "
    "several seeds, over seeds. Kendall's tau is 1 if both orders of the models are equal, and −1 if one is the "
    "reverse of the other."
)


def all_items_frame(table: ResultTable, cells: Mapping[tuple[str, str], ModelRuns]) -> pd.DataFrame:
    """Compare both rankings by the table's main metric.

    Args:
        table: The table; models that it does not rank are left out.
        cells: The runs that it shows. Those that did not rank targets among all items are left out.

    Returns:
        A row for each dataset and model, empty without such runs: ``mean``, its 95 % interval ``low`` to ``high`` and
        ``position`` by both rankings (``_lists``, ``_all``); ``n_users``; ``seeds``; and the dataset's ``kendall_tau``,
        tau-b of the two orders, NaN if it is undefined.
    """
    metric = main_metric(table.metrics)
    rows: list[dict[str, Any]] = []
    for dataset in table.datasets:
        ranked = [cells[dataset, row.model] for row in table.rows if row.cells[dataset][0].is_ranked]
        rows += _rows(dataset, ranked, metric)
    return pd.DataFrame(rows)


def _rows(dataset: str, cells: list[ModelRuns], metric: Metric) -> list[dict[str, Any]]:
    runs = [[run for run in cell.finished.values() if run.ranks_among_all is not None] for cell in cells]
    among_all = [not_none(run.ranks_among_all).users.to_pandas() for own in runs for run in own]
    if not among_all:
        return []
    # The users are the same, unless their number was changed between runs.
    users = pa.array(sorted(set(among_all[0]).intersection(*among_all[1:])), pa.string())
    if len(users) < 2:
        return []
    both = []
    for cell, own in zip(cells, runs, strict=True):
        if own:
            by_lists = tuple(replace(run, ranks=_of_users(run.test_ranks, users)) for run in own)
            by_all = tuple(replace(run, ranks=_of_users(not_none(run.ranks_among_all), users)) for run in own)
            both.append(tuple(ModelRuns(cell.dataset, cell.model, part) for part in (by_lists, by_all)))
    bounds = np.array([[mean_and_half_interval(part, metric) for part in parts] for parts in both])
    means = bounds[..., 0].round(12)
    positions = stats.rankdata(-means, method="min", axis=0).astype(int)
    tau = float(stats.kendalltau(*means.T).statistic) if len(both) > 1 else np.nan
    rows = []
    for (cell, _), bound, places in zip(both, bounds.tolist(), positions.tolist(), strict=True):
        row: dict[str, Any] = {"dataset": dataset, "model": cell.model, "metric": metric.name}
        for side, (mean, half), place in zip(_SIDES, bound, places, strict=True):
            values = {"mean": mean, "low": mean - half, "high": mean + half, "position": place}
            row |= {f"{name}_{side}": value for name, value in values.items()}
        seeds = " ".join(str(run.seed) for run in cell.runs)
        rows.append(row | {"n_users": len(users), "seeds": seeds, "kendall_tau": tau})
    return rows


def _of_users(ranks: TestRanks, users: pa.Array) -> TestRanks:
    rows = pc.index_in(users, value_set=ranks.users)
    return TestRanks(users, ranks.items.take(rows), ranks.ranks[rows.to_numpy()])


def all_items_markdown(frame: pd.DataFrame) -> str:
    """Write a table for each dataset, with Kendall's tau of the two orders of models."""
    parts = [HOW_TO_READ]
    for dataset, own in frame.groupby("dataset", sort=False):
        rows = own.to_dict("records")
        title = f"{dataset}, {parse_metric(rows[0]['metric']).label}, {rows[0]['n_users']:,} users"
        parts += [f"### {escape_markdown(title)}", markdown_table([_HEAD, *map(_line, rows)])]
        parts.append(f"Kendall's tau of the two orders: {number(rows[0]['kendall_tau'], '.2f')}.")
    return "\n\n".join(parts) + "\n"


def _line(row: Mapping[Any, Any]) -> list[str]:
    cells = [escape_markdown(printed_name(row["model"]))]
    for side in _SIDES:
        cells += [number(row[f"mean_{side}"]), interval(row[f"low_{side}"], row[f"high_{side}"], ".4f")]
        cells.append(str(row[f"position_{side}"]))
    return [*cells, row["seeds"]]
