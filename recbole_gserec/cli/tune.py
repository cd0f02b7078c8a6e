"""``gserec tune``: hyper-parameter sweeps on Ray Tune."""

from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.cli.options import ConfigFiles, DataPath, parse_settings
from recbole_gserec.compute import while_importing


def tune(
    context: typer.Context,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name of the model, or its file and class, my_model.py:MyModel.")
    ],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.")],
    space: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Search space: a YAML file, or a text file like RecBole's hyper.test.",
            show_default="the model's own space",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Number of trials; a grid search tries every combination.")] = 20,
    search: Annotated[
        str, typer.Option(help="Search method: random, grid, or one of Ray Tune: optuna, hyperopt, bayesopt, …")
    ] = "random",
    scheduler: Annotated[
        str,
        typer.Option(
            help="Scheduler: asha stops weak trials early; fifo stops none; pbt restarts weak trials from good ones "
            "with similar settings."
        ),
    ] = "asha",
    grace_period: Annotated[
        int,
        typer.Option(min=1, help="Epochs before asha may stop a trial, or between two pbt exchanges."),
    ] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the trials and of the search.")] = 2020,
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of all sweeps; this sweep goes to <output>/<dataset>/<model>.")
    ] = Path("tune"),
    data_path: DataPath = Path("dataset"),
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of trials at once.", show_default="as many as processors and GPUs allow"),
    ] = None,
    cpus: Annotated[
        int | None,
        typer.Option(min=1, help="Processors per trial.", show_default="1, or an even share up to OMP_NUM_THREADS"),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(min=0, help="GPUs per trial; fractions are allowed.", show_default="1 if there are any"),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster that shares the folders of the datasets and sweeps.")
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="Number of best trials whose checkpoints are kept.")] = 3,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed/--no-retry-failed", help="Repeat trials that failed before.")
    ] = True,
    config_file: ConfigFiles = None,
) -> None:
    """Search for good settings of a model on the validation part of a dataset.

    Trials run on Ray Tune. Repeating the command resumes an interrupted sweep. Only the best trial is evaluated on the
    test part. Its settings are written to best.yaml: run_recbole --config_files=best.yaml.

    Add any setting as --name=value, for example --epochs=50. A setting fixed this way is not searched.
    """
    requested = parse_settings(context.args)

    with while_importing():
        from recbole_gserec.plugin import named_model
        from recbole_gserec.settings import read_config_files
        from recbole_gserec.tune import ComputeResources, TuneRequest
        from recbole_gserec.tune import run_sweep as run_search

    settings = {**read_config_files(config_file or []), **requested}
    request = TuneRequest(
        named_model(model), dataset, data_path, output, space, settings, seed, search, scheduler, samples, grace_period
    )
    resources = ComputeResources(workers, address, cpus, gpus)
    result = run_search(request, resources, n_kept=keep, retry_failed=retry_failed)
    test = ", ".join(f"{name} {value:.4f}" for name, value in result.test.items())
    typer.echo(f"test result of the best trial: {test}")
    typer.echo(f"settings of the best trial: {result.best_file}\nreport: {result.report}")
    if result.n_failed:
        typer.echo(f"failed trials: {result.n_failed}; the report gives the reasons", err=True)
        raise typer.Exit(1)
