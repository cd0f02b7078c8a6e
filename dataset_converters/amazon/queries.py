"""Queries that could have led to an Amazon purchase, either published or made from category paths.

The recipe (Van Gysel et al., CIKM 2016; Ai et al., SIGIR 2017) turns each category path of an item into a query. It
keeps the words in order, but drops stop words and words that appear again later: "Camera, Photo > Digital Camera
Lenses" becomes ``photo digital camera lenses``. Paths with a single level give no query.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import duckdb
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from dataset_converters.amazon.source_files import batches_of_lines
from dataset_converters.bad_rows import BadRows, handle_bad_rows
from dataset_converters.query_words import words_of_texts
from dataset_converters.workspace import count, run
from recbole_gserec.errors import DataError

#: Stop words of scikit-learn that have a meaning in categories ("Kindle Fire", "GPS System", "Pull Back Vehicles",
#: "Xbox One", "First Aid"). The published queries also keep these words.
CATEGORY_WORDS = frozenset(
    "back bill bottom call de fill fire first found front full interest made mill mine move one part show side system "
    "thick thin three top two well".split()
)
STOP_WORDS = ENGLISH_STOP_WORDS - CATEGORY_WORDS
#: Sources of queries: the published files or the recipe.
_QREL = r"^(\S+)_(\d+)\s+\S+\s+(\S+)\s+([01])\s*$"


def queries_of_paths(paths: Sequence[Sequence[str]]) -> list[str]:
    """Make the queries of an item by the published recipe.

    Args:
        paths: Category paths, each from the broadest category to the narrowest.

    Returns:
        Distinct queries in the order of the paths.
    """
    queries = (query_of_path(tuple(path)) for path in paths if len(path) > 1)
    return list(dict.fromkeys(query for query in queries if query))


# Many items share the same paths.
@lru_cache(maxsize=65536)
def query_of_path(path: tuple[str, ...]) -> str:
    """Words of a category path, lower case, in order, without stop words. Repeated words keep their last position."""
    words = words_of_texts([" ".join(path)])[0].split()
    distinct = dict.fromkeys(word for word in reversed(words) if word not in STOP_WORDS)
    return " ".join(reversed(distinct))


def make_category_queries(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill the table ``candidate_queries`` (``item, queries``) from the queries of each item in ``item_texts``."""
    run(
        connection,
        """
        CREATE TABLE candidate_queries AS
        SELECT item, list_sort(list_distinct(queries)) AS queries FROM item_texts WHERE len(queries) > 0
        """,
        label="Queries of items",
    )


def load_published_queries(
    connection: duckdb.DuckDBPyConnection, paths: tuple[Path, Path, Path], bad_rows: str
) -> list[BadRows]:
    """Fill the table ``candidate_queries`` (``user, item, queries``) from the published product-search files.

    Args:
        connection: Connection to the workspace, with the table ``interactions``.
        paths: ``query_text.txt``, ``train.qrels`` and ``test.qrels``.
        bad_rows: ``error`` or ``skip``.

    Returns:
        The rows left out.

    Raises:
        DataError: If ``bad_rows`` is ``error`` and a row is bad, or no row matches an interaction.
    """
    texts, *relevances = paths
    connection.execute("CREATE TABLE query_lines (number BIGINT, query VARCHAR)")
    for batch in batches_of_lines(texts):
        connection.register("lines", batch)
        connection.execute("INSERT INTO query_lines SELECT line - 1, trim(text) FROM lines")
    connection.execute(
        'CREATE TABLE relevances ("user" VARCHAR, number BIGINT, item VARCHAR, purchased BOOLEAN, file VARCHAR, '
        "line BIGINT, problem VARCHAR)"
    )
    for path in relevances:
        for batch in batches_of_lines(path):
            connection.register("lines", batch)
            connection.execute(_INSERT_RELEVANCES, {"file": path.name})
    connection.execute(
        f"""
        UPDATE relevances SET problem = 'the query number is not a line of {texts.name}'
        WHERE problem IS NULL AND number NOT IN (SELECT number FROM query_lines)
        """
    )
    left_out = handle_bad_rows(connection, "relevances", {path.name: path for path in relevances}, bad_rows)
    run(
        connection,
        """
        CREATE TABLE candidate_queries AS
        SELECT "user", item, list_sort(list(DISTINCT query)) AS queries
        FROM relevances JOIN query_lines USING (number)
        WHERE purchased GROUP BY "user", item
        """,
        label="Queries of purchases",
    )
    connection.execute("DROP TABLE relevances")
    if not count(connection, 'SELECT count(*) FROM interactions SEMI JOIN candidate_queries USING ("user", item)'):
        raise DataError(
            relevances[0], "none of its purchases has a review", "Use the product-search files of this category."
        )
    return left_out


_INSERT_RELEVANCES = f"""
    INSERT INTO relevances
    SELECT parts[1], TRY_CAST(parts[2] AS BIGINT), parts[3], parts[4] = '1', $file, line,
        CASE WHEN parts[3] = '' OR NOT readable THEN 'not <user>_<query> 0 <item> <0 or 1>' END
    FROM (
        SELECT line, readable,
            [regexp_extract(text, '{_QREL}', 1), regexp_extract(text, '{_QREL}', 2), regexp_extract(text, '{_QREL}', 3),
             regexp_extract(text, '{_QREL}', 4)] AS parts
        FROM lines
    )
"""
