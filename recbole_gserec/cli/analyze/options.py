"""Options that several analyses have, and what they print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from recbole_gserec.analyze.groups import Grouping

By = Annotated[str, typer.Option(help="Number of each user's training events: searches or interactions.")]
Groups = Annotated[
    str | None,
    typer.Option(help="Groups of users by that number, such as '0,1-5,6-20,21-'.", show_default="quantiles"),
]
Quantiles = Annotated[int, typer.Option(min=1, max=100, help="Groups with about as many users each.")]


def grouping(by: str, groups: str | None, quantiles: int) -> Grouping:
    """How users are grouped."""
    from recbole_gserec.analyze.group_borders import parse_groups
    from recbole_gserec.analyze.groups import Grouping

    return Grouping(by, parse_groups(groups) if groups is not None else None, quantiles)


def show(page: Path) -> None:
    """Print a page of Markdown to the error output, laid out where its tables fit, and its path to the output."""
    from rich.console import Console
    from rich.markdown import Markdown

    console, text = Console(stderr=True), page.read_text(encoding="utf-8")
    if max(len(line) for line in text.splitlines() if line.startswith(("|", "#"))) <= console.width:
        console.print(Markdown(text, hyperlinks=False))
    else:
        # Squeezed, numbers would lose their digits; the text as it stands can be read too.
        console.print(text, soft_wrap=True, markup=False, highlight=False)
    typer.echo(page)
