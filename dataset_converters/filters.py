"""Filters that choose the users, items and events of the dataset, with counts after every step."""

from dataclasses import dataclass

import duckdb

from dataset_converters.choices import Filters
from dataset_converters.query_words import split_queries
from dataset_converters.workspace import count, run

_EVENTS = ("interactions", "searches")


@dataclass(frozen=True)
class Step:
    """Counts after one filter step.

    Args:
        name: Name of the step.
        users: Number of users with interactions or searches.
        items: Number of items in interactions or clicked in searches.
        interactions: Number of interactions.
        searches: Number of searches.
    """

    name: str
    users: int
    items: int
    interactions: int
    searches: int


def apply_filters(
    connection: duckdb.DuckDBPyConnection,
    filters: Filters,
    *,
    searches_from_interactions: bool = False,
    words: str | None = None,
) -> list[Step]:
    """Filter the tables ``interactions`` and ``searches``.

    Args:
        connection: Connection to the workspace.
        filters: What to keep.
        searches_from_interactions: Whether each search was made from an interaction of the same user, item and time.
            The k-core then removes the search with its interaction.
        words: How to split queries into words to find duplicates
            (:func:`dataset_converters.query_words.words_of_texts`). None compares the query texts.

    Returns:
        The counts before filtering and after each active filter.
    """
    steps = [_counted(connection, "read")]

    def step(name: str, *statements: str) -> None:
        for statement in statements:
            run(connection, statement, label=name)
        steps.append(_counted(connection, name))

    for bound, keeps in ((filters.since, ">="), (filters.until, "<")):
        if bound is not None:
            name = f"since {bound:.15g}" if keeps == ">=" else f"until {bound:.15g}"
            step(
                name,
                *(f"DELETE FROM {table} WHERE NOT (time {keeps} {bound!r})" for table in _EVENTS),
            )
    if filters.drop_duplicates:
        if words is not None:
            split_queries(connection, "searches", words)
        step("without duplicates", *(_without_duplicates(connection, table, words) for table in _EVENTS))
    if not filters.search_only_users:
        # This step runs first, so that the counts of the next steps contain only users with interactions.
        step(
            "users with interactions",
            "DELETE FROM searches WHERE user NOT IN (SELECT DISTINCT user FROM interactions)",
        )
    only_search = ", or with searches only" if filters.search_only_users else ""
    if filters.min_searches:
        with_too_few = f"""
            SELECT users.user FROM (SELECT user FROM interactions UNION SELECT user FROM searches) users
            LEFT JOIN (SELECT user, count(*) AS n FROM searches GROUP BY user) counts USING (user)
            WHERE coalesce(n, 0) < {filters.min_searches}
        """
        connection.execute(f"CREATE OR REPLACE TEMP TABLE removed AS {with_too_few}")
        step(f"users with {filters.min_searches} searches or more", *_delete_removed_users())
    if filters.k_core > 1:
        _k_core(connection, filters.k_core, max(filters.k_core, filters.min_interactions))
        if searches_from_interactions:
            run(connection, _DELETE_SEARCHES_OF_REMOVED_INTERACTIONS)
        steps.append(_counted(connection, f"{filters.k_core}-core{only_search}"))
    if filters.min_interactions > 1:
        too_few = f"SELECT user FROM interactions GROUP BY user HAVING count(*) < {filters.min_interactions}"
        connection.execute(f"CREATE OR REPLACE TEMP TABLE removed AS {too_few}")
        name = f"users with {filters.min_interactions} interactions or more{only_search}"
        step(name, *_delete_removed_users())
    return steps


_DELETE_SEARCHES_OF_REMOVED_INTERACTIONS = """
    DELETE FROM searches WHERE source_row IN (
        SELECT source_row FROM (SELECT "user", items[1] AS item, time, source_row FROM searches)
        ANTI JOIN interactions USING ("user", item, time)
    )
"""


def _delete_removed_users() -> list[str]:
    return [f"DELETE FROM {table} WHERE user IN (SELECT user FROM removed)" for table in _EVENTS]


def _without_duplicates(connection: duckdb.DuckDBPyConnection, table: str, words: str | None) -> str:
    """SQL statement that keeps the first of several rows that are equal in everything but their ``source_row``."""
    columns = [name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall() if name != "source_row"]
    same = ", ".join(f'"{column}"' for column in columns)
    rows = f"(SELECT *, rowid AS row FROM {table})"
    if table == "searches" and words is not None:
        rows = """
            (SELECT searches.* REPLACE (words AS query), searches.rowid AS row
            FROM searches JOIN query_texts ON coalesce(searches.query, '') = query_texts.query)
        """
    return f"DELETE FROM {table} WHERE rowid NOT IN (SELECT arg_min(row, source_row) FROM {rows} GROUP BY {same})"


def _k_core(connection: duckdb.DuckDBPyConnection, k: int, k_users: int) -> None:
    """Remove items with fewer than ``k`` and users with fewer than ``k_users`` interactions until all have enough.

    If a user loses all interactions, the user's searches are removed too.
    """
    connection.execute("CREATE OR REPLACE TEMP TABLE before AS SELECT DISTINCT user FROM interactions")
    while True:
        rows = count(connection, "SELECT count(*) FROM interactions")
        for side, fewest in (("user", k_users), ("item", k)):
            poor = f"SELECT {side} FROM interactions GROUP BY {side} HAVING count(*) < {fewest}"
            run(connection, f"DELETE FROM interactions WHERE {side} IN ({poor})", label=f"{k}-core")
        if count(connection, "SELECT count(*) FROM interactions") == rows:
            break
    connection.execute(
        "DELETE FROM searches WHERE user IN (SELECT user FROM before EXCEPT SELECT DISTINCT user FROM interactions)"
    )


def _counted(connection: duckdb.DuckDBPyConnection, name: str) -> Step:
    found = connection.execute(
        """
        SELECT
            (SELECT count(*) FROM (SELECT user FROM interactions UNION SELECT user FROM searches)),
            (SELECT count(*) FROM (SELECT item FROM interactions UNION SELECT unnest(items) FROM searches)),
            (SELECT count(*) FROM interactions),
            (SELECT count(*) FROM searches)
        """
    ).fetchall()
    return Step(name, *found[0])
