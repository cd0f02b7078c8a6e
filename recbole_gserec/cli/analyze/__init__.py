"""``gserec analyze``: the paper's figures and tables from finished runs, one file per command."""

from __future__ import annotations

import typer

from recbole_gserec.cli.commands import group_of

_COMMANDS = ("groups", "ablation", "sensitivity", "tsne", "stats", "user", "report")

app = typer.Typer(
    cls=group_of(__name__, _COMMANDS, with_settings=("ablation",)),
    help="Make the paper's figures and tables from finished runs.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def analyze() -> None:
    """Make the paper's figures and tables from finished runs."""
