"""Random replacement of tokens by their neighbours in the query-item graph, for Query-SeqRec."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_gserec.data.query_item_graph import QueryItemGraph
from recbole_gserec.data.ragged import Ragged
from recbole_gserec.layers.query_tokens import QueryTokens


class TokenReplacement(nn.Module):
    """Replaces tokens at random in training; random numbers are torch's.

    A substitute is a neighbour with probability ``graph_probability``. Otherwise, or if there is no neighbour, it is
    any token of the same kind. Neighbours of an item are the items clicked for one of its queries. Neighbours of a
    query are the queries for which the item after it was clicked. A query without a following item stays.

    Args:
        graph: Graph of the training part.
        probability: Probability that a token is replaced.
        graph_probability: Probability that the substitute is a neighbour.
    """

    def __init__(self, graph: QueryItemGraph, probability: float, graph_probability: float):
        super().__init__()
        self.probability, self.graph_probability = probability, graph_probability
        self.items_of_query = _RandomChoice(graph.items_of_query)
        self.queries_of_item = _RandomChoice(graph.queries_of_item)
        self.vocabulary = _RandomChoice(graph.vocabulary)

    def forward(self, tokens: QueryTokens) -> QueryTokens:
        if not self.training or self.probability == 0:
            return tokens
        ids, is_query, mask = tokens
        # The item that represents a token in the graph.
        items = tokens.next_items().where(is_query, ids)
        replaced = (torch.rand(ids.shape, device=ids.device) < self.probability) & mask & (items > 0)
        indices = replaced.flatten().nonzero().squeeze(1)
        items, of_query = items.flatten()[indices], is_query.flatten()[indices]
        queries = self.queries_of_item(items)
        neighbours = queries.where(of_query, self.items_of_query(queries))
        use_graph = torch.rand(len(indices), device=ids.device) < self.graph_probability
        substitutes = neighbours.where(use_graph & (neighbours > 0), self.vocabulary(of_query.long()))
        return QueryTokens(ids.flatten().index_copy(0, indices, substitutes).view_as(ids), is_query, mask)


class _RandomChoice(nn.Module):
    """Draws one value from each of the given rows ``[n]`` uniformly; 0 for an empty row."""

    values: Tensor
    offsets: Tensor

    def __init__(self, lists: Ragged):
        super().__init__()
        self.register_buffer("values", torch.cat([lists.values, lists.values.new_zeros(1)]), persistent=False)
        self.register_buffer("offsets", lists.offsets, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        starts, counts = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        # Rounding may raise a number near 1 to the count itself.
        chosen = (torch.rand(len(rows), device=rows.device) * counts).long().minimum(counts - 1).clamp_min(0)
        return self.values[starts + chosen] * (counts > 0)
