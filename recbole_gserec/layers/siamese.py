"""The encoder that UnifiedSSR shares between histories of items and of queries."""

import math

import torch
from torch import Tensor, nn

from recbole_gserec.layers.attention import ALL, KEYS_AND_VALUES, QUERIES, attend, by_head, later_positions, project
from recbole_gserec.layers.dropout import Dropout, ModuleList
from recbole_gserec.layers.packing import Packing
from recbole_gserec.layers.transformer import prepare_layer


class SiameseLayer(nn.TransformerDecoderLayer):
    """Self-attention, cross-attention to another stream of the same length, and feed-forward; pre-norm.

    Parameters and results are those of ``nn.TransformerDecoderLayer`` with ``norm_first``, computed without padding.

    Shapes:
        - **events**, **other**: packed ``[T, d]``, result ``[T, d]``. Both streams have the same positions.
        - **blocked**: ``[1, N, N]``, True where an event may not attend to another's place, in both attentions.
    """

    attention_dropout: Dropout

    def __init__(self, size: int, n_heads: int, inner_size: int, dropout: float, attention_dropout: float):
        super().__init__(size, n_heads, inner_size, dropout, batch_first=True, norm_first=True)
        prepare_layer(self, dropout, attention_dropout)

    def forward(  # type: ignore[override]  # takes other arguments than torch's
        self, events: Tensor, other: Tensor, packing: Packing, blocked: Tensor | None
    ) -> Tensor:
        normed = self.norm1(events)
        events = events + self.dropout1(self._attention(self.self_attn, normed, normed, packing, blocked))
        attended = self._attention(self.multihead_attn, self.norm2(events), other, packing, blocked)
        events = events + self.dropout2(attended)
        hidden = self.dropout(self.linear1(self.norm3(events)).relu())
        return events + self.dropout3(self.linear2(hidden))

    def _attention(
        self, attention: nn.MultiheadAttention, events: Tensor, keys: Tensor, packing: Packing, blocked: Tensor | None
    ) -> Tensor:
        if keys is events:
            query, key, value = by_head(attention, packing.unpack(project(attention, events, ALL)))
        else:
            (query,) = by_head(attention, packing.unpack(project(attention, events, QUERIES)))
            key, value = by_head(attention, packing.unpack(project(attention, keys, KEYS_AND_VALUES)))
        return attention.out_proj(packing.pack(attend(self, query, key, value, packing.mask, blocked)))


class SiameseEncoder(nn.Module):
    r"""Sinusoidal positions, then :math:`P^{l+1} = f_l(P^l, Q^l)` and :math:`Q^{l+1} = f_l(Q^l, P^l)`, then a norm.

    Both streams go through the same layers; a single stream attends to itself twice.

    Args:
        size: Embedding size d.
        n_layers: Layers.
        n_heads: Attention heads.
        inner_size: Inner size of the feed-forward layers.
        dropout: Dropout of the embedded events and inside the layers.
        attention_dropout: Dropout of the attention weights.
        causal: Whether an event attends only to positions up to its own.
        stacked: Whether a layer reads the output of the layer below. Otherwise all layers read the input events, and
            only the last layer affects the result, so only it is computed.

    Shapes:
        - **streams**: one or two packed ``[T, d]``; results as many.
    """

    def __init__(
        self,
        size: int,
        n_layers: int,
        n_heads: int,
        inner_size: int,
        dropout: float,
        attention_dropout: float,
        causal: bool = True,
        stacked: bool = True,
    ):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.layers = ModuleList(
            SiameseLayer(size, n_heads, inner_size, dropout, attention_dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(size)
        self.causal, self.stacked = causal, stacked

    def forward(self, *streams: Tensor, packing: Packing) -> tuple[Tensor, ...]:
        n_positions = packing.mask.shape[1]
        positions = sinusoids(n_positions, streams[0])[packing.columns]
        streams = tuple(self.dropout(stream + positions) for stream in streams)
        blocked = later_positions(n_positions, positions.device) if self.causal else None
        for layer in self.layers if self.stacked else self.layers[-1:]:
            pairs = zip(streams, reversed(streams), strict=True)
            streams = tuple(layer(own, other, packing, blocked) for own, other in pairs)
        return tuple(self.norm(stream) for stream in streams)


def sinusoids(n_positions: int, like: Tensor) -> Tensor:
    r"""Positions ``[n_positions, d]`` for vectors ``[..., d]``: sin and cos by turns of :math:`t / 10000^{2k/d}`."""
    size = like.shape[-1]
    indices = torch.arange(n_positions, device=like.device, dtype=like.dtype).unsqueeze(1)
    rates = torch.exp(torch.arange(0, size, 2, device=like.device, dtype=like.dtype) * (-math.log(10000) / size))
    return torch.stack([(indices * rates).sin(), (indices * rates).cos()], dim=-1).flatten(1)[:, :size]
