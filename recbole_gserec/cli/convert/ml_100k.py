"""``gserec convert ml-100k``: the default dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataset_converters.choices import AS_WORDS, ML_100K, ML_100K_SEED, Options
from recbole_gserec.cli.convert.options import OutputFolder, with_options
from recbole_gserec.interruptions import while_importing


@with_options(AS_WORDS)
def ml_100k(
    *,
    output: OutputFolder = Path("dataset"),
    name: Annotated[str, typer.Option(help="Name of the new dataset.")] = ML_100K,
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="Folder with ml-100k.inter and ml-100k.item; by default the copy in RecBole."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed that decides which interactions began with a search.")
    ] = ML_100K_SEED,
    options: Options,
) -> None:
    """Convert MovieLens-100k, adding semi-synthetic searches. This is the default dataset."""
    with while_importing():
        from dataset_converters.ml_100k import convert_ml_100k

    typer.echo(convert_ml_100k(output, name, seed, input_, options=options))
