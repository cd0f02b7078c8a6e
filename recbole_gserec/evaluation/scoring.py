"""Scoring each target's candidates in one pass over its history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor


@dataclass(frozen=True)
class CandidateBatch:
    """Rows to evaluate, each with its target and its negatives.

    It has the length of its rows, by which RecBole's distributed evaluation weights batches.

    Shapes:
        - **candidates**: ``[B, 1 + n]`` item ids, the target first; 0 where a row has fewer negatives.
    """

    interaction: Interaction
    candidates: Tensor
    dataset: Any

    def __len__(self) -> int:
        return len(self.interaction)


def score_batch(
    model, batch: CandidateBatch, device: torch.device, max_pairs: int
) -> tuple[CandidateBatch, Tensor, Tensor, Tensor]:
    """Scores of a batch in the form that RecBole's collector takes.

    Models of this package score candidates directly; RecBole's own score all items at once, of which the candidates
    are picked; those that cannot are asked pair by pair.

    Args:
        model: Any RecBole model.
        batch: The rows.
        device: Device of the model.
        max_pairs: Largest number of (row, candidate) pairs in one call of ``predict``.

    Returns:
        The batch, the scores ``[B, 2 + n]`` of the candidates and of one column of ``-inf`` that ends every ranking,
        and rows and columns of the targets, ``[B]`` each.
    """
    interaction, candidates = batch.interaction.to(device), batch.candidates.to(device)
    if hasattr(model, "score_candidates"):
        scores = model.score_candidates(interaction, candidates)
    else:
        try:
            scores = model.full_sort_predict(interaction).view(len(candidates), -1).gather(1, candidates)
        except NotImplementedError:
            scores = _predict_pairs(model, batch, device, max_pairs)
    scores = scores.masked_fill(candidates == 0, -torch.inf)
    scores = torch.cat([scores, scores.new_full((len(scores), 1), -torch.inf)], dim=1)
    rows = torch.arange(len(scores), device=device)
    return batch, scores, rows, torch.zeros_like(rows)


def _predict_pairs(model, batch: CandidateBatch, device: torch.device, max_pairs: int) -> Tensor:
    n_candidates = batch.candidates.shape[1]
    rows_at_once = max(1, max_pairs // n_candidates)
    scores = []
    for start in range(0, len(batch), rows_at_once):
        part = slice(start, start + rows_at_once)
        pairs = batch.interaction[part].repeat_interleave(n_candidates)
        pairs.update(Interaction({batch.dataset.iid_field: batch.candidates[part].reshape(-1)}))
        # The features of an item, where a dataset has any, belong to the candidate and not to the target.
        pairs = batch.dataset.join(pairs)
        scores.append(model.predict(pairs.to(device)).view(-1, n_candidates))
    return torch.cat(scores)
