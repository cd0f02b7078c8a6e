"""``gserec tune``: hyper-parameter sweeps on Ray Tune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.cli.options import ConfigFiles, DataPath
from recbole_gserec.cli.parsing import parse_settings
from recbole_gserec.config_files import read_config_files


def tune(
    context: typer.Context,
    model: Annotated[str, typer.Option("--model", "-m", help="Name of the model.")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.")],
    space: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Search space: a YAML file, or a text file as RecBole's hyper.test.",
            show_default="that of the model",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Trials; a grid has as many as combinations.")] = 20,
    search: Annotated[
        str, typer.Option(help="random, grid, or a search of Ray Tune: optuna, hyperopt, bayesopt, …")
    ] = "random",
    scheduler: Annotated[
        str,
        typer.Option(
            help="asha stops weak trials early; fifo stops none; pbt lets weak trials go on from good ones, with "
            "settings near theirs."
        ),
    ] = "asha",
    grace_period: Annotated[
        int,
        typer.Option(min=1, help="Epochs before asha may stop a trial, or between two exchanges of pbt."),
    ] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the trainings and of the search.")] = 2020,
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of all sweeps; this one is <output>/<dataset>/<model>.")
    ] = Path("tune"),
    data_path: DataPath = Path("dataset"),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials at once.", show_default="as many as have processors and GPUs")
    ] = None,
    cpus: Annotated[
        int | None,
        typer.Option(min=1, help="Processors of a trial.", show_default="1, or an even share up to OMP_NUM_THREADS"),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(min=0, help="GPUs of a trial; parts of one are possible.", show_default="1 if there are any"),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster; it shares the folders of datasets and sweeps.")
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="Best trials whose checkpoints are kept.")] = 3,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed/--no-retry-failed", help="Make trials again that failed before.")
    ] = True,
    config_file: ConfigFiles = None,
) -> None:
    """Search good settings of a model on a dataset, by its validation part.

    Trials run on Ray Tune. Interrupted, the same call goes on where it was. The test part is evaluated once, for the
    winner, whose settings are written to best.yaml: run_recbole --config_files=best.yaml.

    Any setting can follow as --name=value, for instance --epochs=50; one that the space has too is then not tried.
    """
    # Imported here: --help needs none of it.
    from recbole_gserec.tune.place import ComputeResources
    from recbole_gserec.tune.request import TuneRequest
    from recbole_gserec.tune.search import search as run_search

    settings = {**read_config_files(config_file or []), **parse_settings(context.args)}
    request = TuneRequest(
        model, dataset, data_path, output, space, settings, seed, search, scheduler, samples, grace_period
    )
    resources = ComputeResources(workers, address, cpus, gpus)
    result = run_search(request, resources, n_kept=keep, retry_failed=retry_failed)
    test = ", ".join(f"{name} {value:.4f}" for name, value in result.test.items())
    typer.echo(f"test, by the winner: {test}")
    typer.echo(f"settings of the winner: {result.best_file}\nreport: {result.report}")
    if result.n_failed:
        typer.echo(f"failed trials: {result.n_failed}; the report says why", err=True)
        raise typer.Exit(1)
