"""Losses of a positive among its candidates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pointwise_loss(logits: Tensor) -> Tensor:
    """Binary cross entropy of logits ``[B, C]`` whose first column is the positive; the mean over all (Eq. 16)."""
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    return F.binary_cross_entropy_with_logits(logits, labels)


def sampled_softmax_loss(logits: Tensor) -> Tensor:
    """Cross entropy of the first column among the candidates of its row, logits ``[B, C]``."""
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
