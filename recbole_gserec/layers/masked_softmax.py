"""The softmax over real events."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Compute the softmax over the last dimension, only over its real positions.

    Args:
        logits: ``[..., N]``.
        mask: Broadcastable to ``logits``, True for real positions.

    Returns:
        ``[..., N]``; 0 for padding, and in rows without a real position.
    """
    # A finite minimum keeps rows without events free of NaN; the product with the mask makes them 0.
    return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(-1) * mask
