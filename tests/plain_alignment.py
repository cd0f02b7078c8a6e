"""The alignment of queries with clicked items, one pair and one negative at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor


def plain_alignment(
    alignment,
    pairs: list[tuple[int, int]],
    negatives: tuple[Tensor, Tensor],
    query_vector: Callable,
    item_vector: Callable,
) -> float:
    """The loss of (query, item) pairs against random queries and random items."""
    tau, weight = alignment.temperature().item(), alignment.similarity.weight.detach()

    def term(anchor, partner, others):
        score = lambda other: math.tanh(anchor @ weight @ other) / tau  # noqa: E731
        among = [score(partner), *map(score, others)]
        return math.log(sum(map(math.exp, among))) - among[0]

    queries, items = (
        [vector(int(i)) for i in ids] for vector, ids in zip((query_vector, item_vector), negatives, strict=True)
    )
    total = 0.0
    for query, item in pairs:
        vectors = query_vector(query), item_vector(item)
        total += term(vectors[0], vectors[1], items) + term(vectors[1], vectors[0], queries)
    return total / (2 * len(pairs))


def pairs_of(batch, row: int) -> list[tuple[int, int]]:
    """The (query, clicked item) pairs of one row's visible searches."""
    pairs = []
    for index in range(int(batch["search_length"][row])):
        query = int(batch["search_query_id_list"][row, index])
        pairs += [(query, item) for item in batch["search_item_ids_list"][row, index].tolist() if item]
    return pairs
