"""Ranks of targets among candidates."""

from __future__ import annotations

import torch
from torch import Tensor

_ELEMENTS = 1 << 24


def ranks_against_ties(scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rank each target in its row, 1 for the best; every tie and every NaN counts against the target.

    A model that gives all candidates the same score thus gets the last rank, and not the first by chance of sorting.

    Args:
        scores: ``[n_rows, n_candidates]``; ``-inf`` for columns that are not candidates.
        rows: ``[n_targets]`` row of each target.
        columns: ``[n_targets]`` column of each target.

    Returns:
        ``[n_targets]``, ``int64``. Targets in the same row are ranked by score, then by order.
    """
    target_scores = scores[rows, columns]
    one_each = len(rows) == len(scores) and bool((rows == torch.arange(len(rows), device=rows.device)).all())
    is_target = None
    if not one_each:
        is_target = torch.zeros_like(scores, dtype=torch.bool)
        is_target[rows, columns] = True
    step = max(1, _ELEMENTS // max(scores.shape[1], 1))
    counts = []
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        others = scores[part] if one_each else scores[rows[part]]
        # "not lower" instead of "greater or equal", so that NaN counts against the target on either side.
        ahead = ~(others < target_scores[part].unsqueeze(1))
        if is_target is not None:
            ahead &= ~is_target[rows[part]]
        counts.append(ahead.sum(1))
    counted = torch.cat(counts) if counts else rows.new_zeros(0)
    # If each row has one target, the target has been compared with itself.
    return counted if one_each else counted + 1 + _places_in_row(rows, target_scores)


def _places_in_row(rows: Tensor, target_scores: Tensor) -> Tensor:
    """Return the 0-based position of each target among those of its row, by descending score, then by order."""
    # Sorting would put NaN first.
    target_scores = target_scores.masked_fill(target_scores.isnan(), -torch.inf)
    order = torch.argsort(target_scores, descending=True, stable=True)
    order = order[torch.argsort(rows[order], stable=True)]
    sizes = torch.unique_consecutive(rows[order], return_counts=True)[1]
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    positions = torch.empty_like(rows)
    positions[order] = torch.arange(len(rows), device=rows.device) - starts
    return positions
