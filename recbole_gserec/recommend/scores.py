"""Scores of all candidates for a batch of users, a bounded number at a time, from any model."""

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
    """Asks a model for scores in the way it can give them.

    Search-aware models encode a batch once and score chunks of candidates against it. RecBole's own score all items at
    once (``full_sort_predict``); those that cannot are asked pair by pair (``predict``).

    Args:
        trained: The model.
        candidates: ``[n_candidates]`` item ids, ascending.
        max_scores: Scores that are held at once; for models that score chunks or pairs, a smaller number of their own
            by default.
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
            # What a pair costs differs between models by orders of magnitude; this is how many users let them score.
            default, width = min(MAX_PAIRS, max(1, trained.config["eval_batch_size"])), 1
        self._max_scores = max_scores or default
        self.max_rows = max(1, self._max_scores // width)
        """The largest batch that keeps within the bound."""

    @torch.no_grad()
    def of(self, batch: Interaction) -> Iterator[tuple[int, Tensor]]:
        """Scores of all candidates.

        Args:
            batch: B rows, at most :attr:`max_rows`.

        Yields:
            The place of the first candidate of a chunk, and scores ``[B, C]``, which may be written to.
        """
        batch = batch.to(self._device)
        if self._ranks_all:
            # Some models return all rows in one.
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
