"""``gserec analyze report``: all results on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.interruptions import while_importing


def report(
    runs: Annotated[
        list[Path],
        typer.Option(
            file_okay=False,
            help="Folder of a benchmark, an ablation, a sweep or analyses; repeat the option for several.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="HTML file to write.", show_default="RUNS/analyze/report.html")
    ] = None,
) -> None:
    """Write one HTML page with a benchmark's tables and figures and all analyses found. It works offline."""
    with while_importing():
        from recbole_gserec.analyze.report import write_html_report

    typer.echo(write_html_report(runs, output))
