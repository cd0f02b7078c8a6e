"""Searches made from purchases. Random choices use hashes, so they do not depend on the order of rows."""

from __future__ import annotations

import duckdb

from dataset_converters.workspace import count, run

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
            place * {longest} + generate_subscripts(chosen, 1) - 1 AS place
        FROM (
            SELECT "user", item, time, place, {chosen} AS chosen
            FROM interactions JOIN candidate_queries USING ({keys}) {drawn}
        )
        """,
        label="Making searches",
    )


_PAIR = '"user", item'


def _hash(seed: int, purpose: str, columns: str) -> str:
    """SQL for a uniformly distributed whole number below 2**64 that depends on the columns' values."""
    return f"md5_number_lower(concat_ws(chr(31), '{seed}', '{purpose}', {columns}))"
