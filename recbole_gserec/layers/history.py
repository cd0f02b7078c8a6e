"""Encoding of histories (Section 4.2.3 of GSERec), fusion with codes (Eq. 11), and histories merged by time."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.dropout import ModuleList
from recbole_gserec.layers.packing import Packing
from recbole_gserec.layers.transformer import DecoderLayer, EncoderLayer


class HistoryEncoder(nn.Module):
    r"""Position embeddings and a post-norm Transformer encoder, bidirectional unless it is to be causal.

    :math:`H = \mathrm{FFN}(\mathrm{MSA}(\hat E, \hat E, \hat E)), \hat E = E + P`. Position 0 is the oldest event kept.
    With a span, positions are told by :class:`DistanceBias` instead of P, and attention is causal.

    Args:
        size: Embedding size d.
        max_length: Longest history.
        n_layers: Transformer layers.
        n_heads: Attention heads.
        inner_size: Inner size of the feed-forward layers.
        dropout: Dropout inside the layers.
        attention_dropout: Dropout of the attention weights.
        causal: Whether an event attends only to itself and earlier events.
        activation: Activation of the feed-forward layers.
        span: Number of events that an event reads, with itself; 0 for position embeddings.

    Shapes:
        - **events**: packed ``[T, d]``, result ``[T, d]``.
        - **blocked**: see :class:`EncoderLayer`.
    """

    def __init__(
        self,
        size: int,
        max_length: int,
        n_layers: int,
        n_heads: int,
        inner_size: int,
        dropout: float,
        attention_dropout: float,
        causal: bool = False,
        activation: Callable[[Tensor], Tensor] = F.relu,
        span: int = 0,
    ):
        super().__init__()
        self.positions = None if span else nn.Embedding(max_length, size)
        self.layers = ModuleList(
            EncoderLayer(size, n_heads, inner_size, dropout, attention_dropout, causal, activation, span)
            for _ in range(n_layers)
        )
        if self.positions is not None:
            nn.init.xavier_normal_(self.positions.weight)

    def forward(self, events: Tensor, packing: Packing, blocked: Tensor | None = None) -> Tensor:
        if self.positions is not None:
            # If padding is kept, it may lie beyond the last position.
            events = events + self.positions(packing.columns.clamp_max(self.positions.num_embeddings - 1))
        for layer in self.layers:
            events = layer(events, packing, blocked)
        return events


class CodeFusion(nn.Module):
    r"""Transformer decoder from a history to codes (Eq. 11).

    :math:`F = \mathrm{MSA}(H, H, H)`, :math:`W = \mathrm{FFN}(\mathrm{MCA}(F, E_{\tilde s}, E_{\tilde s}))`.
    Residual connections, layer norms and dropout are those of the Transformer, as in the authors' code. With a
    ``span``, the self-attention is that of :class:`DistanceBias`.

    Shapes:
        - **history**: packed ``[T, d]``, result ``[T, d]``; rows without codes come out as they came.
        - **codes**: ``[B, L, d]``, **code_mask**: ``[B, L]``, True on real codes.
    """

    def __init__(
        self,
        size: int,
        n_layers: int,
        n_heads: int,
        inner_size: int,
        dropout: float,
        attention_dropout: float,
        span: int = 0,
    ):
        super().__init__()
        self.layers = ModuleList(
            DecoderLayer(size, n_heads, inner_size, dropout, attention_dropout, span) for _ in range(n_layers)
        )

    def forward(self, history: Tensor, packing: Packing, codes: Tensor, code_mask: Tensor) -> Tensor:
        fused = history
        for layer in self.layers:
            fused = layer(fused, packing, codes, code_mask)
        has_codes = code_mask.any(1)
        if bool(has_codes.all()):
            return fused
        return fused.where(has_codes[packing.rows].unsqueeze(1), history)


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
