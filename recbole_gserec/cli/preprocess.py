"""``gserec preprocess``: compute the codes of a dataset's users."""

import shlex
from logging import getLogger
from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.cli.options import ConfigFiles, parse_settings
from recbole_gserec.compute import while_importing
from recbole_gserec.errors import SettingError

_PLACES = ("data_path", "code_path", "preprocess_store")


def preprocess(
    context: typer.Context,
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.")],
    summarizer: Annotated[
        str | None,
        typer.Option(
            help="Summarizer of user histories: template, vllm, transformers, openai.", show_default="template"
        ),
    ] = None,
    llm: Annotated[str | None, typer.Option(help="Language model: a folder, or a name on a hub or server.")] = None,
    llm_base_url: Annotated[
        str | None,
        typer.Option("--llm-base-url", "--llm_base_url", help="Address of the server for --summarizer=openai."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Encoder of summaries: tfidf, bge-m3, flag:NAME, sentence-transformers:NAME.",
            show_default="tfidf",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset of settings: 'paper' has the paper's language model and encoder.")
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Compute summaries and vectors on Ray.")] = False,
    ray_workers: Annotated[
        int | None, typer.Option("--ray-workers", help="Number of Ray workers, each with its own model; implies --ray.")
    ] = None,
    config_file: ConfigFiles = None,
    data_path: Annotated[
        Path | None,
        typer.Option("--data-path", "--data_path", help="Folder of all datasets.", show_default="dataset"),
    ] = None,
) -> None:
    """Summarize users' histories, encode the summaries as vectors, and quantize the vectors to codes: DATASET.code.

    Add any setting as --name=value, for example --rq_epochs=100.
    """
    settings = parse_settings(context.args)
    options = {
        "summarizer": summarizer,
        "llm": llm,
        "llm_base_url": llm_base_url,
        "encoder": encoder,
        "data_path": data_path and str(data_path),
        "preprocess_ray": (ray or ray_workers is not None) or None,
        "preprocess_ray_workers": ray_workers,
    }
    settings |= {name: value for name, value in options.items() if value is not None}
    with while_importing():
        from recbole_gserec.preprocess import preprocess_dataset
        from recbole_gserec.settings import preprocess_settings, preset_file, read_config_files

    files = [preset_file(preset)] if preset else []
    if preset and not read_config_files(files).keys() & preprocess_settings().keys():
        of_training = f"run_recbole --model=GSERec --preset={preset}"
        raise SettingError(f"the preset '{preset}' has no settings of the offline stage; it is for {of_training}")
    files += config_file or []
    requested = {**read_config_files(files), **settings}
    typer.echo(preprocess_dataset(dataset, requested))
    # Training must find the same files.
    places = [f" --{name}={shlex.quote(str(requested[name]))}" for name in _PLACES if requested.get(name)]
    getLogger(__name__).info(f"Next: run_recbole --model=GSERec --dataset={shlex.quote(dataset)}{''.join(places)}")
