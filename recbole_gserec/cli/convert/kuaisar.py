"""``gserec convert kuaisar``: KuaiSAR and KuaiSAR-small."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataset_converters.choices import AS_WORDS, KUAISAR, LANGUAGES, POSITIVE, KuaiSARReading, Options
from recbole_gserec.cli.convert.options import OutputFolder, with_options
from recbole_gserec.interruptions import while_importing


@with_options(AS_WORDS)
def kuaisar(
    *,
    input_: Annotated[
        Path, typer.Option("--input", help="Folder with rec_inter.csv, src_inter.csv and item_features.csv.")
    ],
    output: OutputFolder = Path("dataset"),
    name: Annotated[str, typer.Option(help="Name of the new dataset.")] = KUAISAR,
    positive: Annotated[
        str,
        typer.Option(
            help=f"Feedback that makes a recommendation an interaction: {', '.join(POSITIVE)} (no feedback needed)."
        ),
    ] = KuaiSARReading.positive,
    recommended_types_only: Annotated[
        bool,
        typer.Option("--recommended-types-only", help="Leave out clicked results of types that are never recommended."),
    ] = KuaiSARReading.recommended_types_only,
    category_language: Annotated[
        str, typer.Option(help=f"Language of the category names: {' or '.join(LANGUAGES)}.")
    ] = KuaiSARReading.category_language,
    options: Options,
) -> None:
    """Convert KuaiSAR or KuaiSAR-small, the logs of a short-video app."""
    with while_importing():
        from dataset_converters.kuaisar import convert_kuaisar

    reading = KuaiSARReading(positive, recommended_types_only, category_language)
    typer.echo(convert_kuaisar(output, input_, name, reading, options=options))
