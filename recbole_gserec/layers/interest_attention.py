"""The attention of DIN: how relevant each event of a history is to a candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.containers import ModuleList
from recbole_gserec.layers.dropout import Dropout

MAX_PRODUCTS = 1 << 24
"""Maximum size of the products of events and candidates outside of training: 64 MiB."""


class InterestAttention(nn.Module):
    r"""The sum of a history's events, each weighted by an MLP over the event and the candidate.

    .. math::
        a_j = \mathrm{MLP}([t, h_j, t - h_j, t \circ h_j]), \quad w = \sum_j a_j h_j

    Weights are not normalised: the more of a history is similar to the candidate, the longer the vector.

    The first layer is applied to the parts separately, with the same sum. The parts of only the candidate or the event
    are computed once for each of them, and only the product is computed for each pair.

    Args:
        size: Embedding size d.
        hidden_sizes: Sizes of the MLP's hidden layers.
        dropout: Dropout probability, after each activation.
        activation: ``dice`` or ``prelu``.

    Shapes:
        - **history**: ``[B, N, d]``, **mask**: ``[B, N]``, True on real events.
        - **candidates**: ``[B, C, d]``, or ``[1, C, d]`` when all rows share them.
        - result ``[B, C, d]``; 0 for rows without events.
    """

    def __init__(self, size: int, hidden_sizes: Sequence[int], dropout: float, activation: str):
        super().__init__()
        sizes = [4 * size, *hidden_sizes, 1]
        self.layers = ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:], strict=False))
        make_activation: Callable[[int], nn.Module] = {"dice": Dice, "prelu": nn.PReLU}[activation]
        self.activations = ModuleList(make_activation(hidden_size) for hidden_size in hidden_sizes)
        self.dropout = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset to Xavier-normal weights and zero biases; activations reset themselves."""
        for layer in self.layers:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, history: Tensor, mask: Tensor, candidates: Tensor) -> Tensor:
        if self.training:
            # All at once, because Dice computes its statistics over all pairs.
            return self._pool(history, mask, candidates)
        step = max(1, MAX_PRODUCTS // max(1, history.numel()))
        return torch.cat([self._pool(history, mask, part) for part in candidates.split(step, dim=1)], dim=1)

    def _pool(self, history: Tensor, mask: Tensor, candidates: Tensor) -> Tensor:
        rows, columns = mask.nonzero(as_tuple=True)
        events = history[rows, columns]
        of_candidate, of_event, of_difference, of_product = self.layers[0].weight.chunk(4, dim=1)
        from_candidates = F.linear(candidates, of_candidate + of_difference, self.layers[0].bias)
        from_events = F.linear(events, of_event - of_difference)
        if len(candidates) > 1:
            candidates, from_candidates = candidates[rows], from_candidates[rows]
        products = F.linear(candidates * events.unsqueeze(1), of_product)
        # From here on, only pairs of real events: [T, C, ...] for T events, flat.
        hidden = (from_candidates + from_events.unsqueeze(1) + products).flatten(0, 1)
        for activation, layer in zip(self.activations, self.layers[1:], strict=True):
            hidden = layer(self.dropout(activation(hidden)))
        # In mixed precision, the MLP's dtype differs from the history's.
        weights = hidden.new_zeros(*mask.shape, candidates.shape[1])
        weights = weights.index_put((rows, columns), hidden.view(len(events), candidates.shape[1]))
        return weights.transpose(1, 2) @ history


class Dice(nn.Module):
    r"""DIN's activation :math:`p \circ x + (1 - p) \circ \alpha x` with :math:`p = \sigma((x - E[x]) / \sqrt{V[x]})`.

    As in batch normalisation, mean and variance are those of the batch in training, and running ones otherwise. A row's
    score thus does not depend on the other rows.

    Shapes:
        - **values**: ``[n, size]``, result ``[n, size]``.
    """

    def __init__(self, size: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(size, affine=False)
        self.alpha = nn.Parameter(torch.zeros(size))

    def forward(self, values: Tensor) -> Tensor:
        # A single value has no variance.
        is_batch = self.training and len(values) > 1
        normed = F.batch_norm(values, self.norm.running_mean, self.norm.running_var, training=is_batch)
        p = normed.sigmoid()
        return p * values + (1 - p) * self.alpha * values
