"""The two-sided RQ-VAE that turns preference vectors into codes: Eq. 1 to 6 of GSERec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.contrastive import CosineSimilarity, nt_xent
from recbole_gserec.layers.quantization import Assignment, ResidualQuantizer

SIDES = ("search", "rec")


@dataclass(frozen=True)
class RQVAELosses:
    """Losses of one batch, as scalars.

    Attributes:
        total: Eq. 6.
        reconstruction: Eq. 4.
        quantization: Eq. 5.
        contrastive: Eq. 1; a constant 0 when its weight is 0.
    """

    total: Tensor
    reconstruction: Tensor
    quantization: Tensor
    contrastive: Tensor


def perceptron(sizes: Sequence[int], generator: torch.Generator | None = None) -> nn.Sequential:
    """Create linear layers between ``sizes`` with ReLU between them; Xavier-normal weights, zero biases."""
    layers: list[nn.Module] = []
    for n_inputs, n_outputs in pairwise(sizes):
        # skip_init does not change the global random state; the generator below provides the values.
        linear = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs)
        nn.init.xavier_normal_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class SideAutoencoder(nn.Module):
    """Encoder, residual quantizer and decoder of one side, search or recommendation.

    Shapes:
        - vectors ``[B, d_e]``, latents ``[B, d_l]``, codes int64 ``[B, L]``.
    """

    def __init__(
        self,
        vector_dim: int,
        hidden_sizes: Sequence[int],
        quantizer: ResidualQuantizer,
        code_dim: int,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        sizes = [vector_dim, *hidden_sizes, code_dim]
        self.encoder = perceptron(sizes, generator)
        self.quantizer = quantizer
        self.decoder = perceptron(sizes[::-1], generator)

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Tensor:
        """Return the nearest codes of ``vectors``, level by level."""
        return self.quantizer.encode(self.encoder(vectors))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors that ``codes`` represent."""
        return self.decoder(self.quantizer.decode(codes))


class RQVAE(nn.Module):
    r"""Quantizes each user's search and recommendation preference with encoders, codebooks and decoders of their own.

    .. math::
        L = L_{Recon} + \lambda_{RQ} L_{RQ} + \lambda_{RQ\text{-}CL} L_{RQ\text{-}CL}

    From "Benefit from Rich: Tackling Search Interaction Sparsity in Search Enhanced Recommendation", CIKM 2025, section
    4.1.2. With ``reduction="mean"`` the squared errors are averaged over elements and, in Eq. 5, over levels and sides,
    as in the authors' code; with ``"sum"`` they are norms summed over levels and sides, as the equations read, and
    averaged over users. Eq. 1 is the normalised-temperature cross entropy with cosine similarity.

    Args:
        search_dim: Size of the search vectors.
        rec_dim: Size of the recommendation vectors.
        hidden_sizes: Layer widths between vector and latent; the decoder mirrors them.
        code_dim: :math:`d_l`.
        n_codebooks: ``L``, per side.
        codebook_size: :math:`N_c`, per level.
        lambda_rq: Weight of Eq. 5.
        lambda_rq_cl: Weight of Eq. 1.
        tau_1: Temperature of Eq. 1.
        commitment_weight: Weight of the encoder's term in Eq. 5.
        reduction: ``"mean"`` or ``"sum"``.
        balanced: Whether the last level is assigned evenly during training; see :class:`ResidualQuantizer`.
        generator: Source of the initial values.
    """

    def __init__(
        self,
        search_dim: int,
        rec_dim: int,
        *,
        hidden_sizes: Sequence[int] = (512, 256, 128, 64),
        code_dim: int = 32,
        n_codebooks: int = 4,
        codebook_size: int = 256,
        lambda_rq: float = 1.0,
        lambda_rq_cl: float = 1e-4,
        tau_1: float = 0.1,
        commitment_weight: float = 0.25,
        reduction: str = "mean",
        balanced: Assignment | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.lambda_rq, self.lambda_rq_cl, self.tau_1, self.reduction = lambda_rq, lambda_rq_cl, tau_1, reduction
        self.similarity = CosineSimilarity()

        def autoencoder(vector_dim: int) -> SideAutoencoder:
            quantizer = ResidualQuantizer(
                n_codebooks,
                codebook_size,
                code_dim,
                commitment_weight=commitment_weight,
                reduction=reduction,
                balanced=balanced,
                generator=generator,
            )
            return SideAutoencoder(vector_dim, hidden_sizes, quantizer, code_dim, generator)

        self.search, self.rec = autoencoder(search_dim), autoencoder(rec_dim)

    def side(self, name: str) -> SideAutoencoder:
        """Return the autoencoder of ``search`` or ``rec``."""
        return {"search": self.search, "rec": self.rec}[name]

    def forward(self, search_vectors: Tensor, rec_vectors: Tensor) -> RQVAELosses:
        """Compute the losses of users from their vectors, ``[B, d_e]`` each, with the same user in the same row."""
        search_latents, rec_latents = self.search.encoder(search_vectors), self.rec.encoder(rec_vectors)
        search, rec = self.search.quantizer(search_latents), self.rec.quantizer(rec_latents)

        level_losses = torch.cat([search.losses, rec.losses])
        quantization = level_losses.mean() if self.reduction == "mean" else level_losses.sum()

        reconstruction = self._error(self.search.decoder(search.vectors), search_vectors)
        reconstruction = reconstruction + self._error(self.rec.decoder(rec.vectors), rec_vectors)

        total = reconstruction + self.lambda_rq * quantization
        contrastive = total.new_zeros(())
        if self.lambda_rq_cl > 0:
            contrastive = nt_xent(search_latents, rec_latents, similarity=self.similarity, temperature=self.tau_1)
            total = total + self.lambda_rq_cl * contrastive
        return RQVAELosses(total, reconstruction, quantization, contrastive)

    def _error(self, reconstruction: Tensor, vectors: Tensor) -> Tensor:
        error = F.mse_loss(reconstruction, vectors)
        return error if self.reduction == "mean" else error * vectors.shape[1]
