"""The Transformer block of Query-SeqRec's authors."""

from __future__ import annotations

from torch import Tensor, nn

from recbole_gserec.layers.attention import later_places
from recbole_gserec.layers.dropout import Dropout
from recbole_gserec.layers.packing import Packing


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
        later = later_places(padded.shape[1], events.device)[0]
        attended, _ = self.attention(self.attention_norm(padded), padded, padded, attn_mask=later, need_weights=False)
        attended = self.forward_norm(packing.pack(attended))
        return self.dropout(self.outer(self.dropout(self.inner(attended)).relu())) + 2 * attended

    def last(self, events: Tensor, packing: Packing) -> Tensor:
        """Compute the output at the most recent event of each row, ``[B, d]``."""
        return packing.last(self(events, packing))
