"""Searches made from purchases: drawn by hashes, so that no order of rows decides them."""

from __future__ import annotations

import duckdb

from dataset_converters.workspace import count, run

#: Queries that a purchase can have.


def make_searches(
    connection: duckdb.DuckDBPyConnection, *, per_user: bool, per_purchase: str, probability: float, seed: int
) -> None:
    """Fill the table ``searches`` from ``interactions`` and ``offered``: each clicked the purchased item at its time.

    Args:
        connection: Of the workspace.
        per_user: Whether ``offered`` has the queries of a user's item, or those of an item for all users.
        per_purchase: ``one``: one of the queries, the same whenever the user buys the item; ``all``: each of them.
        probability: Of a purchase to have begun with a search, if it has queries at all.
        seed: Of the draws.
    """
    keys = '"user", item' if per_user else "item"
    longest = count(connection, "SELECT coalesce(max(len(queries)), 1) FROM offered")
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
            SELECT "user", item, time, place, {chosen} AS chosen FROM interactions JOIN offered USING ({keys}) {drawn}
        )
        """,
        label="Making searches",
    )


_PAIR = '"user", item'


def _hash(seed: int, purpose: str, columns: str) -> str:
    """SQL for a whole number below 2**64, spread evenly over the values of the columns."""
    return f"md5_number_lower(concat_ws(chr(31), '{seed}', '{purpose}', {columns}))"
