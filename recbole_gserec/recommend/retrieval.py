"""Items that a model's next-item head puts first, so that the whole model has to rank only these."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_gserec.errors import SettingError, not_none
from recbole_gserec.evaluation import MAX_SCORES, BestSet, TopK
from recbole_gserec.models import MAX_PAIRS, SearchRecommender
from recbole_gserec.recommend.trained import Trained

_PRODUCTS_AT_ONCE = 1 << 20
"""Dot products at once; more would leave the processor's cache."""

_MULTIPLE = 16
"""Widths of products are multiples of this. In other widths, the products of equal vectors may differ by rounding, and
then ties are not in the order of candidates."""

_PLACES = 4
"""Scores and indices in memory for each retrieved item of a user: those kept, those collected and a copy of each."""


def check_retrieval(trained: Trained, k: int, retrieve: int) -> None:
    """Raise SettingError unless the model can retrieve items by dot products, and at least ``k``.

    Args:
        trained: The model.
        k: Number of items to recommend to each user.
        retrieve: Number of items to retrieve for each user; 0 for none.
    """
    if retrieve == 0:
        return
    if retrieve < k:
        raise SettingError(
            f"retrieve is {retrieve}, but {k} items are recommended; it must be at least that many, or 0 to rank all "
            "items"
        )
    model, name = trained.model, trained.config["model"]
    if not isinstance(model, SearchRecommender):
        raise SettingError(
            f"{trained.checkpoint}: retrieve is {retrieve}, but {name} has no next-item head to retrieve items by. "
            "Leave retrieve out, or use a search-aware model trained with --lambda_next_item=1"
        )
    if not model.is_dot_product and not model.adds_next_item:
        raise SettingError(
            f"{trained.checkpoint}: retrieve is {retrieve}, but this {name} was trained without the next-item head to "
            "retrieve items by. Train with --lambda_next_item=1, or leave retrieve out"
        )


class Retrieval:
    """Retrieves items by the dot products of the next-item head, and ranks them by the whole model.

    Where the dot product is the model's score, nothing remains to be ranked.

    Args:
        trained: A model that passes :func:`check_retrieval`.
        candidates: ``[n_candidates]`` item ids, ascending.
        n_retrieved: Number of items to retrieve for each user.
        max_scores: Maximum number of scores in memory; by default :data:`MAX_SCORES` dot products and
            :data:`MAX_PAIRS` scores of the whole model.

    Attributes:
        max_rows: Largest batch within the bound.
    """

    def __init__(self, trained: Trained, candidates: Tensor, n_retrieved: int, max_scores: int | None = None):
        self._model: SearchRecommender = trained.model
        self._device = trained.config["device"]
        self._candidates = candidates.to(self._device)
        self._n_retrieved = n_retrieved
        self._max_products = min(_PRODUCTS_AT_ONCE, max_scores or MAX_SCORES)
        self._max_pairs = max_scores or MAX_PAIRS
        self._vectors: Tensor | None = None
        self.max_rows = max(1, (max_scores or MAX_SCORES) // (_PLACES * n_retrieved))

    def best(self, batch: Interaction, mask: Callable[[Tensor, int], Tensor], k: int) -> tuple[Tensor, Tensor]:
        """Return the ``k`` best of the retrieved items of each row, best first.

        Args:
            batch: B rows, at most :attr:`max_rows`.
            mask: Sets scores ``[B, C]``, of the candidates from an index on, to ``-inf`` where these must not be
                retrieved.
            k: Number of items.

        Returns:
            Scores ``[B, k]`` and indices of candidates ``[B, k]``; ``-inf`` where a row has fewer, or where the score
            is NaN.
        """
        best = TopK(k)
        if self._model.is_dot_product:
            scores, indices = self.retrieve(batch, mask, k)
        else:
            found, indices = self.retrieve(batch, mask)
            missing = -found.shape[1] % _MULTIPLE
            found, indices = F.pad(found, (0, missing), value=-torch.inf), F.pad(indices, (0, missing))
            scores = self._scores(batch, self._candidates[indices]).masked_fill(found == -torch.inf, -torch.inf)
        # Indices ascend, so ties are in the order of candidates.
        best.add(scores, 0)
        return not_none(best.scores), indices.gather(1, not_none(best.indices))

    @torch.no_grad()
    def retrieve(
        self, batch: Interaction, mask: Callable[[Tensor, int], Tensor], n: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the dot products ``[B, n]`` of the best candidates and their indices, which ascend.

        Args:
            batch: As in :meth:`best`.
            mask: As in :meth:`best`.
            n: Number of candidates, ``n_retrieved`` by default.

        Returns:
            Both; products are ``-inf`` where a row has fewer candidates.
        """
        state = self._model.encode(batch.to(self._device))
        if self._vectors is None:
            # They depend on the weights alone.
            self._vectors = self._model.next_item_vectors(state)
        users = self._model.next_item_states(state)
        best, start = BestSet(n or self._n_retrieved), 0
        for items in self._candidates.split(_multiple(self._max_products // len(users))):
            vectors = self._vectors_of(F.pad(items, (0, -len(items) % _MULTIPLE)))
            products = (users @ vectors.T)[:, : len(items)]
            best.add(mask(products, start), start)
            start += len(items)
        return best.result()

    def _vectors_of(self, items: Tensor) -> Tensor:
        vectors, first, last = not_none(self._vectors), int(items[0]), int(items[-1])
        # Usually all items are candidates, and their vectors need not be copied.
        return vectors[first : last + 1] if last - first == len(items) - 1 else vectors[items]

    @torch.no_grad()
    def _scores(self, batch: Interaction, items: Tensor) -> Tensor:
        """Compute the model's scores of items ``[B, n]``."""
        rows_at_once, columns_at_once = max(1, self._max_pairs // items.shape[1]), _multiple(self._max_pairs)
        parts = []
        for start in range(0, len(items), rows_at_once):
            rows = slice(start, start + rows_at_once)
            state = self._model.encode(batch[rows].to(self._device))
            chunks = items[rows].split(columns_at_once, dim=1)
            parts.append(torch.cat([self._model.logits(state, chunk) for chunk in chunks], dim=1))
        return torch.cat(parts)


def _multiple(width: int) -> int:
    """Round a width down, but not to 0."""
    return max(_MULTIPLE, width // _MULTIPLE * _MULTIPLE)
