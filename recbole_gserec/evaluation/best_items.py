"""The items that a model would show, for metrics of what is recommended."""

from __future__ import annotations

from torch import Tensor

from recbole_gserec.evaluation.top_k import TopK
from recbole_gserec.narrowing import not_none


def best_items(scores: Tensor, k: int, candidates: Tensor | None = None) -> Tensor:
    """The best items of each row, in an order that a target has nothing to win by.

    Scores that are no numbers come last, and of equal scores the target does.

    Args:
        scores: ``[B, C]``, of all items, or of candidates and of columns without one behind these.
        k: How many.
        candidates: ``[B, n]`` item ids, the target first; None where the columns are items.

    Returns:
        ``[B, min(k, C)]`` item ids; where a row has fewer candidates than that, its last ones are 0.
    """
    best = TopK(k)
    if candidates is None:
        best.add(scores, 0)
        return not_none(best.places)
    best.add(scores[:, : candidates.shape[1]].roll(-1, dims=1), 0)
    candidates = candidates.to(scores.device)
    return candidates.roll(-1, dims=1).gather(1, not_none(best.places))
