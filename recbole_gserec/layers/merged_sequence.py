"""Two histories of one user as one sequence in chronological order, for USER, Query-SeqRec and UniSAR."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class MergedSequence:
    """How the interactions and searches of a batch interleave.

    Args:
        item_places: ``[B, L]`` position of each interaction among all events of its row (``item_place_list``).
        search_places: ``[B, S]`` the same for searches (``search_place_list``).
        item_mask: ``[B, L]``, True on real interactions.
        search_mask: ``[B, S]``, True on real searches.
    """

    item_places: Tensor
    search_places: Tensor
    item_mask: Tensor
    search_mask: Tensor

    @cached_property
    def order(self) -> Tensor:
        """For each position of the merged sequence, the index in interactions followed by searches: ``[B, L + S]``."""
        places = torch.cat([self.item_places, self.search_places], dim=1)
        padded = ~torch.cat([self.item_mask, self.search_mask], dim=1)
        return places.masked_fill(padded, torch.iinfo(places.dtype).max).argsort(dim=1, stable=True)

    @cached_property
    def mask(self) -> Tensor:
        """True on real events, ``[B, L + S]``."""
        return torch.cat([self.item_mask, self.search_mask], dim=1).gather(1, self.order)

    @cached_property
    def is_search(self) -> Tensor:
        """True if a position holds a search, padded or not, ``[B, L + S]``."""
        return self.order >= self.item_places.shape[1]

    def merge(self, items: Tensor, searches: Tensor) -> Tensor:
        """Merge ``[B, L, ...]`` and ``[B, S, ...]`` into ``[B, L + S, ...]``."""
        joined = torch.cat([items, searches], dim=1)
        return joined.gather(1, self._indices(self.order, joined))

    def split(self, merged: Tensor) -> tuple[Tensor, Tensor]:
        """Invert :meth:`merge`."""
        inverse = self.order.argsort(dim=1)
        joined = merged.gather(1, self._indices(inverse, merged))
        items, searches = joined.tensor_split([self.item_places.shape[1]], dim=1)
        return items, searches

    @staticmethod
    def _indices(order: Tensor, values: Tensor) -> Tensor:
        return order.view(*order.shape, *[1] * (values.dim() - 2)).expand(-1, -1, *values.shape[2:])
