"""``gserec analyze sensitivity``: the score for each value of a setting."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.cli.analyze import options
from recbole_gserec.errors import SettingError
from recbole_gserec.interruptions import while_importing


def sensitivity(
    sweep: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder of a sweep: <output>/<dataset>/<model> of gserec tune.")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder of a benchmark with runs of different settings.")
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Name of the model; only with --runs.")] = "GSERec",
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", "-d", help="Name of the dataset; only with --runs.", show_default="the only one"),
    ] = None,
    metric: Annotated[str, typer.Option(help="Test metric; only with --runs. A sweep has its own metric.")] = "NDCG@5",
    output: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for the result.", show_default="analyze/sensitivity in that folder"),
    ] = None,
) -> None:
    """Show the score for each value of each hyper-parameter (Figure 7), from finished trials or runs."""
    folder = runs if sweep is None else sweep
    if folder is None or (sweep is not None and runs is not None):
        raise SettingError("give either --sweep (a folder of gserec tune) or --runs (a folder of gserec benchmark)")
    with while_importing():
        from recbole_gserec.analyze.sensitivity import write_sensitivity
        from recbole_gserec.analyze.settings_tried import read_benchmark, read_sweep
        from recbole_gserec.benchmark.metrics import parse_metric

    tried = read_sweep(sweep) if sweep else read_benchmark(folder, model, dataset, parse_metric(metric))
    options.show(write_sensitivity(tried, output or folder / "analyze" / "sensitivity"))
