"""The items that each user has already seen."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_gserec.data.ragged import Ragged


class SeenItems:
    """The candidates that users have seen.

    Args:
        users: ``[n]`` user of each event.
        items: ``[n]`` item of each event.
        n_users: Number of users.
        candidates: ``[n_candidates]`` item ids in ascending order; other items are ignored.
    """

    def __init__(self, users: NDArray[np.int64], items: NDArray[np.int64], n_users: int, candidates: NDArray[np.int64]):
        indices = np.searchsorted(candidates, items)
        known = indices < len(candidates)
        known[known] = candidates[indices[known]] == items[known]
        n_candidates = max(1, len(candidates))
        pairs = np.unique(users[known] * n_candidates + indices[known])
        counts = np.bincount(pairs // n_candidates, minlength=n_users)
        self._indices = Ragged(
            torch.from_numpy(pairs % n_candidates), torch.from_numpy(np.concatenate([[0], counts.cumsum()]))
        )

    def of_users(self, users: Tensor, device: torch.device | str = "cpu") -> SeenOfBatch:
        """Return what the users ``[B]`` of a batch have seen."""
        indices = self._indices.take(users)
        rows = torch.arange(len(users)).repeat_interleave(indices.offsets.diff())
        order = indices.values.argsort(stable=True)
        return SeenOfBatch(rows[order].to(device), indices.values[order].to(device))


class SeenOfBatch:
    """The (row, index of candidate) pairs of a batch, sorted by candidate.

    Args:
        rows: ``[n]``.
        indices: ``[n]``, ascending.
    """

    def __init__(self, rows: Tensor, indices: Tensor):
        self._rows, self._indices = rows, indices

    def mask_(self, scores: Tensor, start: int) -> Tensor:
        """Set the scores of seen items to ``-inf``, in place.

        Args:
            scores: ``[B, C]`` of the candidates from index ``start`` on.
            start: Index of the first candidate.
        """
        bounds = self._indices.new_tensor([start, start + scores.shape[1]])
        low, high = torch.searchsorted(self._indices, bounds).tolist()
        scores[self._rows[low:high], self._indices[low:high] - start] = -torch.inf
        return scores
