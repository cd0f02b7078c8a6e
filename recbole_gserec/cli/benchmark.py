"""``gserec benchmark``: models on datasets over seeds, compared user by user."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recbole_gserec.cli.options import ConfigFiles, DataPath
from recbole_gserec.cli.parsing import names_in, parse_settings, seeds_in
from recbole_gserec.cli.pool_options import Address, CpusPerRun, GpusPerRun, Workers, pool_maker
from recbole_gserec.errors import SettingError

if TYPE_CHECKING:
    from recbole_gserec.benchmark.runner import Outcome

_SEED = "2020"


def benchmark(
    context: typer.Context,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Name of a dataset; can be given more than once.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Name of a model; can be given more than once.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Models to compare: 'table2' has those of the paper's Table 2.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds of the trainings, separated by commas.", show_default=_SEED)
    ] = None,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of the runs and the report.")] = Path(
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
            help="Trials with which each model is tuned on each dataset first, by its validation part.",
            show_default="defaults are not tuned",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Model that the others are compared with.",
            show_default="as in the last report, else GSERec, or the best",
        ),
    ] = None,
    report_only: Annotated[bool, typer.Option("--report-only", help="Report on the stored runs; train none.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed/--no-retry-failed", help="Make runs again that failed before.")
    ] = True,
    config_file: ConfigFiles = None,
    model_settings: Annotated[
        Path | None,
        typer.Option(
            "--model-settings",
            exists=True,
            dir_okay=False,
            help="YAML file with settings of single models, 'GSERec: {lambda_u_cl: 0.1}'; they outrank those of all.",
        ),
    ] = None,
) -> None:
    """Train each model on each dataset with each seed, and compare them: the paper's Table 2 and what belongs to it.

    Every run starts from one protocol (that of the preset 'table2') and is stored with its settings, timings and the
    rank of every user's target. Runs that are finished are not made again: the same call goes on where it was
    interrupted.

    Any setting can follow as --name=value, for instance --epochs=50.
    """
    # Imported here: --help needs none of it.
    from recbole_gserec.benchmark.given import no_settings, read_model_settings, read_shared_settings
    from recbole_gserec.benchmark.plan import PROTOCOL, Request, read_preset
    from recbole_gserec.benchmark.runner import run_benchmark

    models, datasets = names_in(model), names_in(dataset)
    if preset:
        models = [*read_preset(preset).models, *models]
    settings = {**read_shared_settings(config_file or [], models, datasets), **parse_settings(context.args)}
    outcome = None
    if report_only:
        if settings or model_settings or tune or seeds is not None:
            newest = "of each model, all seeds with the newest settings are reported"
            typer.echo(f"--report-only looks at no settings and seeds: {newest}", err=True)
    else:
        if reference is not None and reference not in models:
            raise SettingError(f"--reference is '{reference}', which is not among the models")
        settings_of = read_model_settings(model_settings) if model_settings else no_settings
        repeats = seeds_in(_SEED if seeds is None else seeds)
        make_pool = pool_maker(workers, address, cpus_per_run, gpus_per_run, settings)
        request = Request(datasets, models, repeats, data_path, settings, settings_of, preset or PROTOCOL)
        if tune:
            from recbole_gserec.tune.place import ComputeResources
            from recbole_gserec.tune.tuned import tune_models

            resources = ComputeResources(workers or (None if address else 1), address, cpus_per_run, gpus_per_run)
            request = tune_models(request, output, tune, resources)
        outcome = run_benchmark(request, output, make_pool, retry_failed=retry_failed)

    from rich.console import Console

    from recbole_gserec.benchmark.report import write_report

    report = write_report(
        output,
        reference=reference,
        models=models or None,
        datasets=datasets or None,
        keys=outcome and outcome.keys,
        console=Console(),
    )
    typer.echo(report)
    if outcome is not None:
        checkpoints = output.absolute() / "runs" / "DATASET" / "MODEL" / "SEED-KEY" / "checkpoint.pth"
        steps = f"gserec recommend --checkpoint FILE; gserec analyze groups --runs {output}"
        getLogger(__name__).info(f"Checkpoints: {checkpoints}\nNext: {steps}")
    _tell_what_is_missing(outcome)


def _tell_what_is_missing(outcome: Outcome | None) -> None:
    if outcome is None or not (outcome.failed or outcome.elsewhere):
        return
    if outcome.elsewhere:
        typer.echo(f"unfinished runs: {outcome.elsewhere}; another process is making them", err=True)
    if outcome.failed:
        typer.echo(f"failed runs: {outcome.failed}; the report says why", err=True)
    raise typer.Exit(1)
