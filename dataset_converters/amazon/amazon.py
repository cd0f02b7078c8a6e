"""Amazon's reviews (2014, 2018, 2023) as purchases, with searches made from them: the paper's CDs and Electronics.

A review is an interaction. The published product-search data says which queries could have led a user to an item; a
search is drawn for a purchase by a hash, so that no order of rows decides it.

"""

import logging
from pathlib import Path

import duckdb

from dataset_converters.amazon.items import read_items
from dataset_converters.amazon.queries import load_published_queries, make_category_queries
from dataset_converters.amazon.reviews import read_reviews
from dataset_converters.amazon.source_files import Source, find_source
from dataset_converters.bad_rows import BadRows
from dataset_converters.choices import AS_WORDS, Options, Recipe
from dataset_converters.conversion import convert
from dataset_converters.workspace import count, only_row, run
from recbole_gserec.errors import DataError, not_none

#: How many queries a purchase gets.


def make_searches(
    connection: duckdb.DuckDBPyConnection, *, per_user: bool, per_purchase: str, probability: float, seed: int
) -> None:
    """Fill ``searches`` from ``interactions`` and ``candidate_queries``. A search clicks the item at the purchase time.

    Args:
        connection: Connection to the workspace.
        per_user: Whether ``candidate_queries`` has queries for each user and item, or for each item.
        per_purchase: ``one`` random query, the same for every purchase of the item by the user, or ``all`` queries.
        probability: Probability that a purchase with queries began with a search.
        seed: Random seed.
    """
    keys = '"user", item' if per_user else "item"
    longest = count(connection, "SELECT coalesce(max(len(queries)), 1) FROM candidate_queries")
    chosen = "queries"
    if per_purchase == "one":
        chosen = f"[queries[1 + ({_hash(seed, 'query', _PAIR)} % len(queries)::UBIGINT)::BIGINT]]"
    drawn = ""
    if probability < 1:
        moment = "round(time * 1000)::BIGINT::VARCHAR"
        drawn = f"WHERE {_hash(seed, 'search', f'{_PAIR}, {moment}')} / {2.0**64!r} < {probability!r}"
    run(
        connection,
        f"""
        CREATE TABLE searches AS
        SELECT "user", unnest(chosen) AS query, time, [item] AS items,
            source_row * {longest} + generate_subscripts(chosen, 1) - 1 AS source_row
        FROM (
            SELECT "user", item, time, source_row, {chosen} AS chosen
            FROM interactions JOIN candidate_queries USING ({keys}) {drawn}
        )
        """,
        label="Making searches",
    )


_PAIR = '"user", item'


def _hash(seed: int, purpose: str, columns: str) -> str:
    """SQL for a uniformly distributed whole number below 2**64 that depends on the columns' values."""
    return f"md5_number_lower(concat_ws(chr(31), '{seed}', '{purpose}', {columns}))"


logger = logging.getLogger(__name__)

_NAMES = {"CDs_and_Vinyl": "amazon-cds", "": "amazon"}


def convert_amazon(
    source: str | Path,
    output_dir: str | Path,
    name: str | None = None,
    *,
    category: str | None = None,
    edition: str | None = None,
    queries: str | Path | None = None,
    recipe: Recipe | None = None,
    options: Options | None = None,
) -> Path:
    """Make a search-extended dataset from one category of Amazon's reviews.

    Args:
        source: Folder with the reviews, the metadata and, if available, the published product-search files.
        output_dir: Folder of all datasets (RecBole's ``data_path``).
        name: Name of the new dataset. The default comes from the category, such as ``amazon-electronics``.
        category: Category as in the file names. Required if the folder has several.
        edition: ``2014``, ``2018``, ``2023`` or ``plain``. By default detected from the content.
        queries: Folder of the published product-search files, if it is not ``source``.
        recipe: How to make searches and texts.
        options: Options of the conversion.

    Returns:
        The dataset's folder ``<output_dir>/<name>``. An existing identical dataset is kept.

    Raises:
        DataError: If a file is missing or malformed, or the output folder has other content.
        SettingError: If an option is invalid.
    """
    recipe, options = recipe or Recipe(), options or AS_WORDS
    found = find_source(Path(source), category, edition, Path(queries) if queries is not None else None)
    published = found.queries is not None if recipe.queries_from is None else recipe.queries_from == "published"
    if published and found.queries is None:
        raise DataError(Path(source), "no published queries", "Give their folder: --queries FOLDER.")
    files = {path.name: path for path in found.files(published)}

    def read(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
        return _read(connection, found, published, recipe, options)

    return convert(
        output_dir,
        name or default_name(found.category),
        "amazon",
        files,
        read,
        options,
        settings={
            "edition": found.edition.name,
            "category": found.category,
            "queries_from": "published" if published else "categories",
            "queries_per_purchase": recipe.queries_per_purchase,
            "search_probability": recipe.search_probability,
            "items_with_text": recipe.items_with_text,
            "description_length": recipe.description_length,
            "seed": recipe.seed,
        },
        searches_from_interactions=True,
    )


def default_name(category: str) -> str:
    """Default dataset name of a category, such as ``amazon-electronics`` or ``amazon-toys-and-games``."""
    return _NAMES.get(category, f"amazon-{category.lower().replace('_', '-')}")


def _read(
    connection: duckdb.DuckDBPyConnection, source: Source, published: bool, recipe: Recipe, options: Options
) -> list[BadRows]:
    """Fill the conversion's tables."""
    left_out = read_reviews(connection, source.reviews, source.edition, options.bad_rows)
    left_out += read_items(
        connection,
        source.metadata,
        source.edition,
        options.bad_rows,
        all_items=options.all_items,
        description_length=recipe.description_length,
    )
    if recipe.items_with_text:
        left_out += _leave_out_items_without_text(connection, source.reviews)
    if published:
        left_out += load_published_queries(connection, not_none(source.queries), options.bad_rows)
    else:
        make_category_queries(connection)
    make_searches(
        connection,
        per_user=published,
        per_purchase=recipe.queries_per_purchase,
        probability=recipe.search_probability,
        seed=recipe.seed,
    )
    _warn_about_unknown_items(connection)
    return left_out


def _leave_out_items_without_text(connection: duckdb.DuckDBPyConnection, reviews: Path) -> list[BadRows]:
    """Remove interactions with items that have no metadata, or neither title nor description."""
    without = """
        FROM interactions ANTI JOIN
            (SELECT item FROM item_texts WHERE title <> '' OR description <> '') described USING (item)
    """
    connection.execute(f"CREATE TEMP TABLE without_text AS SELECT source_row {without}")
    rows, lines = only_row(
        connection, "SELECT count(*), list_slice(list_sort(list(source_row)), 1, 5) FROM without_text"
    )
    connection.execute("DELETE FROM interactions WHERE source_row IN (SELECT source_row FROM without_text)")
    return [BadRows(reviews.name, "the item has neither title nor description", rows, tuple(lines))] if rows else []


def _warn_about_unknown_items(connection: duckdb.DuckDBPyConnection) -> None:
    unknown = count(connection, "SELECT count(DISTINCT item) FROM interactions ANTI JOIN item_texts USING (item)")
    if unknown:
        logger.warning(
            "Items without metadata: %s. Their interactions are kept, but they have no texts.", f"{unknown:,}"
        )
