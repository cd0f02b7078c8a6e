"""``gserec convert``: raw data to search-extended atomic files, one file per kind of source."""

from __future__ import annotations

import typer

from recbole_gserec.cli.convert.amazon import amazon
from recbole_gserec.cli.convert.kuaisar import kuaisar
from recbole_gserec.cli.convert.logs import logs
from recbole_gserec.cli.convert.ml_100k import ml_100k
from recbole_gserec.cli.convert.qilin import qilin

app = typer.Typer(help="Convert raw data into a search-extended dataset.", no_args_is_help=True)


@app.callback()
def convert() -> None:
    """Convert raw data into a search-extended dataset."""


app.command("amazon")(amazon)
app.command("qilin")(qilin)
app.command("kuaisar")(kuaisar)
app.command("logs")(logs)
app.command("ml-100k")(ml_100k)
