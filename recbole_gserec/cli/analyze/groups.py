"""``gserec analyze groups``: results for each group of users."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.cli.analyze import options
from recbole_gserec.cli.options import DataPath
from recbole_gserec.cli.parsing import names_in
from recbole_gserec.interruptions import while_importing


def groups(
    runs: Annotated[Path, typer.Option(file_okay=False, help="Folder of a benchmark.")] = Path("benchmark"),
    model: Annotated[str, typer.Option("--model", "-m", help="Model to compare with the baselines.")] = "GSERec",
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline", "-b", help="Baseline model; repeat the option for several.", show_default="all others"
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", "-d", help="Name of a dataset; repeat the option for several.", show_default="all"),
    ] = None,
    by: options.By = "searches",
    groups: options.Groups = None,
    quantiles: options.Quantiles = 4,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Metric such as HR@10; repeat the option for several. The figure shows the first.",
            show_default="NDCG@5",
        ),
    ] = None,
    data_path: DataPath = Path("dataset"),
    output: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for the result.", show_default="RUNS/analyze/groups")
    ] = None,
) -> None:
    """Compare a model with baselines within groups of users who search rarely or often (Figures 2 and 5).

    The command reads the stored ranks of a benchmark and the dataset's files. It trains nothing.
    """
    with while_importing():
        from recbole_gserec.analyze.groups import analyze_groups
        from recbole_gserec.benchmark.metrics import chosen_metrics

    page = analyze_groups(
        runs,
        model,
        data_path=data_path,
        baselines=names_in(baseline),
        datasets=names_in(dataset),
        metrics=chosen_metrics(names_in(metric) or ["NDCG@5"]),
        grouping=options.grouping(by, groups, quantiles),
        output=output,
    )
    options.show(page)
