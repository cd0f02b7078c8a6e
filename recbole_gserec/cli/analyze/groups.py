"""``gserec analyze groups``: results by group of users."""

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
    model: Annotated[str, typer.Option("--model", "-m", help="Model whose improvement is shown.")] = "GSERec",
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline", "-b", help="Model improved upon; can be given more than once.", show_default="all others"
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", "-d", help="Name of a dataset; can be given more than once.", show_default="all"),
    ] = None,
    by: options.By = "searches",
    groups: options.Groups = None,
    quantiles: options.Quantiles = 4,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Such as HR@10; can be given more than once, the first is drawn.", show_default="NDCG@5"),
    ] = None,
    data_path: DataPath = Path("dataset"),
    output: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder of the result.", show_default="RUNS/analyze/groups")
    ] = None,
) -> None:
    """Compare a model with others within groups of users who search much or little (Figures 2 and 5).

    From the stored ranks of a benchmark and the dataset's files; nothing is trained.
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
