"""The items that a model would show, for metrics of what is recommended."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_gserec.evaluation.top_k import TopK
from recbole_gserec.narrowing import not_none

_ELEMENTS = 1 << 24


def best_items(scores: Tensor, k: int, candidates: Tensor | None = None) -> Tensor:
    """The best items of each row.

    Scores that are no numbers come last. Of equal scores the first comes first, but for a target among candidates,
    which has nothing to win by a tie and comes last.

    Args:
        scores: ``[B, C]``, of all items, or of candidates and of columns without one behind these.
        k: How many.
        candidates: ``[B, n]`` item ids, the target first and 0 where a row has fewer; None where the columns are items.

    Returns:
        ``[B, min(k, C)]`` item ids; where a row has fewer items with a score than that, 0 is among its last ones.
    """
    if candidates is not None:
        candidates = candidates.to(scores.device).roll(-1, dims=1)
        scores = scores[:, : candidates.shape[1]].roll(-1, dims=1)
    places = torch.cat([_best_places(part, k) for part in scores.split(max(1, _ELEMENTS // scores.shape[1]))])
    return places if candidates is None else candidates.gather(1, places)


def _best_places(scores: Tensor, k: int) -> Tensor:
    best = TopK(k)
    best.add(scores, 0)
    return not_none(best.places)
