"""Co-attention of two histories, and the split of each into similar and dissimilar events, for SESRec."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.masked_softmax import masked_softmax

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
