"""InfoNCE between two views of the same rows, in one direction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(first: Tensor, second: Tensor, temperature: float, reduction: str = "mean") -> Tensor:
    r"""Each row of one view picks its partner among all rows of the other.

    .. math::
        \ell_i = -\log \frac{\exp(\cos(x_i, y_i) / \tau)}{\sum_j \exp(\cos(x_i, y_j) / \tau)}

    Args:
        first: One view, ``[N, d]``.
        second: The other view, ``[N, d]``; row *i* belongs with row *i* of ``first``.
        temperature: :math:`\tau`.
        reduction: ``"mean"`` or ``"sum"`` over the rows.

    Returns:
        A scalar.
    """
    logits = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(first), device=first.device), reduction=reduction)
