"""Item and query tokens of Query-SeqRec: interactions and searches as one sequence.

Tokens are replaced at random by their neighbours in the query-item graph.

"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.data import PADDED, QueryItemGraph, Ragged
from recbole_gserec.layers.history import MergedSequence


class QueryTokens(NamedTuple):
    """Sequences of B rows, oldest token first.

    Shapes:
        - **ids**: ``[B, T]``, item ids, or query ids where **is_query** ``[B, T]`` is True; 0 where padded.
        - **mask**: ``[B, T]``, True on real tokens.
        - **is_search**: ``[B, T]``, True on queries and clicks, False on interactions.
    """

    ids: Tensor
    is_query: Tensor
    mask: Tensor
    is_search: Tensor

    def next_items(self, last: Tensor | None = None) -> Tensor:
        """Return the item right after each token, ``[B, T]``; 0 if a query or nothing follows.

        Args:
            last: ``[B]`` items that follow the last tokens.
        """
        following = F.pad(self.ids.masked_fill(self.is_query, 0)[:, 1:], (0, 1))
        if last is None:
            return following
        is_last = self.mask & ~F.pad(self.mask[:, 1:], (0, 1))
        return last.unsqueeze(1).where(is_last, following)

    def distances(self, n_items: int, n_searches: int) -> Tensor:
        """Return how far each token lies behind those before it, counted in tokens that it sees.

        Args:
            n_items: Number of interactions that a token sees, the latest up to itself.
            n_searches: The same for searches, each with its clicked items.

        Returns:
            ``[B, T, T]``, 0 from a token to itself; negative for later and for unseen tokens.
        """
        is_item, of_search = self.mask & ~self.is_search, self.mask & self.is_search
        items, searches, search_tokens = (part.cumsum(1) for part in (is_item, self.is_query, of_search))
        # How many interactions and tokens of searches are too old for each token: those before the first that it sees.
        old_items = (items - n_items).clamp_min(0)
        old_searches = (searches - n_searches).clamp_min(0)
        first_seen = torch.searchsorted(searches, old_searches + 1).clamp_max(searches.shape[1] - 1)
        # The oldest search of a row may have lost its query, and is not too old.
        old_tokens = (search_tokens.gather(1, first_seen) - 1) * (old_searches > 0)
        distances = self._between(items, old_items) + self._between(search_tokens, old_tokens)
        is_old = torch.where(
            self.is_search.unsqueeze(1),
            search_tokens.unsqueeze(1) <= old_tokens.unsqueeze(2),
            items.unsqueeze(1) <= old_items.unsqueeze(2),
        )
        return distances.masked_fill(is_old, -1)

    @staticmethod
    def _between(counts: Tensor, old: Tensor) -> Tensor:
        """Return how many tokens of a kind, without the ``old`` first, lie after each key, up to each token."""
        return counts.unsqueeze(2) - torch.maximum(counts.unsqueeze(1), old.unsqueeze(2))


def query_tokens(
    items: Tensor,
    item_places: Tensor,
    queries: Tensor,
    clicks: Tensor,
    search_places: Tensor,
    search_mask: Tensor,
    size: int,
) -> QueryTokens:
    """Build the last ``size`` tokens of each row. A search is its query, then its clicked items.

    Args:
        items: ``[B, L]`` interactions, 0 where padded.
        item_places: ``[B, L]`` position of each among all events of its row; see :class:`MergedSequence`.
        queries: ``[B, S]`` searches.
        clicks: ``[B, S, K]`` clicked items, 0 where padded; K may be 0.
        search_places: ``[B, S]``, as ``item_places``.
        search_mask: ``[B, S]``, True on real searches.
        size: Maximum number of tokens.
    """
    search = torch.cat([queries.unsqueeze(-1), clicks], dim=-1)
    is_query = torch.zeros_like(search, dtype=torch.bool)
    is_query[..., 0] = True
    is_real = search_mask.unsqueeze(-1) & (is_query | (search > 0))
    # The tokens of a search share its position; merging keeps their order.
    places = search_places.unsqueeze(-1).expand_as(search).masked_fill(~is_real, PADDED)
    item_places = item_places.masked_fill(items == 0, PADDED)
    merged = MergedSequence(item_places, places.flatten(1), items > 0, is_real.flatten(1))
    counts = merged.mask.sum(1, keepdim=True)
    width = max(1, min(size, int(counts.max())))
    columns = (counts - size).clamp_min(0) + torch.arange(width, device=items.device)
    mask = merged.mask.gather(1, columns)
    ids = merged.merge(items, search.flatten(1)).gather(1, columns).masked_fill(~mask, 0)
    query_places = merged.merge(torch.zeros_like(items, dtype=torch.bool), is_query.flatten(1))
    is_search = merged.is_search.gather(1, columns) & mask
    return QueryTokens(ids, query_places.gather(1, columns) & mask, mask, is_search)


class TokenReplacement(nn.Module):
    """Replaces tokens at random in training; random numbers are torch's.

    A substitute is a neighbour with probability ``graph_probability``. Otherwise, or if there is no neighbour, it is
    any token of the same kind. Neighbours of an item are the items clicked for one of its queries. Neighbours of a
    query are the queries for which the item after it was clicked. A query without a following item stays. In a window,
    an interaction after a query is a target, of which the substitute would tell. So only clicks count there.

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

    def forward(self, tokens: QueryTokens, of_window: bool = False) -> QueryTokens:
        if not self.training or self.probability == 0:
            return tokens
        ids, is_query, mask, is_search = tokens
        following = tokens.next_items()
        if of_window:
            following = following * F.pad(is_search[:, 1:], (0, 1))
        # The item that represents a token in the graph.
        items = following.where(is_query, ids)
        replaced = (torch.rand(ids.shape, device=ids.device) < self.probability) & mask & (items > 0)
        indices = replaced.flatten().nonzero().squeeze(1)
        items, of_query = items.flatten()[indices], is_query.flatten()[indices]
        queries = self.queries_of_item(items)
        neighbours = queries.where(of_query, self.items_of_query(queries))
        use_graph = torch.rand(len(indices), device=ids.device) < self.graph_probability
        substitutes = neighbours.where(use_graph & (neighbours > 0), self.vocabulary(of_query.long()))
        return tokens._replace(ids=ids.flatten().index_copy(0, indices, substitutes).view_as(ids))


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
