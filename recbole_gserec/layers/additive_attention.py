"""Pooling by additive attention, for NRHUB."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_gserec.layers.masked_softmax import masked_softmax
from recbole_gserec.layers.packing import Packing


class AdditiveAttention(nn.Module):
    r"""Attention of one learnt query over projected events; what is pooled are the projections.

    :math:`y_j = \tanh(W x_j + b),\; \alpha_j = \mathrm{softmax}_j(q^\top y_j),\; r = \sum_j \alpha_j y_j`.

    Args:
        size: Size d of an event.
        hidden_size: Size h of its projection.

    Shapes:
        - **events**: packed ``[T, d]``, result ``[B, h]``; 0 for rows without events.
    """

    def __init__(self, size: int, hidden_size: int):
        super().__init__()
        self.projection = nn.Linear(size, hidden_size)
        self.query = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_normal_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        nn.init.xavier_normal_(self.query.unsqueeze(0))

    def forward(self, events: Tensor, packing: Packing) -> Tensor:
        projected = torch.tanh(self.projection(events))
        weights = masked_softmax(packing.unpack(projected @ self.query), packing.mask)
        return packing.sum(packing.pack(weights).unsqueeze(-1) * projected)
