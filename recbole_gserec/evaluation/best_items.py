"""The items that a model would show, for metrics of recommended items."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_gserec.evaluation.top_k import TopK
from recbole_gserec.narrowing import not_none

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
