"""Scores all candidates for a batch of users with any model, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_gserec.evaluation.dataloaders import MAX_SCORES
from recbole_gserec.evaluation.scoring import has_full_ranking, predict_pairs
from recbole_gserec.models.search_recommender import MAX_PAIRS
from recbole_gserec.recommend.trained import Trained


class CandidateScores:
    """Scores candidates in the way that the model supports.

    Search-aware models encode a batch once and score chunks of candidates against it. RecBole's own models score all
    items at once (``full_sort_predict``) or, if they cannot, pair by pair (``predict``).

    Args:
        trained: The model.
        candidates: ``[n_candidates]`` item ids, ascending.
        max_scores: Maximum number of scores in memory. By default, models that score chunks or pairs have a smaller
            limit.
    """

    def __init__(self, trained: Trained, candidates: Tensor, max_scores: int | None = None):
        self._model, self._dataset = trained.model, trained.dataset
        self._device = trained.config["device"]
        self._candidates = candidates.to(self._device)
        self._encodes = trained.is_ours
        self._ranks_all = not self._encodes and has_full_ranking(self._model)
        if self._ranks_all:
            default, width = MAX_SCORES, trained.dataset.item_num
        elif self._encodes:
            default, width = MAX_PAIRS, 1
        else:
            # The cost of a pair differs between models by orders of magnitude; this is the number of users that they
            # score at once.
            default, width = min(MAX_PAIRS, max(1, trained.config["eval_batch_size"])), 1
        self._max_scores = max_scores or default
        self.max_rows = max(1, self._max_scores // width)
        """Largest batch within the bound."""

    @torch.no_grad()
    def score(self, batch: Interaction) -> Iterator[tuple[int, Tensor]]:
        """Score all candidates for a batch.

        Args:
            batch: B rows, at most :attr:`max_rows`.

        Yields:
            The index of the first candidate of a chunk, and its scores ``[B, C]``, which may be modified.
        """
        batch = batch.to(self._device)
        if self._ranks_all:
            # Some models return all rows flattened into one.
            scores = self._model.full_sort_predict(batch).reshape(len(batch), -1)
            yield 0, scores.index_select(1, self._candidates)
            return
        state = self._model.encode(batch) if self._encodes else None
        start = 0
        for part in self._candidates.split(max(1, self._max_scores // len(batch))):
            if self._encodes:
                yield start, self._model.score(state, part.unsqueeze(0))
            else:
                items = part.expand(len(batch), -1)
                yield start, predict_pairs(self._model, self._dataset, batch, items, self._device)
            start += len(part)
