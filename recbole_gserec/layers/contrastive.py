"""Contrastive alignment of two views of the same users (Eq. 1, 9 and 12 of GSERec), and one-directional InfoNCE."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROWS = 128


class Factors(NamedTuple):
    """The similarity of all pairs as factors: ``left @ right.T``, optionally followed by tanh.

    Shapes:
        - **left**: ``[N, d]``, **right**: ``[M, d]``.
    """

    left: Tensor
    right: Tensor
    squash: bool

    def product(self) -> Tensor:
        """Compute the similarities ``[N, M]``."""
        similarities = self.left @ self.right.T
        return similarities.tanh() if self.squash else similarities


class CosineSimilarity(nn.Module):
    """Cosine of every row of one matrix with every row of another.

    Shapes:
        - **first**: ``[N, d]``, **second**: ``[M, d]``, result ``[N, M]`` in ``[-1, 1]``.
    """

    def factors(self, first: Tensor, second: Tensor) -> Factors:
        return Factors(F.normalize(first, dim=-1), F.normalize(second, dim=-1), squash=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.factors(first, second).product()


class DotSimilarity(nn.Module):
    """Dot product of every row of one matrix with every row of another.

    Shapes:
        - **first**: ``[N, d]``, **second**: ``[M, d]``, result ``[N, M]``.
    """

    def factors(self, first: Tensor, second: Tensor) -> Factors:
        return Factors(first, second, squash=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.factors(first, second).product()


class BilinearSimilarity(nn.Module):
    r"""Learnt similarity :math:`\tanh(x^\top W y)`; not symmetric.

    GSERec's paper leaves :math:`\mathrm{sim}` open ("e.g., cosine similarity"); this is what its authors' code uses
    for Eq. 9 and 12.

    Shapes:
        - **first**: ``[N, d]``, **second**: ``[M, d]``, result ``[N, M]`` in ``(-1, 1)``.
    """

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_normal_(self.weight)

    def factors(self, first: Tensor, second: Tensor) -> Factors:
        return Factors(first @ self.weight, second, squash=True)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.factors(first, second).product()


class Temperature(nn.Module):
    r"""A learnable temperature :math:`\tau` that stays positive.

    It is stored as :math:`\log(\tau - \tau_{\min})`. A temperature stored directly can cross zero during
    training, and then rewards what it should penalise.

    Args:
        initial: Value of :math:`\tau` before training, above ``minimum``.
        minimum: Exclusive lower bound of :math:`\tau`.

    Raises:
        ValueError: If ``initial`` is not above ``minimum``.
    """

    def __init__(self, initial: float, minimum: float = 0.01):
        super().__init__()
        if initial <= minimum:
            raise ValueError(f"temperature {initial} must be above {minimum}")
        self.initial, self.minimum = initial, minimum
        self.log_tau = nn.Parameter(torch.tensor(math.log(initial - minimum)))

    def reset_parameters(self) -> None:
        nn.init.constant_(self.log_tau, math.log(self.initial - self.minimum))

    def forward(self) -> Tensor:
        return self.minimum + self.log_tau.exp()


def nt_xent(
    first: Tensor,
    second: Tensor,
    *,
    similarity: CosineSimilarity | DotSimilarity | BilinearSimilarity,
    temperature: Tensor | float,
    groups: Tensor | None = None,
    negatives: str = "both",
) -> Tensor:
    r"""Normalised-temperature cross entropy between two views.

    With :math:`z = [first; second]` each of the :math:`2N` rows picks its partner among the other rows:

    .. math::
        \ell = -\frac{1}{2N} \sum_i \log
        \frac{\exp(\mathrm{sim}(z_i, z_{p(i)}) / \tau)}{\sum_{j \ne i} \exp(\mathrm{sim}(z_i, z_j) / \tau)}

    Args:
        first: One view, ``[N, d]``.
        second: The other view, ``[N, d]``; row *i* belongs with row *i* of ``first``.
        similarity: Similarity of the rows of two views.
        temperature: :math:`\tau`.
        groups: Integers ``[N]``. Rows of the same group belong to the same user and are never each other's negatives.
        negatives: ``"both"`` takes negatives from both views, as the authors' code does; ``"opposite"`` only from the
            other view, as in Eq. 9 and 12. Unlike there, the positive is always in the denominator.

    Returns:
        A scalar; 0 when there are no rows.
    """
    n_rows = len(first)
    if n_rows == 0:
        return first.sum()
    views = torch.cat([first, second])
    scale = torch.as_tensor(1 / temperature, dtype=first.dtype, device=first.device)
    left, right, squash = similarity.factors(views, views)
    # This has no mixed precision.
    with torch.autocast(first.device.type, enabled=False):
        return _PartnerCrossEntropy.apply(
            left.to(scale.dtype), right.to(scale.dtype), squash, scale, groups, negatives == "opposite"
        )


class _PartnerCrossEntropy(torch.autograd.Function):
    """Mean cross entropy of each row's partner among all rows outside its group.

    Value and gradients are computed together, a few rows at a time. The 2N x 2N matrices, which would otherwise pass
    through memory a dozen times, are never complete.
    """

    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, squash: bool, scale: Tensor, groups: Tensor | None, opposite: bool
    ) -> Tensor:
        n_rows = len(left)
        positions = torch.arange(n_rows, device=left.device)
        partners, is_first = positions.roll(n_rows // 2), positions < n_rows // 2
        own = positions % (n_rows // 2) if groups is None else groups.repeat(2)
        total = left.new_zeros(())
        left_grad, right_grad, scale_grad = torch.empty_like(left), torch.zeros_like(right), torch.zeros_like(scale)
        for start in range(0, n_rows, _ROWS):
            rows = slice(start, start + _ROWS)
            partner = partners[rows].unsqueeze(1)
            similarities = left[rows] @ right.T
            if squash:
                similarities.tanh_()
            logits = similarities * scale
            if groups is None and not opposite:
                # Only the row itself is excluded, so no mask is needed.
                logits.diagonal(start).fill_(-torch.inf)
            else:
                excluded = own[rows].unsqueeze(1) == own
                if opposite:
                    excluded |= is_first[rows].unsqueeze(1) == is_first
                logits.masked_fill_(excluded.scatter_(1, partner, False), -torch.inf)
            normaliser = logits.logsumexp(1, keepdim=True)
            total += (normaliser - logits.gather(1, partner)).sum()
            # From here on, this is the gradient of the sum: softmax, minus one at the partner.
            gradient = logits.sub_(normaliser).exp_()
            gradient.scatter_add_(1, partner, gradient.new_full(partner.shape, -1))
            if ctx.needs_input_grad[3]:
                scale_grad += gradient.flatten() @ similarities.flatten()
            gradient.mul_(scale)
            if squash:
                gradient.mul_(similarities.square_().neg_().add_(1))
            left_grad[rows] = gradient @ right
            right_grad.addmm_(gradient.T, left[rows])
        ctx.save_for_backward(left_grad, right_grad, scale_grad)
        ctx.n_rows = n_rows
        return total / n_rows

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, Tensor, None, None]:
        left, right, scale = (part * (gradient / ctx.n_rows) for part in ctx.saved_tensors)
        return left, right, None, scale, None, None


def info_nce(first: Tensor, second: Tensor, temperature: float, reduction: str = "mean") -> Tensor:
    r"""Each row of one view picks its partner among all rows of the other.

    .. math::
        \ell_i = -\log \frac{\exp(\cos(x_i, y_i) / \tau)}{\sum_j \exp(\cos(x_i, y_j) / \tau)}

    Args:
        first: One view, ``[N, d]``.
        second: The other view, ``[N, d]``; row *i* belongs with row *i* of ``first``.
        temperature: :math:`\tau`.
        reduction: ``"mean"`` or ``"sum"`` over the rows.

    Returns:
        A scalar.
    """
    logits = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(first), device=first.device), reduction=reduction)
