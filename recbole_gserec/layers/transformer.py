"""Torch's post-norm Transformer layers, computed on histories without their padding.

Parameters and results are those of ``nn.TransformerEncoderLayer`` and ``nn.TransformerDecoderLayer``. Histories are
short and have unequal lengths: up to half of a padded batch is padding. Torch spends most of its time on padding and
dropout. Rows may be empty.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.attention import ALL, KEYS_AND_VALUES, QUERIES, attend, by_head, later_places, project
from recbole_gserec.layers.dropout import Dropout
from recbole_gserec.layers.packing import Packing


class EncoderLayer(nn.TransformerEncoderLayer):
    """Self-attention and feed-forward, each with residual connection and layer norm.

    Args:
        size: Embedding size d.
        n_heads: Attention heads.
        inner_size: Inner size of the feed-forward part.
        dropout: Dropout probability.
        attention_dropout: Dropout of the attention weights.
        causal: Whether an event attends only to itself and earlier events.
        activation: Activation between the two layers of the feed-forward part.

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
            later = later_places(packing.mask.shape[1], events.device)
            blocked = later if blocked is None else blocked | later
        return self.feed_forward(events, _self_attention(self, events, packing, blocked))

    def last(self, events: Tensor, packing: Packing) -> Tensor:
        """Compute only the output at the most recent event of each row, ``[B, d]``; undefined for rows without events.

        That event attends to all others, causal or not.
        """
        return self.feed_forward(packing.last(events), _attention_of_last(self, events, packing))

    def feed_forward(self, events: Tensor, attended: Tensor) -> Tensor:
        """Compute the rest of the layer from the result of attention."""
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
    """Set cheap dropout, Xavier-normal weights and zero biases; attention's input projection stays Xavier-uniform."""
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
    query, key, value = by_head(attention, packing.unpack(project(attention, events, ALL)))
    attended = attention.out_proj(packing.pack(attend(layer, query, key, value, packing.mask, blocked)))
    if blocked is None:
        return attended
    # Without any key, the output projection's bias is left out too.
    has_keys = (packing.mask.unsqueeze(1) & ~blocked).any(-1)
    return attended * packing.pack(has_keys.expand_as(packing.mask)).unsqueeze(-1)


def _attention_of_last(layer: EncoderLayer, events: Tensor, packing: Packing) -> Tensor:
    attention = layer.self_attn
    (query,) = by_head(attention, project(attention, packing.last(events), QUERIES).unsqueeze(1))
    key, value = by_head(attention, packing.unpack(project(attention, events, KEYS_AND_VALUES)))
    return attention.out_proj(attend(layer, query, key, value, packing.mask).squeeze(1))


def _cross_attention(
    layer: DecoderLayer, events: Tensor, packing: Packing, memory: Tensor, memory_mask: Tensor
) -> Tensor:
    attention = layer.multihead_attn
    (query,) = by_head(attention, packing.unpack(project(attention, events, QUERIES)))
    key, value = by_head(attention, project(attention, memory, KEYS_AND_VALUES))
    return attention.out_proj(packing.pack(attend(layer, query, key, value, memory_mask)))
