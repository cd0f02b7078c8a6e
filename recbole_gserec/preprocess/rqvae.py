"""The two-sided RQ-VAE that turns preference vectors into codes (Eq. 1 to 6 of GSERec), and its training file."""

import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import recbole_gserec
from recbole_gserec.errors import InterruptedWorkError, one_line
from recbole_gserec.files import load_tensors, save_tensors
from recbole_gserec.layers import Assignment, CosineSimilarity, ResidualQuantizer, nt_xent
from recbole_gserec.settings import RQVAESettings

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
        codebook_size: :math:`N_c`, of every level, or of each.
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
        codebook_size: int | Sequence[int] = 256,
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


logger = logging.getLogger(__name__)

_STATEFUL = ("model", "optimizer", "schedule")
_PLAIN = ("epoch", "losses", "history", "codes", "best_epoch", "best_rate", "best_state")


@dataclass
class TrainingRun:
    """Everything that changes from epoch to epoch.

    Attributes:
        model: The model in training.
        optimizer: Optimizer of its parameters.
        schedule: Schedule of the learning rate.
        generator: CPU generator that draws the order of the users.
        epoch: The last finished epoch; 0 before the first.
        losses: Losses of that epoch, by name.
        history: One entry per check, see :class:`~recbole_gserec.preprocess.rqvae_training.RQVAEResult`.
        codes: Nearest codes at the last check, by side, int64 ``[U, L]``; empty before the first.
        best_epoch: The epoch that the codes would come from; 0 if there is none yet.
        best_rate: Its collision rate.
        best_state: The model's state at that epoch.
    """

    model: RQVAE
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    epoch: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    codes: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_rate: float = math.inf
    best_state: dict[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors, numbers, texts, lists and dictionaries; tensors are shared, not copied."""
        state = {name: dict(getattr(self, name).state_dict()) for name in _STATEFUL}
        state |= {name: getattr(self, name) for name in _PLAIN}
        return state | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; its tensors may be on another device than the model."""
        for name in _STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        for name in _PLAIN:
            setattr(self, name, state[name])
        self.generator.set_state(state["generator"])


def training_hash(settings: RQVAESettings, vectors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of everything that training depends on: runs with equal hashes can resume each other.

    Args:
        settings: Settings of the training.
        vectors: By side, float32 ``[U, d_e]``, on the device of the training.
    """
    made_by = {"torch": torch.__version__, "recbole-gserec": recbole_gserec.__version__}
    devices = sorted({rows.device.type for rows in vectors.values()})
    shapes = {side: list(rows.shape) for side, rows in vectors.items()}
    facts = {"settings": asdict(settings), "shapes": shapes, "devices": devices, "made_by": made_by}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for _, rows in sorted(vectors.items()):
        digest.update(rows.cpu().contiguous().numpy().data)
    return digest.hexdigest()


class RunFile:
    """A file with the state of a :class:`TrainingRun` after an epoch, complete at any time.

    ``torch.load(path, weights_only=True)`` reads it. It contains the run's :meth:`~TrainingRun.state_dict`, and the
    ``run_hash`` that it belongs to.

    Args:
        path: Path of the file, which may not exist yet.
        run_hash: See :func:`training_hash`.
        save_every_s: Minimum number of seconds between two saves.
    """

    def __init__(self, path: Path, run_hash: str, save_every_s: float):
        self.path, self.run_hash, self.save_every_s = Path(path), run_hash, save_every_s
        self._saved_at = time.monotonic()

    def restore(self, run: TrainingRun) -> bool:
        """Restore ``run`` from the file.

        Returns:
            False, with ``run`` as it was, if there is no file, or it is damaged or of another run.
        """
        try:
            state = self._read()
        except FileNotFoundError:
            return False
        except Exception as error:  # Damaged bytes can raise almost any error in torch.
            logger.warning("%s is damaged, so the RQ-VAE's training starts again (%s)", self.path, one_line(error))
            return False
        if state.get("run_hash") != self.run_hash:
            logger.info("%s belongs to other settings, vectors or versions, and will be overwritten", self.path)
            return False
        run.load_state_dict(state)
        return True

    def save(self, run: TrainingRun, *, now: bool = False) -> None:
        """Save the state of ``run`` if enough time has passed, or always with ``now``.

        Raises:
            InterruptedWorkError: If it cannot be written, for example because the disk is full.
        """
        if not now and time.monotonic() - self._saved_at < self.save_every_s:
            return
        try:
            save_tensors({"run_hash": self.run_hash, **run.state_dict()}, self.path)
        except OSError as error:
            reason = f"the RQ-VAE's training cannot be saved to {self.path} ({error.strerror or error})"
            raise InterruptedWorkError(f"{reason}. Free some space, then start again") from error
        self._saved_at = time.monotonic()

    def _read(self) -> dict[str, Any]:
        # The generator's state must be on the CPU; loading into the model moves the rest.
        state = load_tensors(self.path, "The RQ-VAE's training starts again")
        if not isinstance(state, dict):
            raise ValueError("it has no training state")
        return state
