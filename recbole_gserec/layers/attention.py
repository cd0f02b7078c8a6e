"""Attention: multi-head attention with torch's parameters, and the pooling layers of several models.

Additive attention (NRHUB), co-attention of two histories (SESRec), and pooling by similarity to a candidate (Eq. 14 of
GSERec).

"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.dropout import Dropout
from recbole_gserec.layers.packing import Packing


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Compute the softmax over the last dimension, only over its real positions.

    Args:
        logits: ``[..., N]``.
        mask: Broadcastable to ``logits``, True for real positions.

    Returns:
        ``[..., N]``; 0 for padding, and in rows without a real position.
    """
    # A finite minimum keeps rows without events free of NaN; the product makes them 0. Adding it to the logits is
    # faster than filling them in, and gives the same weights.
    weights = (logits + hidden_bias(mask, logits.dtype)).softmax(-1)
    return weights * mask.any(-1, keepdim=True).to(weights.dtype)


def hidden_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where a mask is True, and a number far below all logits elsewhere; to be added to logits."""
    # In half precision, the lowest number plus a logit would be infinite, and a row without events NaN.
    lowest = -3e4 if dtype == torch.float16 else torch.finfo(dtype).min
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, lowest)


QUERIES, KEYS_AND_VALUES, ALL = (0, 1), (1, 3), (0, 3)
"""Parts of the input projection of ``nn.MultiheadAttention``."""


class AttentionLayer(Protocol):
    """A module with dropout on its attention weights, as prepared by :func:`prepare_layer`."""

    attention_dropout: Dropout
    training: bool


def project(attention: nn.MultiheadAttention, vectors: Tensor, parts: tuple[int, int]) -> Tensor:
    """Compute parts of the input projection of vectors ``[..., d]``, side by side: ``[..., n_parts * d]``."""
    start, end = (part * attention.embed_dim for part in parts)
    return F.linear(vectors, attention.in_proj_weight[start:end], attention.in_proj_bias[start:end])


def by_head(attention: nn.MultiheadAttention, joint: Tensor) -> tuple[Tensor, ...]:
    """Split projections ``[B, N, n_parts * d]`` into contiguous parts ``[B, n_heads, N, d / n_heads]``."""
    n_parts = joint.shape[-1] // attention.embed_dim
    parts = joint.view(*joint.shape[:2], n_parts, attention.num_heads, attention.head_dim)
    return parts.permute(2, 0, 3, 1, 4).contiguous().unbind(0)


def later_positions(n_positions: int, device: torch.device) -> Tensor:
    """Return ``[1, N, N]``, True for keys after the query, which causal attention must not read."""
    return event_distances(n_positions, device) < 0


def attend(
    layer: AttentionLayer,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_mask: Tensor,
    blocked: Tensor | None = None,
    by_distance: Tensor | None = None,
) -> Tensor:
    """Compute multi-head attention before its output projection.

    Args:
        layer: Owner of the dropout on the attention weights.
        query: ``[B, n_heads, N, d / n_heads]``.
        key: ``[B, n_heads, M, d / n_heads]``.
        value: As ``key``.
        key_mask: ``[B, M]``, True for keys that may be read. A row without any attends evenly: finite, but unused.
        blocked: ``[B, N, M]`` or ``[1, N, M]``, True for further (query, key) pairs that are not allowed.
        by_distance: ``[B, n_heads, N, M]`` or ``[1, n_heads, N, M]``, added to the logits.

    Returns:
        ``[B, N, d]``.
    """
    # The lowest finite number, not -inf: a row without keys must not become NaN.
    allowed = key_mask.unsqueeze(1) if blocked is None else key_mask.unsqueeze(1) & ~blocked
    bias = hidden_bias(allowed, query.dtype).unsqueeze(1)
    if by_distance is not None:
        bias = bias + by_distance.to(query.dtype)
    dropout = layer.attention_dropout
    if dropout.p == 0 or not layer.training:
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    else:
        # Torch's fused CPU kernel has no dropout, and its fallback uses torch's slow one.
        n_rows, n_heads = query.shape[:2]
        query, key, value = (part.flatten(0, 1) for part in (query, key, value))
        bias = bias.expand(-1, n_heads, -1, -1).flatten(0, 1)
        logits = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=1 / math.sqrt(query.shape[-1]))
        mixed = torch.bmm(dropout(logits.softmax(-1)), value).unflatten(0, (n_rows, n_heads))
    return mixed.transpose(1, 2).flatten(2)


class AdditiveAttention(nn.Module):
    r"""Attention of one learnt query over projected events; what is pooled are the projections.

    :math:`y_j = \tanh(W x_j + b),\; \alpha_j = \mathrm{softmax}_j(q^\top y_j),\; r = \sum_j \alpha_j y_j`.

    Args:
        size: Size d of an event.
        hidden_size: Size h of its projection.

    Shapes:
        - **events**: packed ``[T, d]``, result ``[B, h]``; 0 for rows without events.
    """

    def __init__(self, size: int, hidden_size: int):
        super().__init__()
        self.projection = nn.Linear(size, hidden_size)
        self.query = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_normal_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        nn.init.xavier_normal_(self.query.unsqueeze(0))

    def forward(self, events: Tensor, packing: Packing) -> Tensor:
        projected = torch.tanh(self.projection(events))
        weights = masked_softmax(packing.unpack(projected @ self.query), packing.mask)
        return packing.sum(packing.pack(weights).unsqueeze(-1) * projected)

    def of_targets(self, events: Tensor, packing: Packing, seen: Tensor) -> Tensor:
        """Compute the same for several targets of a row, each over the events that it may see.

        Args:
            events: Packed ``[T, d]``.
            packing: Where they lie in ``[B, N]``.
            seen: ``[B, n_targets, N]``, True for real events that a target may see.

        Returns:
            ``[B, n_targets, h]``; 0 for targets that see nothing.
        """
        projected = torch.tanh(self.projection(events))
        weights = masked_softmax(packing.unpack(projected @ self.query).unsqueeze(1), seen)
        return weights @ packing.unpack(projected)


TOLERANCE = torch.finfo(torch.float32).eps ** 0.5
"""Relative tolerance below the even weight within which an event still counts as similar."""


class CoAttention(nn.Module):
    r"""How much each event of one history has in common with the other history.

    .. math::
        L = \tanh(H_r W H_s^\top), \quad
        a_r = \mathrm{softmax}(L H_s w_s), \quad
        a_s = \mathrm{softmax}(L^\top H_r w_r)

    Args:
        size: Embedding size d.

    Shapes:
        - **recommendation**: ``[B, L, d]``, :math:`H_r`, **recommendation_mask**: ``[B, L]``, True on real events.
        - **search**: ``[B, S, d]``, :math:`H_s`, **search_mask**: ``[B, S]``.
        - result :math:`a_r` ``[B, L]`` and :math:`a_s` ``[B, S]``, each 0 on padding and with sum 1 over real events.
    """

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, size))
        self.search_weight = nn.Parameter(torch.empty(size))
        self.recommendation_weight = nn.Parameter(torch.empty(size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_normal_(self.weight)
        for vector in (self.search_weight, self.recommendation_weight):
            nn.init.xavier_normal_(vector.unsqueeze(0))

    def forward(
        self, recommendation: Tensor, recommendation_mask: Tensor, search: Tensor, search_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        affinity = torch.tanh((recommendation @ self.weight) @ search.transpose(1, 2))
        # Exclude the padding of each history from sums over it.
        from_search = (search @ self.search_weight) * search_mask
        from_recommendation = (recommendation @ self.recommendation_weight) * recommendation_mask
        scores = torch.einsum("bls,bs->bl", affinity, from_search)
        search_scores = torch.einsum("bls,bl->bs", affinity, from_recommendation)
        return masked_softmax(scores, recommendation_mask), masked_softmax(search_scores, search_mask)


class Split(NamedTuple):
    """The events of a history, split by what they have in common with the other history.

    Shapes:
        - **similar**, **dissimilar**: ``[B, N]``, True on such events; together they are all real events.
    """

    similar: Tensor
    dissimilar: Tensor


def split_by_weight(weights: Tensor, mask: Tensor) -> Split:
    r"""Split events: similar ones weigh at least as much as under equal weights, :math:`a_j \ge 1 / n`.

    If one of the two sets would be empty, both contain all real events. This is the case without another history,
    because all events then weigh the same.

    A weight may be below :math:`1 / n` by a relative tolerance, the square root of float32's precision, 3.5e-4. Events
    often have equal weights: always without another history, and also if tanh saturates. Without the tolerance, the
    last bit would decide, which depends on the machine, the batch and the padding. Relative rounding errors are below
    1e-5 for usual lengths, and grow with the length. Of 28,511 events of a trained model, all but one were equal to
    1e-7 or differed by .001 and more.

    Args:
        weights: ``[B, N]``, the co-attention :math:`a` of a history.
        mask: ``[B, N]``, True on its real events.
    """
    even = 1 / mask.sum(1, keepdim=True).clamp_min(1)
    similar = (weights >= even * (1 - TOLERANCE)) & mask
    dissimilar = mask & ~similar
    return Split(*(part.where(part.any(1, keepdim=True), mask) for part in (similar, dissimilar)))


def triplet_loss(history: Tensor, weights: Tensor, split: Split, margin: float) -> Tensor:
    r"""Pull a history's co-attention summary closer to its similar events than to its dissimilar ones.

    :math:`\max(0, \|a - p\| - \|a - n\| + m)` with :math:`a = \sum_j a_j h_j` and the means :math:`p` and :math:`n` of
    similar and dissimilar events. Only this loss trains the co-attention, because the split passes no gradient.

    Args:
        history: ``[B, N, d]``.
        weights: ``[B, N]``, :math:`a`; 0 on padding.
        split: The split of the same history.
        margin: :math:`m`.

    Returns:
        The mean over rows; 0 when there are none.
    """
    if len(history) == 0:
        return history.sum()
    anchor, similar, dissimilar = (
        torch.einsum("bn,bnd->bd", part.to(history.dtype), history)
        for part in (weights, *(chosen / chosen.sum(1, keepdim=True).clamp_min(1) for chosen in split))
    )
    return F.triplet_margin_loss(anchor, similar, dissimilar, margin=margin)


@dataclass(frozen=True)
class Seen:
    """Which of a row's N events each of its targets may see: the last ``span`` of the first ``counts``.

    A row of the usual form has one target, which sees the whole history.

    Args:
        counts: ``[B, T]``.
        span: Largest number of events that a target sees.
        n_events: N.
    """

    counts: Tensor
    span: int
    n_events: int

    @cached_property
    def distances(self) -> Tensor:
        """How many events lie between each event and the target, ``[B, T, N]``; negative after the target."""
        position = torch.arange(self.n_events, device=self.counts.device)
        return self.counts.unsqueeze(-1) - 1 - position

    @property
    def mask(self) -> Tensor:
        """True for the events that each target may see, ``[B, T, N]``."""
        return within(self.span, self.distances)


class DistanceBias(nn.Module):
    r"""A learnt number for each distance from an event back to an earlier one; farther events are not read.

    It tells positions in a way that does not depend on where a window of a user's events starts.

    Args:
        n_heads: Attention heads.
        span: Number of events that an event may read, itself included.

    Shapes:
        - **distances**: ``[B, N, N]`` from each event back to each key, or ``[1, N, N]``; keys outside of the span are
          not read. See :func:`event_distances`.
        - result ``[B, n_heads, N, N]``, and the (event, key) pairs that are not read, ``[B, N, N]``.
    """

    def __init__(self, n_heads: int, span: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_heads, span))

    def forward(self, distances: Tensor) -> tuple[Tensor, Tensor]:
        return pick_by_distance(self.bias, distances).transpose(0, 1), ~within(self.bias.shape[1], distances)


def within(span: int, distances: Tensor) -> Tensor:
    """Return True for the distances back to the last ``span`` events."""
    return (distances >= 0) & (distances < span)


def pick_by_distance(values: Tensor, distances: Tensor) -> Tensor:
    """Pick a value for each distance, ``[..., span]`` to ``[..., *distances]``; arbitrary outside of the span."""
    return values[..., distances.clamp(0, values.shape[-1] - 1)]


def event_distances(n_events: int, device: torch.device) -> Tensor:
    """Return how far each event lies behind each other event, ``[1, N, N]``; 0 for itself, negative for later ones."""
    position = torch.arange(n_events, device=device)
    return (position.unsqueeze(1) - position).unsqueeze(0)


def pooled(weights: Tensor, values: Tensor) -> Tensor:
    """Sum values of events ``[B, N, v]`` by weights ``[B, T, C, N]``: ``[B, T, C, v]``."""
    return (weights.flatten(1, 2) @ values).unflatten(1, weights.shape[1:3])


class TargetAttention(nn.Module):
    r"""Bilinear attention of candidates over a history.

    :math:`\alpha_j = \mathrm{softmax}_j(e_j^\top A\, t),\; w = \sum_j \alpha_j e_j`. The paper writes self-attention
    :math:`\mathrm{SA}(t, W, W)`; this unscaled form without value projection is the authors' code's.

    Args:
        size: Embedding size d.
        recency: Number of distances from the target, for each of which a learnt number is added to the logits; 0 for
            none, as in the papers.

    Shapes:
        - **history**: ``[B, N, d]``, **mask**: ``[B, N]``, True on real events.
        - **candidates**: ``[B, C, d]``, or ``[1, C, d]`` when all rows share them.
        - result ``[B, C, d]``; 0 for rows without events.
    """

    def __init__(self, size: int, recency: int = 0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, size))
        self.recency = nn.Parameter(torch.zeros(recency)) if recency else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_normal_(self.weight)
        if self.recency is not None:
            nn.init.zeros_(self.recency)

    def forward(self, history: Tensor, mask: Tensor, candidates: Tensor) -> Tensor:
        return self.pool(history, [mask], candidates)[0]

    def weights(self, history: Tensor, seen: Seen, candidates: Tensor) -> Tensor:
        """Compute the attention of several targets of a row, each over the events that it may see.

        Args:
            history: ``[B, N, d]``.
            seen: What each of T targets may see.
            candidates: ``[B, T, C, d]``, or ``[1, T, C, d]`` when all rows share them.

        Returns:
            ``[B, T, C, N]``; all 0 for a target that sees nothing. See :func:`pooled`.
        """
        logits = self._logits(history, candidates.flatten(1, 2)).unflatten(1, candidates.shape[1:3])
        if self.recency is not None:
            logits = logits + pick_by_distance(self.recency, seen.distances).unsqueeze(2)
        return masked_softmax(logits, seen.mask.unsqueeze(2))

    def pool(self, history: Tensor, masks: Sequence[Tensor], candidates: Tensor) -> list[Tensor]:
        """Pool the same history over several masks, with one result for each."""
        logits = self._logits(history, candidates)
        return [masked_softmax(logits, mask.unsqueeze(1)) @ history for mask in masks]

    def _logits(self, history: Tensor, candidates: Tensor) -> Tensor:
        n_candidates, n_events = (vectors.shape[0] * vectors.shape[1] for vectors in (candidates, history))
        if len(candidates) < len(history) and n_candidates < n_events:
            # Shared candidates arrive in chunks, and the history's product would be computed for each chunk.
            return (candidates @ self.weight.T) @ history.transpose(1, 2)
        return candidates @ (history @ self.weight).transpose(1, 2)
