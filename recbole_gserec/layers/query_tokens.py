"""Interactions and searches as one sequence of item and query tokens, for Query-SeqRec."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_gserec.data.events import PADDED
from recbole_gserec.layers.merged_sequence import MergedSequence


class QueryTokens(NamedTuple):
    """Sequences of B rows, oldest token first.

    Shapes:
        - **ids**: ``[B, T]``, item ids, or query ids where **is_query** ``[B, T]`` is True; 0 where padded.
        - **mask**: ``[B, T]``, True on real tokens.
    """

    ids: Tensor
    is_query: Tensor
    mask: Tensor

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
    return QueryTokens(ids, query_places.gather(1, columns) & mask, mask)
