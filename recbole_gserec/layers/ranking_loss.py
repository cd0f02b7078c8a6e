"""Losses of a positive item among its candidates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pointwise_loss(logits: Tensor) -> Tensor:
    """Compute the mean binary cross entropy (Eq. 16) of logits ``[B, C]`` whose first column is the positive."""
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    return F.binary_cross_entropy_with_logits(logits, labels)


def sampled_softmax_loss(logits: Tensor) -> Tensor:
    """Compute the cross entropy of the first column among the candidates of its row, logits ``[B, C]``."""
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
