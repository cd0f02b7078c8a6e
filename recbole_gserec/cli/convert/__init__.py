"""``gserec convert``: raw data to search-extended atomic files, one file per kind of source."""

from __future__ import annotations

import typer

from recbole_gserec.cli.commands import group_of

app = typer.Typer(
    cls=group_of(__name__, ("amazon", "qilin", "kuaisar", "logs", "ml-100k")),
    help="Convert raw data into a search-extended dataset.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def convert() -> None:
    """Convert raw data into a search-extended dataset."""
