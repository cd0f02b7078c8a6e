"""The best of many scores, chunk by chunk, with a fixed order of ties."""

from __future__ import annotations

import torch
from torch import Tensor


class TopK:
    """Keeps the ``k`` best scores of each row while chunks of candidates are added.

    Among equal scores, earlier candidates are better. The result depends neither on how candidates are divided into
    chunks nor on the sorting algorithm. ``-inf`` and NaN mark candidates that must not be chosen.

    Args:
        k: Number of scores to keep.

    Attributes:
        scores: ``[B, k']`` best scores so far, best first; fewer than ``k`` until enough candidates were added.
        indices: ``[B, k']`` the index of each among all candidates.
    """

    def __init__(self, k: int):
        self.k = k
        self.scores: Tensor | None = None
        self.indices: Tensor | None = None

    def add(self, scores: Tensor, start: int) -> None:
        """Add the next chunk.

        Args:
            scores: ``[B, C]``.
            start: Index of its first candidate; chunks must be added in the order of candidates.
        """
        scores = scores.masked_fill(scores.isnan(), -torch.inf)
        # Only the best scores of a chunk need to be merged.
        columns = _first_best(scores, self.k)
        scores, indices = scores.gather(1, columns), columns + start
        if self.scores is not None and self.indices is not None:
            scores, indices = torch.cat([self.scores, scores], dim=1), torch.cat([self.indices, indices], dim=1)
        order = scores.sort(dim=1, descending=True, stable=True).indices[:, : self.k]
        self.scores, self.indices = scores.gather(1, order), indices.gather(1, order)


def _first_best(scores: Tensor, k: int) -> Tensor:
    """Return the columns ``[B, min(k, C)]`` of the best scores in ascending order; among equal ones, the first."""
    n_rows, n_columns = scores.shape
    if n_columns <= k:
        return torch.arange(n_columns, device=scores.device).expand(n_rows, -1)
    least = scores.topk(k, dim=1).values[:, -1:]
    above, equal = scores > least, scores == least
    room = k - above.sum(1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(1) <= room))
    return chosen.nonzero()[:, 1].view(n_rows, k)
