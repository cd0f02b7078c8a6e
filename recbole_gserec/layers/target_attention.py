"""Pooling of a history by its similarity to a candidate (Eq. 14 of GSERec)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recbole_gserec.layers.masked_softmax import masked_softmax


class TargetAttention(nn.Module):
    r"""Bilinear attention of candidates over a history.

    :math:`\alpha_j = \mathrm{softmax}_j(e_j^\top A\, t),\; w = \sum_j \alpha_j e_j`. The paper writes self-attention
    :math:`\mathrm{SA}(t, W, W)`; this unscaled form without value projection is the authors' code's.

    Shapes:
        - **history**: ``[B, N, d]``, **mask**: ``[B, N]``, True on real events.
        - **candidates**: ``[B, C, d]``, or ``[1, C, d]`` when all rows share them.
        - result ``[B, C, d]``; 0 for rows without events.
    """

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_normal_(self.weight)

    def forward(self, history: Tensor, mask: Tensor, candidates: Tensor) -> Tensor:
        return self.pool(history, [mask], candidates)[0]

    def pool(self, history: Tensor, masks: Sequence[Tensor], candidates: Tensor) -> list[Tensor]:
        """Pool the same history over several masks, with one result for each."""
        n_candidates, n_events = (vectors.shape[0] * vectors.shape[1] for vectors in (candidates, history))
        if len(candidates) < len(history) and n_candidates < n_events:
            # Shared candidates arrive in chunks, and the history's product would be computed for each chunk.
            logits = (candidates @ self.weight.T) @ history.transpose(1, 2)
        else:
            logits = candidates @ (history @ self.weight).transpose(1, 2)
        return [masked_softmax(logits, mask.unsqueeze(1)) @ history for mask in masks]
