"""Torch's post-norm Transformer layers, computed on histories without their padding.

Parameters and results are those of ``nn.TransformerEncoderLayer`` and ``nn.TransformerDecoderLayer``. Histories are
short and unequal: up to half of a padded batch is padding, and torch spends most of the time on it and on dropout. Rows
may be empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.dropout import Dropout
from recbole_gserec.layers.packing import Packing


class AttentionLayer(Protocol):
    """A module with dropout on the attention weights, as :func:`prepare_layer` gives it."""

    attention_dropout: Dropout
    training: bool


class EncoderLayer(nn.TransformerEncoderLayer):
    """Self-attention and feed-forward, each with residual connection and layer norm.

    Args:
        size: Embedding size d.
        n_heads: Attention heads.
        inner_size: Inner size of the feed-forward part.
        dropout: Dropout probability.
        attention_dropout: Dropout of the attention weights.
        causal: Whether an event attends to itself and earlier ones alone.
        activation: Between the two layers of the feed-forward part.

    Shapes:
        - **events**: packed ``[T, d]``, result ``[T, d]``.
        - **blocked**: ``[B, N, N]``, True where a further (event, key) pair may not attend; an event that may attend to
          nothing gets 0 from attention.
    """

    attention_dropout: Dropout

    def __init__(
        self,
        size: int,
        n_heads: int,
        inner_size: int,
        dropout: float,
        attention_dropout: float,
        causal: bool = False,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ):
        super().__init__(size, n_heads, inner_size, dropout, activation, batch_first=True)
        self.causal = causal
        prepare_layer(self, dropout, attention_dropout)

    def forward(  # type: ignore[override]  # takes other arguments than torch's
        self, events: Tensor, packing: Packing, blocked: Tensor | None = None
    ) -> Tensor:
        if self.causal:
            place = torch.arange(packing.mask.shape[1], device=events.device)
            later = (place > place.unsqueeze(1)).unsqueeze(0)
            blocked = later if blocked is None else blocked | later
        return self.feed_forward(events, _self_attention(self, events, packing, blocked))

    def last(self, events: Tensor, packing: Packing) -> Tensor:
        """The output at the most recent event of each row alone, ``[B, d]``; without meaning for rows without events.

        That event attends to all, causal or not.
        """
        return self.feed_forward(packing.last(events), _attention_of_last(self, events, packing))

    def feed_forward(self, events: Tensor, attended: Tensor) -> Tensor:
        """The rest of the layer, given what attention made of the events."""
        events = self.norm1(events + self.dropout1(attended))
        return self.norm2(events + self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(events))))))


class DecoderLayer(nn.TransformerDecoderLayer):
    """Self-attention, cross-attention to a memory, and feed-forward.

    Events of a row without memory skip the cross-attention with its residual connection and norm, as in an encoder.

    Shapes:
        - **events**: packed ``[T, d]``, result ``[T, d]``.
        - **memory**: ``[B, L, d]``, **memory_mask**: ``[B, L]``, True on real places.
    """

    attention_dropout: Dropout

    def __init__(self, size: int, n_heads: int, inner_size: int, dropout: float, attention_dropout: float):
        super().__init__(size, n_heads, inner_size, dropout, batch_first=True)
        prepare_layer(self, dropout, attention_dropout)

    def forward(  # type: ignore[override]  # takes other arguments than torch's
        self, events: Tensor, packing: Packing, memory: Tensor, memory_mask: Tensor
    ) -> Tensor:
        events = self.norm1(events + self.dropout1(_self_attention(self, events, packing)))
        attended = _cross_attention(self, events, packing, memory, memory_mask)
        has_memory = memory_mask.any(1)
        fused = self.norm2(events + self.dropout2(attended))
        events = fused if bool(has_memory.all()) else fused.where(has_memory[packing.rows].unsqueeze(1), events)
        return self.norm3(events + self.dropout3(self.linear2(self.dropout(self.linear1(events).relu()))))


def prepare_layer(layer: nn.Module, dropout: float, attention_dropout: float) -> None:
    """Cheap dropout, xavier-normal weights, zero biases; attention's input projection keeps torch's xavier-uniform."""
    for name, module in list(layer.named_children()):
        if isinstance(module, nn.Dropout):
            setattr(layer, name, Dropout(dropout))
    layer.attention_dropout = Dropout(attention_dropout)
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)


def _self_attention(
    layer: EncoderLayer | DecoderLayer, events: Tensor, packing: Packing, blocked: Tensor | None = None
) -> Tensor:
    attention = layer.self_attn
    joint = packing.unpack(F.linear(events, attention.in_proj_weight, attention.in_proj_bias))
    query, key, value = by_head(joint, 3, attention.num_heads)
    attended = attention.out_proj(packing.pack(attend(layer, query, key, value, packing.mask, blocked)))
    if blocked is None:
        return attended
    # The output projection's bias is left out too: nothing was attended to.
    has_keys = (packing.mask.unsqueeze(1) & ~blocked).any(-1)
    return attended * packing.pack(has_keys.expand_as(packing.mask)).unsqueeze(-1)


def _attention_of_last(layer: EncoderLayer, events: Tensor, packing: Packing) -> Tensor:
    attention = layer.self_attn
    size = attention.embed_dim
    query = F.linear(packing.last(events), attention.in_proj_weight[:size], attention.in_proj_bias[:size])
    joint = F.linear(events, attention.in_proj_weight[size:], attention.in_proj_bias[size:])
    (query,) = by_head(query.unsqueeze(1), 1, attention.num_heads)
    key, value = by_head(packing.unpack(joint), 2, attention.num_heads)
    return attention.out_proj(attend(layer, query, key, value, packing.mask).squeeze(1))


def _cross_attention(
    layer: DecoderLayer, events: Tensor, packing: Packing, memory: Tensor, memory_mask: Tensor
) -> Tensor:
    attention = layer.multihead_attn
    size = attention.embed_dim
    query = F.linear(events, attention.in_proj_weight[:size], attention.in_proj_bias[:size])
    joint = F.linear(memory, attention.in_proj_weight[size:], attention.in_proj_bias[size:])
    (query,) = by_head(packing.unpack(query), 1, attention.num_heads)
    key, value = by_head(joint, 2, attention.num_heads)
    return attention.out_proj(packing.pack(attend(layer, query, key, value, memory_mask)))


def by_head(joint: Tensor, n_parts: int, n_heads: int) -> tuple[Tensor, ...]:
    """Split ``[B, N, n_parts * d]`` into contiguous parts ``[B, n_heads, N, d / n_heads]``."""
    size = joint.shape[-1] // (n_parts * n_heads)
    parts = joint.view(*joint.shape[:2], n_parts, n_heads, size)
    return parts.permute(2, 0, 3, 1, 4).contiguous().unbind(0)


def attend(
    layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, blocked: Tensor | None = None
) -> Tensor:
    """Multi-head attention before its output projection.

    Args:
        layer: Owner of the dropout on the attention weights.
        query: ``[B, n_heads, N, d / n_heads]``.
        key: ``[B, n_heads, M, d / n_heads]``.
        value: As ``key``.
        key_mask: ``[B, M]``, True where a key may be attended to. A row without any attends evenly: finite, unused.
        blocked: ``[B, N, M]`` or ``[1, N, M]``, True where a query may not attend to a key besides.

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
        # Torch's fused kernel for the CPU has no dropout, and its fallback torch's slow one.
        n_rows, n_heads = query.shape[:2]
        query, key, value = (part.flatten(0, 1) for part in (query, key, value))
        bias = bias.expand(-1, n_heads, -1, -1).flatten(0, 1)
        logits = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=1 / math.sqrt(query.shape[-1]))
        mixed = torch.bmm(dropout(logits.softmax(-1)), value).unflatten(0, (n_rows, n_heads))
    return mixed.transpose(1, 2).flatten(2)
