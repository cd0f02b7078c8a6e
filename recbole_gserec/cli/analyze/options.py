"""Options and output shared by several analyses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from recbole_gserec.analyze.groups import Grouping

By = Annotated[str, typer.Option(help="Training events counted for each user: searches or interactions.")]
Groups = Annotated[
    str | None,
    typer.Option(help="User groups by number of events, such as '0,1-5,6-20,21-'.", show_default="quantiles"),
]
Quantiles = Annotated[
    int, typer.Option(min=1, max=100, help="Number of equally large user groups, if --groups is not set.")
]


def grouping(by: str, groups: str | None, quantiles: int) -> Grouping:
    """Build the user grouping that the options describe."""
    from recbole_gserec.analyze.group_borders import parse_groups
    from recbole_gserec.analyze.groups import Grouping

    return Grouping(by, parse_groups(groups) if groups is not None else None, quantiles)


def show(page: Path) -> None:
    """Print a Markdown page to standard error and its path to standard output."""
    from rich.console import Console
    from rich.markdown import Markdown

    console, text = Console(stderr=True), page.read_text(encoding="utf-8")
    if max(len(line) for line in text.splitlines() if line.startswith(("|", "#"))) <= console.width:
        console.print(Markdown(text, hyperlinks=False))
    else:
        # A narrow table would cut off digits, so the page is printed as plain Markdown.
        console.print(text, soft_wrap=True, markup=False, highlight=False)
    typer.echo(page)
