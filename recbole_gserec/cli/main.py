"""The ``gserec`` command."""

import logging
import sys
from typing import Annotated, Any

import typer

from recbole_gserec import __version__
from recbole_gserec.cli.commands import group_of
from recbole_gserec.cli.options import check_dashes
from recbole_gserec.cli.user_errors import line_of
from recbole_gserec.compute import INTERRUPTED, heeded
from recbole_gserec.errors import nearest

# The base class of all usage errors. Recent versions of Typer contain their own copy of click, so the class is taken
# from an error that Typer exports.
USAGE_ERROR: Any = typer.BadParameter.__base__

_COMMANDS = ("preprocess", "convert", "analyze", "benchmark", "tune", "recommend", "export")

app = typer.Typer(
    name="gserec",
    cls=group_of("recbole_gserec.cli", _COMMANDS, with_settings=("preprocess", "benchmark", "tune")),
    help="Search-enhanced recommendation: data, offline stage, comparisons, sweeps and analyses.",
    no_args_is_help=True,
    add_completion=False,
    # A bug in the library must show the plain traceback, which a user can paste into a bug report.
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
    "preprocess": "finished summaries, vectors and epochs are kept. Repeat the command to resume",
    "benchmark": "finished runs are kept. Repeat the command to resume",
    "tune": "finished trials are kept. Repeat the command to resume",
    "analyze ablation": "finished runs are kept. Repeat the command to resume",
}
"""What each command keeps when it is interrupted. All other commands write their files at the end."""


def main() -> None:
    """Run the command line.

    A user's error prints one line and exits with status 2. An interruption also prints one line, and exits with 128 +
    the signal's number: 130 after Ctrl-C, 143 after SIGTERM.
    """
    with heeded(_kept):
        _run()


def _kept() -> str:
    for command, kept in _KEPT.items():
        if " ".join(sys.argv[1:]).startswith(command):
            return kept
    return "no file is left half written. Repeat the command to start again"


def _run() -> None:
    """Run Typer without its own error output, a box of several lines, and print usage errors in one line."""
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
        # This status is how Typer reports an interruption.
        raise KeyboardInterrupt
    # Commands return nothing. A status comes from an early exit, such as after --help.
    raise SystemExit(status or 0)


def _hint(error: Any) -> str:
    """Suggest which of the arguments may be a mistyped form of a missing option."""
    wanted = getattr(getattr(error, "param", None), "opts", ())
    if type(error).__name__ != "MissingParameter":
        return ""
    written = [word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--")]
    slips = [name for name in written if name not in wanted and nearest(name, wanted)]
    return f" Did you mistype it as '{slips[0]}'?" if slips else ""


if __name__ == "__main__":
    main()
