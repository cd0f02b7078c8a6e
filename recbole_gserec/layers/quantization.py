"""Residual quantization (Eq. 2, 3 and 5 of GSERec), and balanced assignment by Sinkhorn's algorithm."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.dropout import ModuleList

Assignment = Callable[[Tensor], Tensor]
Clustering = Callable[[Tensor, int], Tensor]

REDUCTIONS = ("mean", "sum")


class Quantized(NamedTuple):
    r"""The result of residual quantization for ``B`` vectors.

    Attributes:
        vectors: :math:`\hat{z}`, the sum of the chosen codes, ``[B, d]``; its gradient passes straight to the input.
        codes: int64 ``[B, L]``, coarse to fine.
        losses: Eq. 5 level by level, ``[L]``.
    """

    vectors: Tensor
    codes: Tensor
    losses: Tensor


def _smallest(values: Tensor) -> Tensor:
    """Return the index of the first smallest value of each row, ``[..., N, K]`` to int64 ``[..., N]``."""
    if values.device.type == "cpu":
        # NumPy takes a fifth of the time of torch.
        return torch.from_numpy(values.numpy().argmin(-1))
    return values.argmin(-1)


class Codebook(nn.Module):
    """One level: ``K`` learnable code vectors.

    Args:
        n_codes: ``K``.
        code_dim: ``d``.
        generator: Source of the initial values.
    """

    initialised: Tensor

    def __init__(self, n_codes: int, code_dim: int, generator: torch.Generator | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_codes, code_dim))
        # Part of the state, so that a loaded codebook is never initialised from data again.
        self.register_buffer("initialised", torch.tensor(False))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        nn.init.uniform_(self.weight, -1 / len(self.weight), 1 / len(self.weight), generator=generator)
        self.initialised.fill_(False)

    @torch.no_grad()
    def initialise(self, centres: Tensor) -> None:
        """Use ``centres``, ``[K, d]``, as code vectors."""
        self.weight.copy_(centres)
        self.initialised.fill_(True)

    @torch.no_grad()
    def distances(self, residuals: Tensor) -> Tensor:
        """Compute squared Euclidean distances of ``residuals``, ``[B, d]``, to all codes, ``[B, K]``."""
        norms = residuals.square().sum(1, keepdim=True) + self.weight.square().sum(1)
        return torch.addmm(norms, residuals, self.weight.T, alpha=-2).clamp_min_(0.0)

    @torch.no_grad()
    def nearest(self, residuals: Tensor) -> Tensor:
        """Return the index of the nearest code of each row (Eq. 2), int64 ``[B]``."""
        # The row's own norm is the same for all codes.
        return _smallest(torch.addmm(self.weight.square().sum(1), residuals, self.weight.T, alpha=-2))

    def forward(self, codes: Tensor) -> Tensor:
        """Return the vectors of ``codes``, ``[..., d]``."""
        return F.embedding(codes, self.weight)


def quantization_loss(residual: Tensor, code: Tensor, commitment_weight: float, reduction: str) -> Tensor:
    r"""One level of Eq. 5: :math:`\|sg[r] - e\|^2 + \beta \|r - sg[e]\|^2`.

    Args:
        residual: :math:`r`, ``[B, d]``.
        code: :math:`e`, the chosen code vectors, ``[B, d]``.
        commitment_weight: :math:`\beta`; the paper's equation has 1, the authors' code 0.25.
        reduction: ``"mean"`` over all elements, as the authors' code; ``"sum"`` over the vector and mean over rows,
            as the paper writes it.
    """
    loss = F.mse_loss(code, residual.detach()) + commitment_weight * F.mse_loss(residual, code.detach())
    return loss if reduction == "mean" else loss * residual.shape[1]


class ResidualQuantizer(nn.Module):
    r"""``L`` codebooks, each of which codes the residual of the previous ones.

    .. math::
        s_l = \arg\min_k \|r_{l-1} - e_k\|^2, \quad r_l = r_{l-1} - e_{s_l}, \quad r_0 = z, \quad
        \hat{z} = \sum_l e_{s_l}

    From "Benefit from Rich: Tackling Search Interaction Sparsity in Search Enhanced Recommendation", CIKM 2025, Eq. 2,
    3 and 5. Gradients reach :math:`z` from :math:`\hat{z}` unchanged (straight-through) and from the commitment of the
    first level; residuals of later levels are constants.

    Args:
        n_codebooks: ``L``.
        codebook_size: ``K``, codes of every level, or those of each.
        code_dim: ``d``.
        commitment_weight: See :func:`quantization_loss`.
        reduction: See :func:`quantization_loss`.
        balanced: Maps squared distances ``[B, K]`` to codes ``[B]``. In training, it replaces the nearest code at the
            last level, so that users who share the coarse codes spread over the fine ones.
        generator: Source of the initial values.
    """

    def __init__(
        self,
        n_codebooks: int,
        codebook_size: int | Sequence[int],
        code_dim: int,
        *,
        commitment_weight: float = 0.25,
        reduction: str = "mean",
        balanced: Assignment | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {REDUCTIONS}, not {reduction!r}")
        self.commitment_weight, self.reduction, self.balanced = commitment_weight, reduction, balanced
        sizes = [codebook_size] * n_codebooks if isinstance(codebook_size, int) else codebook_size
        if len(sizes) != n_codebooks:
            raise ValueError(f"{len(sizes)} sizes of {n_codebooks} codebooks")
        self.codebooks = ModuleList(Codebook(size, code_dim, generator) for size in sizes)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        for codebook in self.codebooks:
            codebook.reset_parameters(generator)

    @torch.no_grad()
    def initialise(self, latents: Tensor, cluster: Clustering) -> None:
        """Initialise the codes of every level with the centres of the residuals at that level.

        Initialised levels keep their codes.

        Args:
            latents: ``[N, d]``.
            cluster: Maps residuals ``[N, d]`` and ``K`` to centres ``[K, d]``.
        """
        residuals = latents
        for codebook in self.codebooks:
            if not codebook.initialised:
                codebook.initialise(cluster(residuals, len(codebook.weight)))
            residuals = residuals - codebook(codebook.nearest(residuals))

    def forward(self, latents: Tensor) -> Quantized:
        residual, total, codes, losses = latents, torch.zeros_like(latents), [], []
        for level, codebook in enumerate(self.codebooks, start=1):
            if self.training and self.balanced is not None and level == len(self.codebooks):
                chosen = self.balanced(codebook.distances(residual))
            else:
                chosen = codebook.nearest(residual)
            code = codebook(chosen)
            losses.append(quantization_loss(residual, code, self.commitment_weight, self.reduction))
            codes.append(chosen)
            # r - (r + sg[e - r]) has no derivative, so the next level's residual is a constant.
            residual = (residual - code).detach()
            total = total + code
        vectors = latents + (total - latents).detach()
        return Quantized(vectors, torch.stack(codes, dim=1), torch.stack(losses))

    @torch.no_grad()
    def encode(self, latents: Tensor) -> Tensor:
        """Return the nearest codes of ``latents``, ``[B, d]``, at every level: int64 ``[B, L]``."""
        residuals, codes = latents, []
        for codebook in self.codebooks:
            codes.append(codebook.nearest(residuals))
            residuals = residuals - codebook(codes[-1])
        return torch.stack(codes, dim=1)

    @torch.no_grad()
    def last_residuals(self, latents: Tensor, codes: Tensor) -> Tensor:
        """Return the residual of ``latents``, ``[B, d]``, before the last level of ``codes``, int64 ``[B, L]``."""
        residuals = latents
        for codebook, level in zip(self.codebooks[:-1], codes[:, :-1].unbind(1), strict=True):
            residuals = residuals - codebook(level)
        return residuals

    def decode(self, codes: Tensor) -> Tensor:
        """Sum the code vectors of ``codes``, int64 ``[B, L]``: ``[B, d]``."""
        vectors = [codebook(level) for codebook, level in zip(self.codebooks, codes.unbind(1), strict=True)]
        return sum(vectors[1:], vectors[0])


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
    low, high = distances.amin((-2, -1), keepdim=True).double(), distances.amax((-2, -1), keepdim=True).double()
    half_range = (high - low) / 2
    # Where all distances are equal, the numerator is 0.
    costs = distances.to(torch.float64, copy=True).sub_((high + low) / 2)
    return costs.div_(half_range.masked_fill_(half_range == 0, 1.0))


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
    kernel = (costs.amin(-1, keepdim=True) - costs).div_(epsilon).exp_()
    # With few rows, calling torch costs most: a single problem needs no columns and no new memory.
    is_single = kernel.dim() == 2
    times, transposed, ratio = torch.mv if is_single else torch.matmul, kernel.mT, n_rows / n_codes
    code_scale = kernel.new_ones(n_codes) if is_single else kernel.new_ones(*kernel.shape[:-2], n_codes, 1)
    row_scale = kernel.new_empty(n_rows) if is_single else kernel.new_empty(*kernel.shape[:-1], 1)
    for _ in range(n_iterations):
        times(kernel, code_scale, out=row_scale).reciprocal_()
        times(transposed, row_scale, out=code_scale).reciprocal_().mul_(ratio)
    return kernel.mul_(row_scale.view(*kernel.shape[:-1], 1)).mul_(code_scale.view(*kernel.shape[:-2], 1, n_codes))


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
    return _smallest(costs.masked_fill_(beaten, torch.inf))
