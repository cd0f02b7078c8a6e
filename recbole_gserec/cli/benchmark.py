"""``gserec benchmark``: train models on datasets with several seeds and compare them user by user."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recbole_gserec.cli.options import (
    Address,
    ConfigFiles,
    CpusPerRun,
    DataPath,
    GpusPerRun,
    Workers,
    names_in,
    parse_settings,
    pool_maker,
    seeds_in,
)
from recbole_gserec.compute import while_importing
from recbole_gserec.errors import SettingError

if TYPE_CHECKING:
    from recbole_gserec.runs import Outcome

_SEED = "2020"


def benchmark(
    context: typer.Context,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Name of a dataset; repeat the option for several.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Name of a model, or its file and class (my_model.py:MyModel); repeat the option for several.",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset of models to compare: 'table2' has the models of the paper's Table 2.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Random seeds of the runs, separated by commas.", show_default=_SEED)
    ] = None,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the runs and the report.")] = Path(
        "benchmark"
    ),
    data_path: DataPath = Path("dataset"),
    workers: Workers = None,
    address: Address = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    tune: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tune each model on each dataset first, with this many trials on the validation part.",
            show_default="no tuning",
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="Train all models that leave a choice by one loss and equal negatives: BCE, gBCE, sampled_CE or CE.",
            show_default="each model's own",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Model to compare the others with.",
            show_default="as in the last report, else GSERec or the best model",
        ),
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Output folder of another benchmark; the report also puts its results beside these, model by model.",
        ),
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Only write the report of the stored runs; train nothing.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed/--no-retry-failed", help="Repeat runs that failed before.")
    ] = True,
    config_file: ConfigFiles = None,
    model_settings: Annotated[
        Path | None,
        typer.Option(
            "--model-settings",
            exists=True,
            dir_okay=False,
            help="YAML file with settings of single models, like 'GSERec: {lambda_u_cl: 0.1}'. They override the "
            "settings of all models.",
        ),
    ] = None,
) -> None:
    """Train each model on each dataset with each seed, and compare the results as in the paper's Table 2.

    Every run uses the same protocol (that of the preset 'table2'). It stores its settings, timings and the rank of
    every user's target. Finished runs are skipped, so repeating the command resumes an interrupted benchmark.

    Add any setting as --name=value, for example --epochs=50.
    """
    requested = parse_settings(context.args)

    with while_importing():
        from rich.console import Console

        from recbole_gserec.plugin import named_model
        from recbole_gserec.results import load_runs, write_report
        from recbole_gserec.runs import (
            PROTOCOL,
            Request,
            no_settings,
            read_model_settings,
            read_preset,
            read_shared_settings,
            run_benchmark,
            with_objective,
        )

    models, datasets = [named_model(name) for name in names_in(model)], names_in(dataset)
    reference = None if reference is None else named_model(reference)
    if preset:
        models = [*read_preset(preset).models, *models]
    settings = {**read_shared_settings(config_file or [], models, datasets), **requested}
    outcome = None
    if beside is not None and not report_only:
        # Before hours of training.
        load_runs(beside)
    if report_only:
        if settings or model_settings or tune or objective or seeds is not None:
            newest = "the report covers all seeds of each model with its newest settings"
            typer.echo(f"--report-only ignores settings and seeds: {newest}", err=True)
    else:
        if reference is not None and reference not in models:
            raise SettingError(f"--reference '{reference}' is not one of the models. Add it with --model")
        settings_of = read_model_settings(model_settings) if model_settings else no_settings
        repeats = seeds_in(_SEED if seeds is None else seeds)
        make_pool = pool_maker(workers, address, cpus_per_run, gpus_per_run, settings)
        request = Request(datasets, models, repeats, data_path, settings, settings_of, preset or PROTOCOL)
        if objective is not None:
            request = with_objective(request, objective)
        if tune:
            from recbole_gserec.tune import ComputeResources, tune_models

            resources = ComputeResources(workers or (None if address else 1), address, cpus_per_run, gpus_per_run)
            request = tune_models(request, output, tune, resources)
        outcome = run_benchmark(request, output, make_pool, retry_failed=retry_failed)

    report = write_report(
        output,
        reference=reference,
        models=models or None,
        datasets=datasets or None,
        keys=outcome and outcome.keys,
        beside=beside,
        console=Console(),
    )
    typer.echo(report)
    if outcome is not None:
        checkpoints = output.absolute() / "runs" / "DATASET" / "MODEL" / "SEED-KEY" / "checkpoint.pth"
        getLogger(__name__).info(f"Checkpoints: {checkpoints}\nNext: {_next_steps(output, models, reference)}")
    _report_unfinished_runs(outcome)


def _next_steps(output: Path, models: list[str], reference: str | None) -> str:
    steps = ["gserec recommend --checkpoint FILE"]
    if len(models) > 1:
        # The command compares GSERec with all others unless it is told another model.
        compared = reference or ("GSERec" if "GSERec" in models else models[0])
        steps.append(f"gserec analyze groups --runs {output}" + f" --model {compared}" * (compared != "GSERec"))
    return "; ".join(steps)


def _report_unfinished_runs(outcome: Outcome | None) -> None:
    if outcome is None or not (outcome.failed or outcome.elsewhere):
        return
    if outcome.elsewhere:
        typer.echo(f"unfinished runs: {outcome.elsewhere}; another process is working on them", err=True)
    if outcome.failed:
        typer.echo(f"failed runs: {outcome.failed}; the report gives the reasons", err=True)
    raise typer.Exit(1)
