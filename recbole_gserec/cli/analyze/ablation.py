"""``gserec analyze ablation``: the model without each of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.cli.analyze import options
from recbole_gserec.cli.options import ConfigFiles, DataPath
from recbole_gserec.cli.parsing import names_in, parse_settings, seeds_in
from recbole_gserec.cli.pool_options import Address, CpusPerRun, GpusPerRun, Workers, pool_maker


def ablation(
    context: typer.Context,
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.")],
    without: Annotated[
        list[str] | None,
        typer.Option(help="Parts to take out: rq-cl, graph, u-cl, his-cl, mca.", show_default="each"),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the trainings, separated by commas.")] = "2020",
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the runs and the result; not that of a benchmark.")
    ] = Path("ablation"),
    data_path: DataPath = Path("dataset"),
    by: options.By = "searches",
    groups: options.Groups = None,
    quantiles: options.Quantiles = 4,
    metric: Annotated[str, typer.Option(help="By which groups are compared.")] = "NDCG@5",
    workers: Workers = None,
    address: Address = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    config_file: ConfigFiles = None,
) -> None:
    """Train GSERec with all its parts and without each, and compare (Table 3 and Figure 5).

    Runs are made as by `gserec benchmark`: those that are finished are not made again, and the same call goes on where
    it was interrupted. Any setting can follow as --name=value, for instance --epochs=50.
    """
    # Imported here: --help needs none of it.
    from recbole_gserec.analyze.ablation import AblationRequest, analyze_ablation
    from recbole_gserec.analyze.variants import chosen_variants
    from recbole_gserec.benchmark.given import read_shared_settings
    from recbole_gserec.benchmark.metrics import parse_metric

    settings = {**read_shared_settings(config_file or [], ["GSERec"], [dataset]), **parse_settings(context.args)}
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
        typer.echo(f"runs that did not finish: {result.unfinished}; the page says why", err=True)
        raise typer.Exit(1)
