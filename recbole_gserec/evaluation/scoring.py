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
    model: Any, batch: CandidateBatch, device: torch.device, max_pairs: int
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
    elif has_full_ranking(model):
        scores = model.full_sort_predict(interaction).view(len(candidates), -1).gather(1, candidates)
    else:
        rows_at_once = max(1, max_pairs // candidates.shape[1])
        parts = (slice(start, start + rows_at_once) for start in range(0, len(batch), rows_at_once))
        pairs = ((batch.interaction[part], batch.candidates[part]) for part in parts)
        scores = torch.cat([predict_pairs(model, batch.dataset, *pair, device) for pair in pairs])
    scores = scores.masked_fill(candidates == 0, -torch.inf)
    scores = torch.cat([scores, scores.new_full((len(scores), 1), -torch.inf)], dim=1)
    rows = torch.arange(len(scores), device=device)
    return batch, scores, rows, torch.zeros_like(rows)


def has_full_ranking(model: Any) -> bool:
    """Whether the model's class defines ``full_sort_predict``: RecBole's base class has one that only raises."""
    owner = next(cls for cls in type(model).__mro__ if "full_sort_predict" in vars(cls))
    return not owner.__module__.endswith("abstract_recommender")


def predict_pairs(model: Any, dataset: Any, rows: Interaction, candidates: Tensor, device: torch.device) -> Tensor:
    """Ask a model for the score of each candidate by itself (``predict``).

    Args:
        model: Any RecBole model.
        dataset: Its dataset.
        rows: ``B`` rows, on any device.
        candidates: ``[B, C]`` item ids, on the same.
        device: Device of the model.

    Returns:
        Scores ``[B, C]``, on that.
    """
    pairs = rows.repeat_interleave(candidates.shape[1])
    pairs.update(Interaction({dataset.iid_field: candidates.reshape(-1)}))
    # The features of an item, where a dataset has any, belong to the candidate and not to the target.
    pairs = dataset.join(pairs.to("cpu"))
    return model.predict(pairs.to(device)).view(candidates.shape)
