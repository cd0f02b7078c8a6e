"""Multi-head attention with the parameters of torch's, split into parts that layers combine."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.dropout import Dropout

QUERIES, KEYS_AND_VALUES, ALL = (0, 1), (1, 3), (0, 3)
"""Parts of the input projection of ``nn.MultiheadAttention``."""


class AttentionLayer(Protocol):
    """A module with dropout on its attention weights, as prepared by :func:`prepare_layer`."""

    attention_dropout: Dropout
    training: bool


def project(attention: nn.MultiheadAttention, vectors: Tensor, parts: tuple[int, int]) -> Tensor:
    """Compute parts of the input projection of vectors ``[..., d]``, side by side: ``[..., n_parts * d]``."""
    start, end = (part * attention.embed_dim for part in parts)
    return F.linear(vectors, attention.in_proj_weight[start:end], attention.in_proj_bias[start:end])


def by_head(attention: nn.MultiheadAttention, joint: Tensor) -> tuple[Tensor, ...]:
    """Split projections ``[B, N, n_parts * d]`` into contiguous parts ``[B, n_heads, N, d / n_heads]``."""
    n_parts = joint.shape[-1] // attention.embed_dim
    parts = joint.view(*joint.shape[:2], n_parts, attention.num_heads, attention.head_dim)
    return parts.permute(2, 0, 3, 1, 4).contiguous().unbind(0)


def later_places(n_positions: int, device: torch.device) -> Tensor:
    """Return ``[1, N, N]``, True for keys after the query, which causal attention must not read."""
    position = torch.arange(n_positions, device=device)
    return (position > position.unsqueeze(1)).unsqueeze(0)


def attend(
    layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, blocked: Tensor | None = None
) -> Tensor:
    """Compute multi-head attention before its output projection.

    Args:
        layer: Owner of the dropout on the attention weights.
        query: ``[B, n_heads, N, d / n_heads]``.
        key: ``[B, n_heads, M, d / n_heads]``.
        value: As ``key``.
        key_mask: ``[B, M]``, True for keys that may be read. A row without any attends evenly: finite, but unused.
        blocked: ``[B, N, M]`` or ``[1, N, M]``, True for further (query, key) pairs that are not allowed.

    Returns:
        ``[B, N, d]``.
    """
    # The lowest finite number, not -inf: a row without keys must not become NaN.
    hidden = ~key_mask.unsqueeze(1) if blocked is None else ~key_mask.unsqueeze(1) | blocked
    bias = torch.zeros_like(hidden, dtype=query.dtype).masked_fill_(hidden, torch.finfo(query.dtype).min)
    bias = bias.unsqueeze(1)
    dropout = layer.attention_dropout
    if dropout.p == 0 or not layer.training:
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    else:
        # Torch's fused CPU kernel has no dropout, and its fallback uses torch's slow one.
        n_rows, n_heads = query.shape[:2]
        query, key, value = (part.flatten(0, 1) for part in (query, key, value))
        bias = bias.expand(-1, n_heads, -1, -1).flatten(0, 1)
        logits = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=1 / math.sqrt(query.shape[-1]))
        mixed = torch.bmm(dropout(logits.softmax(-1)), value).unflatten(0, (n_rows, n_heads))
    return mixed.transpose(1, 2).flatten(2)
