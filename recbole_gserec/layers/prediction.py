"""Logits from a user's vectors and a candidate's (Eq. 15 of GSERec), and losses of a positive among its candidates."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recbole_gserec.layers.dropout import Dropout, ModuleList


class PredictionMLP(nn.Module):
    """MLP over the concatenated vectors of user and candidate, with one logit per candidate.

    The first layer is applied to the two parts separately, with the same sum. The user's part is computed once for all
    candidates.

    Args:
        user_size: Size of the vector a user has.
        candidate_size: Size of the vector a (user, candidate) pair has.
        hidden_sizes: Sizes of the hidden layers; ReLU and dropout follow each.
        dropout: Dropout probability.

    Shapes:
        - **user**: ``[B, user_size]``, **candidates**: ``[B, C, candidate_size]``, result ``[B, C]``.
        - **rows**: ``[n]``, the row of ``user`` for each row of candidates ``[n, C, candidate_size]``; one to one
          without it.
    """

    def __init__(self, user_size: int, candidate_size: int, hidden_sizes: list[int], dropout: float):
        super().__init__()
        self.user_size = user_size
        sizes = [user_size + candidate_size, *hidden_sizes, 1]
        self.layers = ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:], strict=False))
        self.dropout = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for layer in self.layers:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, user: Tensor, candidates: Tensor, rows: Tensor | None = None) -> Tensor:
        from_user = self.first_layer(0, user, bias=False)
        if rows is not None:
            from_user = from_user[rows]
        return self.finish(self.first_layer(self.user_size, candidates) + from_user.unsqueeze(1))

    def first_layer(self, start: int, vectors: Tensor, bias: bool = True) -> Tensor:
        """Apply the first layer to one part of its input, ``[..., size]``, which begins at ``start``."""
        first = self.layers[0]
        weight = first.weight[:, start : start + vectors.shape[-1]]
        return F.linear(vectors, weight, first.bias if bias else None)

    def finish(self, hidden: Tensor) -> Tensor:
        """Compute logits ``[...]`` from the sum of all parts of the first layer, ``[..., h]``."""
        for layer in self.layers[1:]:
            hidden = layer(self.dropout(hidden.relu_()))
        return hidden.squeeze(-1)


def dot_product(users: Tensor, candidates: Tensor) -> Tensor:
    """Compute logits ``[B, C]`` of users ``[B, d]`` and candidates ``[B, C, d]`` or, if shared, ``[1, C, d]``."""
    if len(candidates) == 1:
        return users @ candidates[0].T
    return torch.einsum("bd,bcd->bc", users, candidates)


def pointwise_loss(logits: Tensor, power: float = 1.0, is_real: Tensor | None = None) -> Tensor:
    r"""Compute the mean binary cross entropy (Eq. 16) of candidates of which the first is the positive.

    Args:
        logits: ``[n, C]``.
        power: Power :math:`\beta` of the positive's probability: 1, or that of gBCE, :func:`power_of_positives`.
        is_real: ``[n, C]``, the candidates that count; all by default.
    """
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    if power == 1 and is_real is None:
        return F.binary_cross_entropy_with_logits(logits, labels)
    weights = torch.ones_like(logits) if is_real is None else is_real.to(logits.dtype)
    n_candidates = logits.numel() if is_real is None else is_real.sum()
    weights = torch.cat([power * weights[:, :1], weights[:, 1:]], dim=1)
    return F.binary_cross_entropy_with_logits(logits, labels, weights, reduction="sum") / n_candidates


def power_of_positives(n_negatives: int, n_items: int, calibration: float) -> float:
    r"""Compute :math:`\beta = \alpha\,(t\,(1 - 1/\alpha) + 1/\alpha)` of gBCE.

    Petrov and Macdonald, RecSys 2023, https://doi.org/10.1145/3604915.3608783.

    Args:
        n_negatives: Negatives of a positive.
        n_items: Number of items; :math:`\alpha` is the share of the other items that are drawn.
        calibration: t, from 0 (binary cross entropy) to 1 (probabilities fully calibrated).
    """
    share = min(1.0, n_negatives / max(1, n_items - 1))
    return 1 - calibration * (1 - share)


def sampled_softmax_loss(
    logits: Tensor, is_real: Tensor | None = None, log_probabilities: Tensor | None = None
) -> Tensor:
    """Compute the mean cross entropy of the first among the candidates of its row.

    Args:
        logits: ``[n, C]``.
        is_real: ``[n, C]``, the candidates that count; all by default.
        log_probabilities: ``[n, C]``, with what probability each item is drawn as a negative; they are subtracted, so
            that items drawn often are not ranked too low (logQ correction). Not needed if all are equal.
    """
    if log_probabilities is not None:
        logits = logits - log_probabilities
    if is_real is not None:
        logits = logits.masked_fill(~is_real, -torch.inf)
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


MAX_LOGITS = 1 << 24
"""Maximum number of (state, item) logits in cross entropy over all items: 64 MiB of 32-bit floats."""


def all_items_loss(states: Tensor, positives: Tensor, items: Tensor, n_negatives: int = 0) -> Tensor:
    """Compute the mean cross entropy of the positives among all items, scored by dot products, in bounded memory.

    Args:
        states: ``[n, d]``.
        positives: ``[n]`` item ids.
        items: ``[n_items, d]``; item 0 is padding and does not count.
        n_negatives: Number of items drawn at random, for all states together, that stand for all; 0 for none.
    """
    if len(states) == 0:
        return states.sum()
    if 0 < n_negatives < len(items) - 1:
        drawn = torch.randint(1, len(items), (n_negatives,), device=items.device)
        of_drawn = (states @ items[drawn].T).masked_fill(positives.unsqueeze(1) == drawn, -torch.inf)
        return sampled_softmax_loss(torch.cat([(states * items[positives]).sum(1, keepdim=True), of_drawn], dim=1))
    items, labels = items[1:], positives - 1
    step = max(1, MAX_LOGITS // len(items))
    if step >= len(states):
        return F.cross_entropy(states @ items.T, labels)
    parts = zip(states.split(step), labels.split(step), strict=True)
    return torch.cat([checkpoint(_cross_entropies, *part, items, use_reentrant=False) for part in parts]).mean()


def _cross_entropies(states: Tensor, labels: Tensor, items: Tensor) -> Tensor:
    return F.cross_entropy(states @ items.T, labels, reduction="none")
