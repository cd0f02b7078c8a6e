"""Balanced assignment of vectors to codes by Sinkhorn's algorithm."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Centred costs span at most 2, so a kernel entry can be as small as exp(-2 / epsilon). Below this epsilon, such an
# entry times the smallest required scaling is out of the range of float64.
_SMALLEST_SCALING_EPSILON = 2 / 680


def centred_costs(distances: Tensor) -> Tensor:
    """Scale every matrix linearly to ``[-1, 1]``, so that one epsilon suits distances of any size.

    Args:
        distances: ``[..., N, K]``, finite.

    Returns:
        float64 ``[..., N, K]``; zeros where all distances of a matrix are equal.
    """
    distances = distances.double()
    low, high = distances.amin((-2, -1), keepdim=True), distances.amax((-2, -1), keepdim=True)
    half_range = (high - low) / 2
    flat = half_range == 0
    costs = (distances - (high + low) / 2) / half_range.masked_fill(flat, 1.0)
    return costs.masked_fill(flat, 0.0)


def sinkhorn_plan(costs: Tensor, epsilon: float = 0.003, n_iterations: int = 50) -> Tensor:
    r"""Entropic transport plan between rows of equal weight and codes of equal weight.

    Starting from :math:`Q = \exp(-C / \epsilon)`, every iteration scales rows to sum to :math:`1/N` and then columns
    to sum to :math:`1/K` (Cuturi, "Sinkhorn Distances", NeurIPS 2013). The plan is returned times :math:`N`: a row
    then sums to about 1 and a column to exactly :math:`N/K`.

    Args:
        costs: ``[..., N, K]`` in ``[-1, 1]``, see :func:`centred_costs`. Leading dimensions are separate problems.
        epsilon: Strength of the entropy; smaller values are closer to a hard assignment.
        n_iterations: Number of row and column scalings.

    Returns:
        float64 ``[..., N, K]``.
    """
    costs = costs.double()
    if epsilon < _SMALLEST_SCALING_EPSILON:
        return sinkhorn_plan_in_logarithms(costs, epsilon, n_iterations)
    n_rows, n_codes = costs.shape[-2:]
    # Subtracting each row's minimum changes only the first row scaling, and bounds the kernel by 1.
    kernel = torch.exp((costs.amin(-1, keepdim=True) - costs) / epsilon)
    code_scale = kernel.new_ones(*kernel.shape[:-2], n_codes, 1)
    for _ in range(n_iterations):
        row_scale = (kernel @ code_scale).reciprocal_()
        code_scale = (kernel.mT @ row_scale).reciprocal_().mul_(n_rows / n_codes)
    return kernel * row_scale * code_scale.mT


def sinkhorn_plan_in_logarithms(costs: Tensor, epsilon: float, n_iterations: int) -> Tensor:
    """Compute the plan of :func:`sinkhorn_plan` with logarithmic scalings: slower, but safe for any epsilon."""
    log_kernel = -costs.double() / epsilon
    n_rows, n_codes = costs.shape[-2:]
    log_code_scale = torch.zeros_like(log_kernel[..., :1, :])
    for _ in range(n_iterations):
        log_row_scale = -torch.logsumexp(log_kernel + log_code_scale, -1, keepdim=True) - math.log(n_rows)
        log_code_scale = -torch.logsumexp(log_kernel + log_row_scale, -2, keepdim=True) - math.log(n_codes)
    return torch.exp(log_kernel + log_row_scale + log_code_scale + math.log(n_rows))


@torch.no_grad()
def balanced_codes(distances: Tensor, epsilon: float = 0.003, n_iterations: int = 50) -> Tensor:
    """Return, for each row, the code with the largest share of it in the balanced plan.

    With few rows, many codes belong to a single row and hold equal shares of it. The nearest of them is chosen, because
    the largest entry of the plan would depend on rounding.

    Args:
        distances: Squared distances of rows to codes, ``[..., N, K]``.
        epsilon: See :func:`sinkhorn_plan`.
        n_iterations: See :func:`sinkhorn_plan`.

    Returns:
        int64 ``[..., N]``.
    """
    costs = centred_costs(distances)
    plan = sinkhorn_plan(costs, epsilon, n_iterations)
    # The tolerance is far above rounding errors and far below meaningful differences.
    beaten = plan < plan.amax(-1, keepdim=True) * (1 - 1e-9)
    return costs.masked_fill(beaten, torch.inf).argmin(-1)
