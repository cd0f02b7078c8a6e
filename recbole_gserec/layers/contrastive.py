"""Contrastive alignment of two views of the same users: Eq. 1, 9 and 12 of GSERec."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROWS = 128

Similarity = Callable[[Tensor, Tensor], Tensor]


class CosineSimilarity(nn.Module):
    """Cosine of every row of one matrix with every row of another.

    Shapes:
        - **first**: ``[N, d]``, **second**: ``[M, d]``, result ``[N, M]`` in ``[-1, 1]``.
    """

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T


class BilinearSimilarity(nn.Module):
    r"""Learnt similarity :math:`\tanh(x^\top W y)`; not symmetric.

    GSERec's paper leaves :math:`\mathrm{sim}` open ("e.g., cosine similarity"); this is what its authors' code uses
    for Eq. 9 and 12.

    Shapes:
        - **first**: ``[N, d]``, **second**: ``[M, d]``, result ``[N, M]`` in ``(-1, 1)``.
    """

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_normal_(self.weight)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.tanh(first @ self.weight @ second.T)


class Temperature(nn.Module):
    r"""A learnable temperature :math:`\tau` that stays positive.

    It is kept as :math:`\log\tau`, and never falls below ``minimum``: a temperature stored as a plain number can cross
    zero during training and then rewards what it should punish.

    Args:
        initial: Value of :math:`\tau` before training.
        minimum: Smallest value that :math:`\tau` can take.
    """

    def __init__(self, initial: float, minimum: float = 0.01):
        super().__init__()
        self.initial, self.minimum = initial, minimum
        self.log_tau = nn.Parameter(torch.tensor(math.log(initial)))

    def reset_parameters(self) -> None:
        nn.init.constant_(self.log_tau, math.log(self.initial))

    def forward(self) -> Tensor:
        return self.log_tau.exp().clamp_min(self.minimum)


def nt_xent(
    first: Tensor,
    second: Tensor,
    *,
    similarity: Similarity,
    temperature: Tensor | float,
    groups: Tensor | None = None,
    negatives: str = "both",
) -> Tensor:
    r"""Normalised-temperature cross entropy between two views.

    With :math:`z = [first; second]` each of the :math:`2N` rows picks its partner among the other rows:

    .. math::
        \ell = -\frac{1}{2N} \sum_i \log
        \frac{\exp(\mathrm{sim}(z_i, z_{p(i)}) / \tau)}{\sum_{j \ne i} \exp(\mathrm{sim}(z_i, z_j) / \tau)}

    Args:
        first: One view, ``[N, d]``.
        second: The other view, ``[N, d]``; row *i* belongs with row *i* of ``first``.
        similarity: Maps ``[n, d]`` and ``[m, d]`` to ``[n, m]``.
        temperature: :math:`\tau`.
        groups: Integers ``[N]``. Rows of the same group are the same user and never each other's negatives.
        negatives: ``"both"`` draws negatives from both views, as the authors' code does; ``"opposite"`` from the
            other view alone, as Eq. 9 and 12 are written.

    Returns:
        A scalar; 0 when there are no rows.
    """
    n_rows = len(first)
    if n_rows == 0:
        return first.sum()
    views = torch.cat([first, second])
    partners = torch.arange(2 * n_rows, device=first.device).roll(n_rows)
    view_groups = (torch.arange(n_rows, device=first.device) if groups is None else groups).repeat(2)
    scale = 1 / temperature
    total = first.new_zeros(())
    # A few rows at a time: the 2N x 2N matrices would pass through memory a dozen times, blocks stay in the cache.
    for start in range(0, 2 * n_rows, _ROWS):
        rows = torch.arange(start, min(start + _ROWS, 2 * n_rows), device=first.device)
        excluded = view_groups[rows].unsqueeze(1) == view_groups
        if negatives == "opposite":
            excluded |= (rows < n_rows).unsqueeze(1) == (torch.arange(2 * n_rows, device=first.device) < n_rows)
        excluded.scatter_(1, partners[rows].unsqueeze(1), False)
        logits = (similarity(views[rows], views) * scale).masked_fill(excluded, -torch.inf)
        total = total + F.cross_entropy(logits, partners[rows], reduction="sum")
    return total / (2 * n_rows)
