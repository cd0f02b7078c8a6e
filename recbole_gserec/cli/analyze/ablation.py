"""``gserec analyze ablation``: train the model without each of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.cli.analyze import options
from recbole_gserec.cli.options import ConfigFiles, DataPath
from recbole_gserec.cli.parsing import names_in, parse_settings, seeds_in
from recbole_gserec.cli.pool_options import Address, CpusPerRun, GpusPerRun, Workers, pool_maker
from recbole_gserec.interruptions import while_importing


def ablation(
    context: typer.Context,
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.")],
    without: Annotated[
        list[str] | None,
        typer.Option(help="Parts to leave out: rq-cl, graph, u-cl, his-cl, mca.", show_default="each"),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Random seeds of the runs, separated by commas.")] = "2020",
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Folder for the runs and the result; do not use a benchmark's folder.")
    ] = Path("ablation"),
    data_path: DataPath = Path("dataset"),
    by: options.By = "searches",
    groups: options.Groups = None,
    quantiles: options.Quantiles = 4,
    metric: Annotated[str, typer.Option(help="Metric that compares the user groups.")] = "NDCG@5",
    workers: Workers = None,
    address: Address = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    config_file: ConfigFiles = None,
) -> None:
    """Train GSERec with all its parts and without each of them, and compare the results (Table 3 and Figure 5).

    As in `gserec benchmark`, finished runs are skipped, so repeating the command resumes an interrupted ablation. Add
    any setting as --name=value, for example --epochs=50.
    """
    given = parse_settings(context.args)

    with while_importing():
        from recbole_gserec.analyze.ablation import AblationRequest, analyze_ablation
        from recbole_gserec.analyze.variants import chosen_variants
        from recbole_gserec.benchmark.given import read_shared_settings
        from recbole_gserec.benchmark.metrics import parse_metric

    settings = {**read_shared_settings(config_file or [], ["GSERec"], [dataset]), **given}
    request = AblationRequest(
        dataset,
        seeds_in(seeds),
        data_path,
        output,
        settings,
        chosen_variants(names_in(without)),
        options.grouping(by, groups, quantiles),
        group_metric=parse_metric(metric),
    )
    result = analyze_ablation(request, pool_maker(workers, address, cpus_per_run, gpus_per_run, settings))
    options.show(result.page)
    if result.unfinished:
        typer.echo(f"unfinished runs: {result.unfinished}; the page gives the reasons", err=True)
        raise typer.Exit(1)
