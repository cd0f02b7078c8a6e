"""The softmax over real events."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """The softmax over the last dimension, of its real places alone.

    Args:
        logits: ``[..., N]``.
        mask: Of a shape that broadcasts to it, True on real places.

    Returns:
        ``[..., N]``, 0 on padding, and everywhere in rows without a real place.
    """
    # A finite floor keeps rows without events free of NaN; the product with the mask makes them 0.
    return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(-1) * mask
