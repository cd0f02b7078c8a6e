"""The best of many scores, chunk by chunk with ties in a fixed order, and the items a model would show."""

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_gserec.errors import not_none


class TopK:
    """Keeps the ``k`` best scores of each row while chunks of candidates are added.

    Among equal scores, earlier candidates are better. The result depends neither on how candidates are divided into
    chunks nor on the sorting algorithm. ``-inf`` and NaN mark candidates that must not be chosen.

    Args:
        k: Number of scores to keep.

    Attributes:
        scores: ``[B, k']`` best scores so far, best first; fewer than ``k`` until enough candidates were added.
        indices: ``[B, k']`` the index of each among all candidates.
    """

    def __init__(self, k: int):
        self.k = k
        self.scores: Tensor | None = None
        self.indices: Tensor | None = None

    def add(self, scores: Tensor, start: int) -> None:
        """Add the next chunk.

        Args:
            scores: ``[B, C]``.
            start: Index of its first candidate; chunks must be added in the order of candidates.
        """
        scores = scores.masked_fill(scores.isnan(), -torch.inf)
        # Only the best scores of a chunk need to be merged.
        columns = _first_best(scores, self.k)
        scores, indices = scores.gather(1, columns), columns + start
        if self.scores is not None and self.indices is not None:
            scores, indices = torch.cat([self.scores, scores], dim=1), torch.cat([self.indices, indices], dim=1)
        order = scores.sort(dim=1, descending=True, stable=True).indices[:, : self.k]
        self.scores, self.indices = scores.gather(1, order), indices.gather(1, order)


def _first_best(scores: Tensor, k: int) -> Tensor:
    """Return the columns ``[B, min(k, C)]`` of the best scores in ascending order; among equal ones, the first."""
    n_rows, n_columns = scores.shape
    if n_columns <= k:
        return torch.arange(n_columns, device=scores.device).expand(n_rows, -1)
    least = scores.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True)
    above, equal = scores > least, scores == least
    room = k - above.sum(1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(1) <= room))
    return chosen.nonzero()[:, 1].view(n_rows, k)


_BLOCK = 16
_MANY = 0.5
"""Share of blocks from which merging all scores of a chunk is faster than collecting those of these blocks."""


class BestSet:
    """Keeps the ``k`` best scores of each row like :class:`TopK`, but in the order of candidates, and faster.

    Most scores of a chunk are below the k-th best so far. They are skipped by the maxima of blocks of candidates. The
    others are merged when a row has collected ``k`` of them.

    Args:
        k: Number of scores to keep.
    """

    def __init__(self, k: int):
        self.k = k
        self._scores: Tensor | None = None
        self._indices: Tensor | None = None
        self._least = torch.empty(0)
        self._collected: list[tuple[Tensor, Tensor, Tensor]] = []
        self._counts = torch.empty(0)

    def add(self, scores: Tensor, start: int) -> None:
        """Add the next chunk; see :meth:`TopK.add`."""
        n_rows, n_columns = scores.shape
        block = min(_BLOCK, n_columns)
        if self._scores is None:
            self._least = scores.new_full((n_rows, 1), -torch.inf)
            self._counts = torch.zeros(n_rows, dtype=torch.int64, device=scores.device)
        padded = F.pad(scores, (0, -n_columns % block), value=-torch.inf) if n_columns % block else scores
        # A block is every n-th column, so that maxima are taken over whole vectors of neighbours.
        blocks = padded.reshape(n_rows, block, -1)
        n_blocks = blocks.shape[2]
        # Comparisons with NaN are false, and a block with NaN may have good scores.
        rows, columns = (~(blocks.amax(1) <= self._least)).nonzero(as_tuple=True)
        if len(rows) > _MANY * n_rows * n_blocks:
            self._merge_collected()
            indices = torch.arange(start, start + n_columns, device=scores.device).expand(n_rows, -1)
            self._merge(scores.masked_fill(scores.isnan(), -torch.inf), indices)
            return
        values = blocks[rows, :, columns]
        found, places = (values > self._least[rows]).nonzero(as_tuple=True)
        rows = rows[found]
        self._collected.append((rows, start + places * n_blocks + columns[found], values[found, places]))
        self._counts += rows.bincount(minlength=n_rows)
        if self._counts.max() >= self.k:
            self._merge_collected()

    def result(self) -> tuple[Tensor, Tensor]:
        """Return the best scores and their indices, ``[B, k]``; ``-inf`` where a row has fewer."""
        self._merge_collected()
        scores, indices = not_none(self._scores), not_none(self._indices)
        missing = (0, self.k - scores.shape[1])
        return F.pad(scores, missing, value=-torch.inf), F.pad(indices, missing)

    def _merge_collected(self) -> None:
        if not self._collected:
            return
        rows, indices, values = (torch.cat(parts) for parts in zip(*self._collected, strict=True))
        self._collected = []
        order = (rows * (indices.amax() + 1 if len(indices) else 1) + indices).argsort()
        rows, indices, values = rows[order], indices[order], values[order]
        places = torch.arange(len(rows), device=rows.device) - (self._counts.cumsum(0) - self._counts)[rows]
        shape = (len(self._counts), int(self._counts.max()))
        self._counts.zero_()
        scores, columns = values.new_full(shape, -torch.inf), indices.new_zeros(shape)
        scores[rows, places], columns[rows, places] = values, indices
        self._merge(scores, columns)

    def _merge(self, scores: Tensor, indices: Tensor) -> None:
        if self._scores is not None and self._indices is not None:
            scores, indices = torch.cat([self._scores, scores], dim=1), torch.cat([self._indices, indices], dim=1)
        columns = _first_best(scores, self.k)
        self._scores, self._indices = scores.gather(1, columns), indices.gather(1, columns)
        if self._scores.shape[1] == self.k:
            self._least = self._scores.amin(1, keepdim=True)


_ELEMENTS = 1 << 24


def best_items(scores: Tensor, k: int, candidates: Tensor | None = None) -> Tensor:
    """Return the best items of each row.

    NaN scores come last. Among equal scores, the first comes first. A target among candidates is an exception: it must
    not gain from a tie and comes last.

    Args:
        scores: ``[B, C]``, for all items, or for candidates followed by columns that are not candidates.
        k: Number of items.
        candidates: ``[B, n]`` item ids, the target first and 0 for missing ones; None if the columns are items.

    Returns:
        ``[B, min(k, C)]`` item ids; if a row has fewer items with a score, 0 is among its last ones.
    """
    if candidates is not None:
        candidates = candidates.to(scores.device).roll(-1, dims=1)
        scores = scores[:, : candidates.shape[1]].roll(-1, dims=1)
    indices = torch.cat([_best_indices(part, k) for part in scores.split(max(1, _ELEMENTS // scores.shape[1]))])
    return indices if candidates is None else candidates.gather(1, indices)


def _best_indices(scores: Tensor, k: int) -> Tensor:
    best = TopK(k)
    best.add(scores, 0)
    return not_none(best.indices)
