"""Scores each target's candidates in one pass over its history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor


@dataclass(frozen=True)
class CandidateBatch:
    """Rows to evaluate, each with its target and its negatives.

    Its length is its number of rows, which RecBole's distributed evaluation uses to weight batches.

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
    """Score a batch in the form that RecBole's collector expects.

    Models of this package score candidates directly. RecBole's own models score all items at once, from which the
    candidates are selected, or score pair by pair if they cannot.

    Args:
        model: Any RecBole model.
        batch: The rows.
        device: Device of the model.
        max_pairs: Maximum number of (row, candidate) pairs in one call of ``predict``.

    Returns:
        The batch, the scores ``[B, 2 + n]`` of the candidates and of a last column of ``-inf`` that ends every ranking,
        and the row and column of each target, ``[B]`` each.
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
    """Return whether the model's class defines ``full_sort_predict``: RecBole's base class only raises an error."""
    owner = next(cls for cls in type(model).__mro__ if "full_sort_predict" in vars(cls))
    return not owner.__module__.endswith("abstract_recommender")


def predict_pairs(model: Any, dataset: Any, rows: Interaction, candidates: Tensor, device: torch.device) -> Tensor:
    """Score each candidate separately with the model's ``predict``.

    Args:
        model: Any RecBole model.
        dataset: Its dataset.
        rows: ``B`` rows, on any device.
        candidates: ``[B, C]`` item ids, on the same device.
        device: Device of the model.

    Returns:
        Scores ``[B, C]``, on the model's device.
    """
    pairs = rows.repeat_interleave(candidates.shape[1])
    pairs.update(Interaction({dataset.iid_field: candidates.reshape(-1)}))
    # Item features in a dataset must be those of the candidate, not of the target.
    pairs = dataset.join(pairs.to("cpu"))
    return model.predict(pairs.to(device)).view(candidates.shape)
