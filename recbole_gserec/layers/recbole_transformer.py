"""RecBole's Transformer for models that read one state per row, at a fraction of its cost.

Weights and results are those of ``recbole.model.layers.TransformerEncoder``, except for random dropout masks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from recbole.model.layers import MultiHeadAttention, TransformerEncoder
from torch import Tensor, nn

from recbole_gserec.layers.dropout import Dropout


def use_fast_parts(model: nn.Module) -> None:
    """Replace dropout and activations, in place, by faster versions."""
    # A type checker only knows module attributes as tensors or modules; this one is a function.
    module: Any
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, Dropout(child.p))
        # RecBole computes these in five operations and two.
        for name, fused in (("gelu", F.gelu), ("swish", F.silu)):
            if getattr(module, "intermediate_act_fn", None) == getattr(module, name, fused):
                module.intermediate_act_fn = fused


def encode_at(encoder: TransformerEncoder, events: Tensor, attention_mask: Tensor, positions: Tensor) -> Tensor:
    """Compute the encoder's output at one position of each row; the top layer is computed only there.

    Args:
        encoder: An encoder with at least one layer.
        events: ``[B, N, d]``.
        attention_mask: ``[B, 1, N, N]``, added to the logits of attention.
        positions: ``[B]``.

    Returns:
        ``[B, d]``.
    """
    *lower, uppermost = encoder.layer
    for layer in lower:
        events = layer(events, attention_mask)
    attended = _attend_at(uppermost.multi_head_attention, events, attention_mask, positions)
    return uppermost.feed_forward(attended)


def _attend_at(attention: MultiHeadAttention, events: Tensor, attention_mask: Tensor, positions: Tensor) -> Tensor:
    rows, n_heads = torch.arange(len(events), device=events.device), attention.num_attention_heads
    own = events[rows, positions]
    query = attention.query(own).unflatten(-1, (1, n_heads, -1)).transpose(1, 2)
    key, value = (
        project(events).unflatten(-1, (n_heads, -1)).transpose(1, 2) for project in (attention.key, attention.value)
    )
    logits = query @ key.transpose(2, 3) / attention.sqrt_attention_head_size
    shares = attention.attn_dropout((logits + attention_mask[rows, :, positions].unsqueeze(2)).softmax(-1))
    attended = attention.dense((shares @ value).transpose(1, 2).flatten(1))
    return attention.LayerNorm(attention.out_dropout(attended) + own)
