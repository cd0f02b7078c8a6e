"""``gserec convert``: raw data to search-extended atomic files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataset_converters.ml_100k import NAME, SEED, convert_ml_100k

app = typer.Typer(help="Convert raw data into a search-extended dataset.", no_args_is_help=True)


@app.callback()
def convert() -> None:
    """Convert raw data into a search-extended dataset."""


@app.command("ml-100k")
def ml_100k(
    output: Annotated[Path, typer.Option(help="Folder of all datasets; the new one becomes a folder in it.")] = Path(
        "dataset"
    ),
    name: Annotated[str, typer.Option(help="Name of the new dataset.")] = NAME,
    seed: Annotated[
        int, typer.Option(help="Seed of the draw that decides which interactions began as searches.")
    ] = SEED,
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="Folder with ml-100k.inter and ml-100k.item; by default RecBole's own copy."),
    ] = None,
) -> None:
    """MovieLens-100k with semi-synthetic searches, the default dataset."""
    typer.echo(convert_ml_100k(output, name, seed, input_))
