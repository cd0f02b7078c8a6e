"""Alignment of queries with their clicked items, for SESRec and UniSAR."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recbole_gserec.layers.contrastive import BilinearSimilarity, Temperature

_ROWS = 512


class QueryItemAlignment(nn.Module):
    r"""InfoNCE between queries and clicked items.

    .. math::
        \ell = -\frac{1}{2|P|} \sum_{(q, i) \in P} \left(
        \log \frac{e^{s(q, i) / \tau}}{e^{s(q, i) / \tau} + \sum_{i^-} e^{s(q, i^-) / \tau}} +
        \log \frac{e^{s(i, q) / \tau}}{e^{s(i, q) / \tau} + \sum_{q^-} e^{s(i, q^-) / \tau}} \right)

    with :math:`s(x, y) = \tanh(x^\top W y)`, one :math:`W` for both directions as in the authors' code. The random
    items :math:`i^-` and queries :math:`q^-` are drawn for each batch, with replacement, and shared by all pairs.

    Args:
        size: Embedding size d.
        n_queries: Number of query ids, padding included.
        n_items: Number of item ids, padding included.
        n_negatives: Random items, and random queries.
        temperature: :math:`\tau` before training.

    Shapes:
        - **queries**, **items**: ``[P]`` ids of the pairs; result a scalar, 0 without pairs.
        - **embed_queries**, **embed_items**: vectors ``[n, d]`` of ids ``[n]``.
    """

    def __init__(self, size: int, n_queries: int, n_items: int, n_negatives: int, temperature: float):
        super().__init__()
        self.n_queries, self.n_items, self.n_negatives = n_queries, n_items, n_negatives
        self.similarity, self.temperature = BilinearSimilarity(size), Temperature(temperature)

    def draw(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Draw random query ids and random item ids, ``[n_negatives]`` each."""
        queries, items = (
            torch.randint(1, size, (self.n_negatives,), device=device) for size in (self.n_queries, self.n_items)
        )
        return queries, items

    def forward(
        self,
        queries: Tensor,
        items: Tensor,
        embed_queries: Callable[[Tensor], Tensor],
        embed_items: Callable[[Tensor], Tensor],
    ) -> Tensor:
        if len(queries) == 0:
            return self.similarity.weight.new_zeros(())
        negatives = self.draw(queries.device)
        # Rows of one user share their searches, so each distinct pair, query and item is computed once.
        pairs, counts = (queries * self.n_items + items).unique(return_counts=True)
        sides = []
        for ids, random, embed in zip(
            (pairs // self.n_items, pairs % self.n_items), negatives, (embed_queries, embed_items), strict=True
        ):
            distinct, inverse = ids.unique(return_inverse=True)
            vectors, random_vectors = embed(torch.cat([distinct, random])).split([len(distinct), len(random)])
            sides.append((vectors, inverse, random_vectors))
        terms = self._cross_entropy(*sides) + self._cross_entropy(*reversed(sides))
        return (terms * counts).sum() / (2 * len(queries))

    def _cross_entropy(self, anchors: tuple[Tensor, Tensor, Tensor], partners: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Compute the negative log probability of each pair's partner against random ones, ``[P]``.

        Args:
            anchors: Distinct vectors, the index of each pair's anchor among them, and random vectors (not used).
            partners: The same for the side of the partner.
        """
        scale = 1 / self.temperature()
        (first, first_indices, _), (second, second_indices, random) = anchors, partners
        left, right, _ = self.similarity.factors(first, random)
        positives = scale * (left[first_indices] * second[second_indices]).sum(1).tanh()
        # The sum over random vectors is the same for all pairs of an anchor. It has no mixed precision.
        with torch.autocast(left.device.type, enabled=False):
            others = _LogSumExp.apply(left.to(scale.dtype), right.to(scale.dtype), scale)[first_indices]
        return torch.logaddexp(positives, others) - positives


class _LogSumExp(torch.autograd.Function):
    """``(tanh(left @ right.T) * scale).logsumexp(1)`` without the whole matrix, recomputed in the backward pass."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, scale: Tensor) -> Tensor:
        parts = [((rows @ right.T).tanh_() * scale).logsumexp(1) for rows in left.split(_ROWS)]
        result = torch.cat(parts)
        ctx.save_for_backward(left, right, scale, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        left, right, scale, result = ctx.saved_tensors
        left_grad, right_grad, scale_grad = torch.empty_like(left), torch.zeros_like(right), torch.zeros_like(scale)
        for start in range(0, len(left), _ROWS):
            rows = slice(start, start + _ROWS)
            similarities = (left[rows] @ right.T).tanh_()
            weights = (similarities * scale).sub_(result[rows].unsqueeze(1)).exp_().mul_(gradient[rows].unsqueeze(1))
            scale_grad += weights.flatten() @ similarities.flatten()
            weights.mul_(similarities.square_().neg_().add_(1)).mul_(scale)
            left_grad[rows] = weights @ right
            right_grad.addmm_(weights.T, left[rows])
        return left_grad, right_grad, scale_grad


def clicked_pairs(queries: Tensor, clicks: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (query, clicked item) pairs of visible searches.

    Args:
        queries: ``[B, S]`` query ids.
        clicks: ``[B, S, K]`` item ids, 0 where padded.
        mask: ``[B, S]``, True on real searches.

    Returns:
        Query ids and item ids, each ``[P]``.
    """
    is_click = (clicks > 0) & mask.unsqueeze(-1)
    return queries.unsqueeze(-1).expand_as(clicks)[is_click], clicks[is_click]
