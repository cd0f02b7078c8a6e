"""Encodes tokens that are appended to a sequence one at a time, for USER."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recbole_gserec.layers.attention import ALL, KEYS_AND_VALUES, by_head, project
from recbole_gserec.layers.dropout import ModuleList
from recbole_gserec.layers.packing import Packing
from recbole_gserec.layers.transformer import EncoderLayer


class Memory(NamedTuple):
    """Keys and values of a batch of sequences.

    Shapes:
        - **layers**: a pair of ``[B, n_heads, N, d / n_heads]`` for each Transformer layer.
        - **mask**: ``[B, N]``, True on real events.
    """

    layers: list[tuple[Tensor, Tensor]]
    mask: Tensor


class AppendedEncoder(nn.Module):
    r"""The output at :math:`t` of a Transformer encoder over :math:`[H; t]`, for any number of tokens :math:`t`.

    A token attends to the sequence and itself. The sequence does not attend to the token, so it is encoded once for all
    tokens. With one layer, this is exactly the bidirectional encoder's output at :math:`t`, because its keys are the
    input events. With more layers, that encoder would have to encode the whole sequence again for each token.

    Args:
        size: Embedding size d.
        n_layers: Transformer layers.
        n_heads: Attention heads.
        inner_size: Inner size of the feed-forward layers.
        dropout: Dropout inside the layers.
        attention_dropout: Dropout of the attention weights.

    Shapes:
        - **tokens**: ``[B, C, d]``, or ``[1, C, d]`` when all rows share them; result ``[B, C, d]``.
    """

    def __init__(
        self, size: int, n_layers: int, n_heads: int, inner_size: int, dropout: float, attention_dropout: float
    ):
        super().__init__()
        self.layers = ModuleList(
            EncoderLayer(size, n_heads, inner_size, dropout, attention_dropout) for _ in range(n_layers)
        )

    def memory(self, events: Tensor, packing: Packing) -> Memory:
        """Encode sequences, packed ``[T, d]``."""
        layers = []
        for number, layer in enumerate(self.layers):
            if number > 0:
                events = self.layers[number - 1](events, packing)
            joint = project(layer.self_attn, events, KEYS_AND_VALUES)
            keys, values = by_head(layer.self_attn, packing.unpack(joint))
            layers.append((keys, values))
        return Memory(layers, packing.mask)

    def forward(self, tokens: Tensor, memory: Memory) -> Tensor:
        for layer, (keys, values) in zip(self.layers, memory.layers, strict=True):
            attended = layer.self_attn.out_proj(_attend(layer, tokens, keys, values, memory.mask))
            tokens = layer.feed_forward(tokens, attended)
        return tokens.expand(len(memory.mask), -1, -1)


def _attend(layer: EncoderLayer, tokens: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Compute each token's attention to the sequence and itself, before the output projection: ``[B, C, d]``."""
    attention = layer.self_attn
    query, own_key, own_value = by_head(attention, project(attention, tokens, ALL))
    query = query / math.sqrt(query.shape[-1])
    to_events = (query @ keys.transpose(2, 3)).masked_fill(~mask[:, None, None], -torch.inf)
    to_itself = (query * own_key).sum(-1, keepdim=True)
    logits = torch.cat([to_events, to_itself.expand(len(mask), -1, -1, -1)], dim=-1)
    # There is always a key, the token itself.
    weights = layer.attention_dropout(logits.softmax(-1))
    mixed = weights[..., :-1] @ values + weights[..., -1:] * own_value
    return mixed.transpose(1, 2).flatten(2)
