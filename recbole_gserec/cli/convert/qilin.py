"""``gserec convert qilin``: the Qilin logs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from dataset_converters.choices import AS_PUBLISHED, QILIN, QILIN_DEFAULTS, SEARCH_TIMES, Options, QilinReading
from recbole_gserec.cli.convert.options import OutputFolder, with_options
from recbole_gserec.interruptions import while_importing

_PANEL = "Processing of the paper's authors"


def _flag(name: str, help_text: str) -> object:
    return typer.Option(f"--{name}", help=help_text, rich_help_panel=_PANEL)


@with_options(QILIN_DEFAULTS)
def qilin(
    *,
    input_: Annotated[
        Path,
        typer.Option(
            "--input",
            help="Folder with recommendation_train, recommendation_test, search_train, search_test and notes.",
        ),
    ],
    output: OutputFolder = Path("dataset"),
    name: Annotated[str, typer.Option(help="Name of the new dataset.")] = QILIN,
    content_length: Annotated[
        int, typer.Option(help="Maximum length of a note's content in characters; 0 keeps only titles.")
    ] = QilinReading.content_length,
    search_time: Annotated[
        str,
        typer.Option(help=f"Time of a search: when its {' or '.join(SEARCH_TIMES)} clicked note was shown."),
    ] = QilinReading.search_time,
    as_published: Annotated[
        bool, _flag("as-published", "Set all of the following options, and --search-time first.")
    ] = False,
    raw_times: Annotated[
        bool, _flag("raw-times", "Keep times as in the files: recommendations in milliseconds, searches in seconds.")
    ] = False,
    keep_unclicked: Annotated[
        bool, _flag("keep-unclicked", "In a search without clicks, treat the first shown note as clicked.")
    ] = False,
    first_query_only: Annotated[bool, _flag("first-query-only", "Keep one query per search_idx.")] = False,
    drop_textless: Annotated[bool, _flag("drop-textless", "Drop clicks on notes without text.")] = False,
    as_listed: Annotated[
        bool, _flag("as-listed", "Keep notes of equal time in list order, including duplicates.")
    ] = False,
    options: Options,
) -> None:
    """Convert Qilin, the search and recommendation logs of Xiaohongshu."""
    with while_importing():
        from dataset_converters.qilin import convert_qilin

    requested = QilinReading(
        raw_times, search_time, keep_unclicked, first_query_only, drop_textless, as_listed, content_length
    )
    reading = dataclasses.replace(AS_PUBLISHED, content_length=content_length) if as_published else requested
    typer.echo(convert_qilin(output, input_, name, reading, options=options))
