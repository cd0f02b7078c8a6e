"""``gserec convert amazon``: reviews and metadata of one Amazon category."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataset_converters.choices import AS_WORDS, Options, Recipe
from recbole_gserec.cli.convert.options import OutputFolder, with_options
from recbole_gserec.interruptions import while_importing

_RECIPE = Recipe()
_SEARCHES = "Searches"


@with_options(AS_WORDS)
def amazon(
    *,
    input_: Annotated[
        Path,
        typer.Option("--input", help="Folder of the reviews, the metadata and, if at hand, the product-search files."),
    ],
    output: OutputFolder = Path("dataset"),
    name: Annotated[
        str | None, typer.Option(help="Name of the new dataset; by default that of the category: amazon-electronics.")
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="As the files name it (CDs_and_Vinyl), where the folder holds several.")
    ] = None,
    edition: Annotated[
        str | None, typer.Option(help="2014, 2018, 2023 or plain; told by the content if not given.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Folder of query_text.txt.gz, train.qrels.gz, test.qrels.gz; --input if they are there.",
            rich_help_panel=_SEARCHES,
        ),
    ] = None,
    queries_from: Annotated[
        str | None,
        typer.Option(
            help="published (these files; the default where they are) or categories (the same recipe, from the paths "
            "of the metadata).",
            rich_help_panel=_SEARCHES,
        ),
    ] = _RECIPE.queries_from,
    queries_per_purchase: Annotated[
        str,
        typer.Option(help="one (drawn) or all of those that could have led to it.", rich_help_panel=_SEARCHES),
    ] = _RECIPE.queries_per_purchase,
    search_probability: Annotated[
        float,
        typer.Option(
            help="Probability that a purchase began with a search, if it has queries.", rich_help_panel=_SEARCHES
        ),
    ] = _RECIPE.search_probability,
    seed: Annotated[int, typer.Option(help="Of these draws.", rich_help_panel=_SEARCHES)] = _RECIPE.seed,
    items_with_text: Annotated[
        bool, typer.Option(help="Leave out items with neither title nor description.")
    ] = _RECIPE.items_with_text,
    description_length: Annotated[
        int, typer.Option(help="Most characters of a description; 0: all.")
    ] = _RECIPE.description_length,
    options: Options,
) -> None:
    """Amazon's reviews (2014, 2018, 2023) as purchases, with searches made from them."""
    with while_importing():
        from dataset_converters.amazon import convert_amazon

    recipe = Recipe(
        queries_from=queries_from,
        queries_per_purchase=queries_per_purchase,
        search_probability=search_probability,
        items_with_text=items_with_text,
        description_length=description_length,
        seed=seed,
    )
    folder = convert_amazon(
        input_, output, name, category=category, edition=edition, queries=queries, recipe=recipe, options=options
    )
    typer.echo(folder)
