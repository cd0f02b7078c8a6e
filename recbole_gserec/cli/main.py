"""The ``gserec`` command."""

from __future__ import annotations

import logging
import sys

import typer

from recbole_gserec.cli import convert, preprocess
from recbole_gserec.errors import GSERecError

app = typer.Typer(
    name="gserec",
    help="Search-enhanced recommendation: data, offline stage and analysis. Models are trained with run_recbole.",
    no_args_is_help=True,
    add_completion=False,
    # A defect of the library must show the plain traceback, which can be pasted into a report.
    pretty_exceptions_enable=False,
)
app.command("preprocess", context_settings=preprocess.CONTEXT_SETTINGS)(preprocess.preprocess)
app.add_typer(convert.app, name="convert")


def main() -> None:
    """Run the command line: exit status 2 with one line for a user's error, 130 when interrupted."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("recbole_gserec").setLevel(logging.INFO)
    logging.getLogger("dataset_converters").setLevel(logging.INFO)
    try:
        app()
    except GSERecError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
