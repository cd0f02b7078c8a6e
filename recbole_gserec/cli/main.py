"""The ``gserec`` command."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Any

import typer

from recbole_gserec import __version__
from recbole_gserec.cli.commands import group_of
from recbole_gserec.cli.parsing import check_dashes
from recbole_gserec.cli.user_errors import line_of
from recbole_gserec.errors import nearest
from recbole_gserec.interruptions import INTERRUPTED, heeded

# The base of all errors of usage. Typer brings click along, of late as a copy of its own: it is found by way of an
# error that Typer names.
USAGE_ERROR: Any = typer.BadParameter.__base__

_COMMANDS = ("preprocess", "convert", "analyze", "benchmark", "tune", "recommend", "export")

app = typer.Typer(
    name="gserec",
    cls=group_of("recbole_gserec.cli", _COMMANDS, with_settings=("preprocess", "benchmark", "tune")),
    help="Search-enhanced recommendation: data, offline stage, comparisons, sweeps and analyses.",
    no_args_is_help=True,
    add_completion=False,
    # A defect of the library must show the plain traceback, which can be pasted into a report.
    pretty_exceptions_enable=False,
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"recbole-gserec {__version__}")
        raise typer.Exit


@app.callback()
def gserec(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Search-enhanced recommendation: data, offline stage, comparisons, sweeps and analyses."""


_KEPT = {
    "preprocess": "finished summaries, vectors and epochs are kept. The same command goes on from there",
    "benchmark": "finished runs are kept. The same command goes on from there",
    "tune": "finished trials are kept. The same command goes on from there",
    "analyze ablation": "finished runs are kept. The same command goes on from there",
}
"""What an interrupted command has done for good, by its name; all others write their files at the end."""


def main() -> None:
    """Run the command line: exit status 2 with one line for a user's error, 128 + the signal's number after a signal.

    An interruption (130 after Ctrl-C, 143 after SIGTERM) is told in a line too.
    """
    with heeded(_kept):
        _run()


def _kept() -> str:
    for command, kept in _KEPT.items():
        if " ".join(sys.argv[1:]).startswith(command):
            return kept
    return "no file is left half written. The same command begins again"


def _run() -> None:
    """Typer tells a wrong use in a box of several lines; told to leave that to its caller, it raises the error."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("recbole_gserec").setLevel(logging.INFO)
    logging.getLogger("dataset_converters").setLevel(logging.INFO)
    try:
        check_dashes(sys.argv[1:])
        status = app(standalone_mode=False)
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            typer.echo(f"error: {' '.join(error.format_message().split())}{_hint(error)}", err=True)
        raise SystemExit(2) from None
    except Exception as error:
        line = line_of(error)
        if line is None:
            raise
        typer.echo(line, err=True)
        raise SystemExit(2) from None
    if status == INTERRUPTED:
        # Typer's word for it.
        raise KeyboardInterrupt
    # Commands return nothing; the status is that of an early exit, such as after --help.
    raise SystemExit(status or 0)


def _hint(error: Any) -> str:
    """For a missing option, the argument that was perhaps meant as it."""
    wanted = getattr(getattr(error, "param", None), "opts", ())
    if type(error).__name__ != "MissingParameter":
        return ""
    given = [word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--")]
    slips = [name for name in given if name not in wanted and nearest(name, wanted)]
    return f" Is '{slips[0]}' meant as it?" if slips else ""


if __name__ == "__main__":
    main()
