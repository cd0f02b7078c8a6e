"""Transformer blocks computed on histories without their padding.

Parameters and results are those of ``nn.TransformerEncoderLayer`` and ``nn.TransformerDecoderLayer``. Histories are
short and of unequal length, so skipping the padding saves up to half of the work. Here too: the block of Query-SeqRec's
authors, and RecBole's Transformer for models that read one state of each row.

"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from recbole.model.layers import MultiHeadAttention, TransformerEncoder
from torch import Tensor, nn

from recbole_gserec.layers.attention import (
    ALL,
    KEYS_AND_VALUES,
    QUERIES,
    DistanceBias,
    attend,
    by_head,
    event_distances,
    later_positions,
    project,
)
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
        span: Number of events that an event reads at most, itself included (:class:`DistanceBias`); 0 for all that
            ``causal`` and ``blocked`` allow. With a span, there is no ``blocked`` and no :meth:`last`.

    Shapes:
        - **events**: packed ``[T, d]``, result ``[T, d]``.
        - **blocked**: ``[B, N, N]``, True where a further (event, key) pair may not attend; an event that may attend to
          nothing gets 0 from attention.
        - **distances**: with a span, ``[B, N, N]`` from each event back to each key, 0 to itself; keys outside of the
          span are not read. By default, the number of events between them.
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
        span: int = 0,
    ):
        super().__init__(size, n_heads, inner_size, dropout, activation, batch_first=True)
        self.causal = causal
        self.distance_bias = DistanceBias(n_heads, span) if span else None
        prepare_layer(self, dropout, attention_dropout)

    def forward(  # type: ignore[override]  # takes other arguments than torch's
        self, events: Tensor, packing: Packing, blocked: Tensor | None = None, distances: Tensor | None = None
    ) -> Tensor:
        if self.causal and self.distance_bias is None:
            later = later_positions(packing.mask.shape[1], events.device)
            blocked = later if blocked is None else blocked | later
        return self.feed_forward(events, _self_attention(self, events, packing, blocked, distances))

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
        - **memory**: ``[B, L, d]``, **memory_mask**: ``[B, L]``, True at real positions.
    """

    attention_dropout: Dropout

    def __init__(
        self, size: int, n_heads: int, inner_size: int, dropout: float, attention_dropout: float, span: int = 0
    ):
        super().__init__(size, n_heads, inner_size, dropout, batch_first=True)
        self.distance_bias = DistanceBias(n_heads, span) if span else None
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
    layer: EncoderLayer | DecoderLayer,
    events: Tensor,
    packing: Packing,
    blocked: Tensor | None = None,
    distances: Tensor | None = None,
) -> Tensor:
    attention = layer.self_attn
    query, key, value = by_head(attention, packing.unpack(project(attention, events, ALL)))
    if layer.distance_bias is not None:
        # An event always reads itself.
        distances = event_distances(packing.mask.shape[1], events.device) if distances is None else distances
        bias, unread = layer.distance_bias(distances)
        return attention.out_proj(packing.pack(attend(layer, query, key, value, packing.mask, unread, bias)))
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


class QueryNormLayer(nn.Module):
    r"""Causal attention from normalised queries to keys and values as they come in, without a residual connection.

    :math:`a = \mathrm{LN}(\mathrm{MHA}(\mathrm{LN}(x), x, x)),\; y = \mathrm{FFN}(a) + 2 a`.

    Args:
        size: Embedding size d.
        n_heads: Attention heads.
        inner_size: Inner size of the feed-forward part.
        dropout: Dropout probability of the feed-forward part.
        attention_dropout: Dropout of the attention weights.

    Shapes:
        - **events**: packed ``[T, d]``, result ``[T, d]``.
    """

    def __init__(self, size: int, n_heads: int, inner_size: int, dropout: float, attention_dropout: float):
        super().__init__()
        self.attention_norm, self.forward_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.attention = nn.MultiheadAttention(size, n_heads, attention_dropout, batch_first=True)
        self.inner, self.outer = nn.Linear(size, inner_size), nn.Linear(inner_size, size)
        self.dropout = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for layer in (self.attention.out_proj, self.inner, self.outer):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, events: Tensor, packing: Packing) -> Tensor:
        padded = packing.unpack(events)
        # Padding comes last: no real event attends to it, and every event can attend to itself.
        later = later_positions(padded.shape[1], events.device)[0]
        attended, _ = self.attention(self.attention_norm(padded), padded, padded, attn_mask=later, need_weights=False)
        attended = self.forward_norm(packing.pack(attended))
        return self.dropout(self.outer(self.dropout(self.inner(attended)).relu())) + 2 * attended

    def last(self, events: Tensor, packing: Packing) -> Tensor:
        """Compute the output at the most recent event of each row, ``[B, d]``."""
        return packing.last(self(events, packing))


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
