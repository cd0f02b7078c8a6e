"""The results of two folders side by side, such as those of the papers' losses and those of one objective."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from recbole_gserec.errors import DataError
from recbole_gserec.report import escape_markdown, interval, markdown_table, number
from recbole_gserec.results.cells import rounded_mean
from recbole_gserec.results.load import ModelRuns, choose_runs, common_seeds, load_runs, why_not_comparable
from recbole_gserec.results.metrics import main_metric, parse_metric
from recbole_gserec.results.origins import loss_of
from recbole_gserec.results.result_figure import mean_and_half_interval
from recbole_gserec.results.result_table import ResultTable
from recbole_gserec.results.significance import compare_pairs, format_p_value, refusals_markdown
from recbole_gserec.settings import printed_name

_ADVICE = "Both folders need the same dataset files, split and candidates"


@dataclass(frozen=True, eq=False)
class SideBySide:
    """The models of a table by its main metric, in two folders.

    Attributes:
        folders: A, the folder of the table, and B, the other one.
        frame: A row for each dataset and model that is compared: ``mean``, its 95 % interval ``low`` to ``high``,
            ``position`` among these models and ``loss``, for both (``_a``, ``_b``); ``difference`` A − B with its
            interval ``difference_low`` to ``difference_high``; ``p``, corrected; ``seeds``; ``n_users``; and the
            dataset's ``kendall_tau``, tau-b of the two orders, NaN if it is undefined.
        refused: By dataset, models that are not compared, with the reasons.
    """

    folders: tuple[Path, Path]
    frame: pd.DataFrame
    refused: Mapping[str, Mapping[str, str]]


def side_by_side(
    table: ResultTable, cells: Mapping[tuple[str, str], ModelRuns], output: Path, other: Path
) -> SideBySide:
    """Compare each model of a table with the same model in another folder, over the seeds that both folders have.

    Args:
        table: The table.
        cells: The runs that it shows.
        output: Their folder.
        other: The other folder, of which the newest settings of each model count.

    Raises:
        DataError: If data, users, targets or candidates differ, or the other folder has no run to compare.
    """
    chosen = choose_runs(load_runs(other))
    rows: list[dict[str, Any]] = []
    refused: dict[str, dict[str, str]] = {dataset: {} for dataset in table.datasets}
    for dataset in table.datasets:
        pairs = []
        for row in table.rows:
            one, two = cells[dataset, row.model], chosen.get((dataset, row.model), ModelRuns(dataset, row.model))
            seeds = common_seeds(one, two)
            if not seeds:
                refused[dataset][row.model] = "both folders need a finished run with a common seed"
            elif reason := why_not_comparable(one, two):
                raise DataError(other, f"{row.name} on {dataset} cannot be put beside {output}: {reason}", _ADVICE)
            elif not row.cells[dataset][0].is_ranked:
                refused[dataset][row.model] = "not ranked in the table"
            else:
                pairs.append((_of_seeds(one, seeds), _of_seeds(two, seeds)))
        rows += _rows(dataset, pairs, table)
    if not rows:
        raise DataError(other, f"no model has a finished run with a common seed here and in {output}", _ADVICE)
    return SideBySide((output, other), pd.DataFrame(rows), refused)


def _of_seeds(cell: ModelRuns, seeds: tuple[int, ...]) -> ModelRuns:
    return ModelRuns(cell.dataset, cell.model, tuple(cell.finished[seed] for seed in seeds))


def _rows(dataset: str, pairs: list[tuple[ModelRuns, ModelRuns]], table: ResultTable) -> list[dict[str, Any]]:
    metric = main_metric(table.metrics)
    means = np.array([[rounded_mean(cell, metric) for cell in pair] for pair in pairs]).reshape(-1, 2)
    positions = stats.rankdata(-means, method="min", axis=0).astype(int)
    tau = float(stats.kendalltau(*means.T).statistic) if len(pairs) > 1 else np.nan
    comparisons = compare_pairs(pairs, [metric])
    two_way = any(each.counts_training for each in comparisons)
    rows = []
    for pair, places, each in zip(pairs, positions.tolist(), comparisons, strict=True):
        row: dict[str, Any] = {"dataset": dataset, "model": each.model, "metric": metric.name}
        for side, cell, place in zip("ab", pair, places, strict=True):
            mean, half = mean_and_half_interval(cell, metric)
            loss = loss_of(next(iter(cell.finished.values())).record)
            own = {"loss": loss, "mean": mean, "low": mean - half, "high": mean + half, "position": place}
            row |= {f"{name}_{side}": value for name, value in own.items()}
        low, high = (each.two_way_low, each.two_way_high) if each.counts_training else (each.low, each.high)
        row |= {"difference": each.difference, "difference_low": low, "difference_high": high}
        row |= {"p": each.two_way_p_holm if two_way else each.t_p_holm, "kendall_tau": tau}
        rows.append(row | {"seeds": " ".join(map(str, each.seeds)), "n_users": each.n_users})
    return rows


_HEAD = (
    "model", "loss A", "A", "95 % interval", "position", "loss B", "B", "95 % interval", "position", "A − B",
    "95 % interval", "corrected p", "seeds",
)  # fmt: skip
HOW_TO_READ = (
    "Both folders have the same users, targets and candidates. Means and positions are those of the seeds that both "
    "have. A − B is paired by user; its interval is by the bootstrap over users and, with several seeds, over each "
    "folder's seeds. p-values are those of the test over users and seeds or, if no model has several, of the t-test "
    "over users, after Holm's correction for the number of models. Kendall's tau is 1 if both orders of the models are "
    "equal, and −1 if one is the reverse of the other."
)


def beside_markdown(side: SideBySide) -> str:
    """Write a table for each dataset, with Kendall's tau of the two orders of models."""
    named = (f"{letter} is {escape_markdown(str(folder))}" for letter, folder in zip("AB", side.folders, strict=True))
    parts = [f"{', '.join(named)}. {HOW_TO_READ}"]
    for dataset, refused in side.refused.items():
        rows = side.frame[side.frame["dataset"] == dataset].to_dict("records")
        if rows:
            title = f"{dataset}, {parse_metric(rows[0]['metric']).label}"
            parts += [f"### {escape_markdown(title)}", markdown_table([_HEAD, *map(_line, rows)])]
            parts.append(f"Kendall's tau of the two orders: {number(rows[0]['kendall_tau'], '.2f')}.")
        parts += refusals_markdown(refused)
    return "\n\n".join(parts) + "\n"


def _line(row: Mapping[Any, Any]) -> list[str]:
    cells = [escape_markdown(printed_name(row["model"]))]
    for side in "ab":
        mean, low, high = (row[f"{name}_{side}"] for name in ("mean", "low", "high"))
        cells += [escape_markdown(row[f"loss_{side}"]), number(mean), interval(low, high, ".4f")]
        cells.append(str(row[f"position_{side}"]))
    cells += [number(row["difference"], "+.4f"), interval(row["difference_low"], row["difference_high"])]
    return [*cells, format_p_value(row["p"]), row["seeds"]]
