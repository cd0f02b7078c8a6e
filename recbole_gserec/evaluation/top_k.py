"""The best of many scores, chunk by chunk with ties in a fixed order, and the items a model would show."""

import torch
from torch import Tensor

from recbole_gserec.errors import not_none


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


_ELEMENTS = 1 << 24


def best_items(scores: Tensor, k: int, candidates: Tensor | None = None) -> Tensor:
    """Return the best items of each row.

    NaN scores come last. Among equal scores, the first comes first. A target among candidates is an exception: it must
    not gain from a tie and comes last.

    Args:
        scores: ``[B, C]``, for all items, or for candidates followed by columns that are not candidates.
        k: Number of items.
        candidates: ``[B, n]`` item ids, the target first and 0 for missing ones; None if the columns are items.

    Returns:
        ``[B, min(k, C)]`` item ids; if a row has fewer items with a score, 0 is among its last ones.
    """
    if candidates is not None:
        candidates = candidates.to(scores.device).roll(-1, dims=1)
        scores = scores[:, : candidates.shape[1]].roll(-1, dims=1)
    indices = torch.cat([_best_indices(part, k) for part in scores.split(max(1, _ELEMENTS // scores.shape[1]))])
    return indices if candidates is None else candidates.gather(1, indices)


def _best_indices(scores: Tensor, k: int) -> Tensor:
    best = TopK(k)
    best.add(scores, 0)
    return not_none(best.indices)
