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
        typer.Option(
            "--input", help="Folder with the reviews, the metadata and, if available, the product-search files."
        ),
    ],
    output: OutputFolder = Path("dataset"),
    name: Annotated[
        str | None, typer.Option(help="Name of the new dataset; by default from the category: amazon-electronics.")
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Category as in the file names (CDs_and_Vinyl), if the folder has several.")
    ] = None,
    edition: Annotated[
        str | None,
        typer.Option(help="Edition of the data: 2014, 2018, 2023 or plain; by default detected from the content."),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Folder with query_text.txt.gz, train.qrels.gz and test.qrels.gz; by default --input.",
            rich_help_panel=_SEARCHES,
        ),
    ] = None,
    queries_from: Annotated[
        str | None,
        typer.Option(
            help="Source of the queries: published (from these files, the default if they exist) or categories (made "
            "by the same recipe from the category paths in the metadata).",
            rich_help_panel=_SEARCHES,
        ),
    ] = _RECIPE.queries_from,
    queries_per_purchase: Annotated[
        str,
        typer.Option(help="Queries used per purchase: one (random) or all that match.", rich_help_panel=_SEARCHES),
    ] = _RECIPE.queries_per_purchase,
    search_probability: Annotated[
        float,
        typer.Option(help="Probability that a purchase with queries began with a search.", rich_help_panel=_SEARCHES),
    ] = _RECIPE.search_probability,
    seed: Annotated[int, typer.Option(help="Random seed.", rich_help_panel=_SEARCHES)] = _RECIPE.seed,
    items_with_text: Annotated[
        bool, typer.Option(help="Leave out items that have neither title nor description.")
    ] = _RECIPE.items_with_text,
    description_length: Annotated[
        int, typer.Option(help="Maximum length of a description in characters; 0 for no limit.")
    ] = _RECIPE.description_length,
    options: Options,
) -> None:
    """Convert Amazon reviews (2014, 2018, 2023): reviews become purchases, and searches are made from them."""
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
