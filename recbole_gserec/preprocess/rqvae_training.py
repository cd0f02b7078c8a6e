"""Training the RQ-VAE and reading off every user's codes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from recbole_gserec.errors import SettingError
from recbole_gserec.layers.quantization import REDUCTIONS
from recbole_gserec.layers.sinkhorn import balanced_codes
from recbole_gserec.preprocess.codebook_metrics import (
    ROWS_PER_CHUNK,
    codebook_metrics,
    collision_rate,
    reconstruction_error,
)
from recbole_gserec.preprocess.collisions import separate_collisions
from recbole_gserec.preprocess.rqvae import RQVAE, SIDES

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, dict[str, float]], None]

_MOST_ROWS_TO_CLUSTER = 20_000
_LOSSES = ("total", "reconstruction", "quantization", "contrastive")

_COUNTS = ("n_codebooks", "codebook_size", "code_dim", "epochs", "batch_size", "sinkhorn_iterations", "check_every")
_COUNTS_OR_ZERO = ("warmup_epochs", "collision_rounds", "seed")
_POSITIVE = ("tau_1", "learning_rate", "clip_grad_norm", "sinkhorn_epsilon")
_POSITIVE_OR_ZERO = ("lambda_rq", "lambda_rq_cl", "commitment_weight", "weight_decay")
_SWITCHES = ("kmeans_init", "sinkhorn", "resolve_collisions", "keep_best")


@dataclass(frozen=True)
class RQVAESettings:
    """Settings of :func:`train_rqvae`; the defaults are the paper's and, where it is silent, its authors' code's.

    Attributes:
        n_codebooks: Levels per side, :math:`L`.
        codebook_size: Codes per level, :math:`N_c`.
        code_dim: Size of latents and codes, :math:`d_l`.
        hidden_sizes: Widths of the encoder's hidden layers; the decoder mirrors them.
        lambda_rq: Weight of the quantization loss, Eq. 6.
        lambda_rq_cl: Weight of the contrastive loss, Eq. 6; tuned over 1e-4 to 1 in the paper.
        tau_1: Temperature of the contrastive loss.
        commitment_weight: Weight of the encoder's term in Eq. 5.
        loss_reduction: ``"mean"`` as the authors' code, ``"sum"`` as the equations; see :class:`RQVAE`.
        epochs: Passes over the users.
        batch_size: Most users in a batch; an epoch is cut into batches of equal size.
        learning_rate: Peak of the schedule.
        weight_decay: Of AdamW.
        warmup_epochs: Epochs of linear warm-up; a linear decay to 0 follows.
        clip_grad_norm: Largest norm of the gradient.
        kmeans_init: Whether codes start on the k-means centres of the data.
        sinkhorn: Whether the last level is assigned evenly while training.
        sinkhorn_epsilon: Entropy of that assignment.
        sinkhorn_iterations: Scalings of that assignment.
        resolve_collisions: Whether users who share all their codes are told apart afterwards.
        collision_rounds: Most rounds of that.
        keep_best: Whether the codes come from the checked epoch after the warm-up with the lowest collision rate, not
            from the last.
        check_every: Epochs between checks of the collision rate.
        seed: Determines everything random.

    Raises:
        SettingError: A value is of the wrong type or out of range.
    """

    n_codebooks: int = 4
    codebook_size: int = 256
    code_dim: int = 32
    hidden_sizes: tuple[int, ...] = (512, 256, 128, 64)
    lambda_rq: float = 1.0
    lambda_rq_cl: float = 1e-4
    tau_1: float = 0.1
    commitment_weight: float = 0.25
    loss_reduction: str = "mean"
    epochs: int = 500
    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 1e-7
    warmup_epochs: int = 50
    clip_grad_norm: float = 1.0
    kmeans_init: bool = True
    sinkhorn: bool = True
    sinkhorn_epsilon: float = 0.003
    sinkhorn_iterations: int = 50
    resolve_collisions: bool = True
    collision_rounds: int = 20
    keep_best: bool = True
    check_every: int = 10
    seed: int = 2024

    def __post_init__(self) -> None:
        if not isinstance(self.hidden_sizes, (list, tuple)) or not all(_is_count(size) for size in self.hidden_sizes):
            raise _wrong("hidden_sizes", self.hidden_sizes, "a list of whole numbers above 0")
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        if self.loss_reduction not in REDUCTIONS:
            raise _wrong("loss_reduction", self.loss_reduction, f"one of {', '.join(REDUCTIONS)}")
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in _COUNTS and not _is_count(value):
                raise _wrong(name, value, "a whole number above 0")
            if name in _COUNTS_OR_ZERO and not (_is_count(value) or (value == 0 and value is not False)):
                raise _wrong(name, value, "a whole number, 0 or above")
            if name in _POSITIVE and not (_is_number(value) and value > 0):
                raise _wrong(name, value, "a number above 0")
            if name in _POSITIVE_OR_ZERO and not (_is_number(value) and value >= 0):
                raise _wrong(name, value, "a number, 0 or above")
            if name in _SWITCHES and not isinstance(value, bool):
                raise _wrong(name, value, "true or false")
        if self.warmup_epochs >= self.epochs:
            raise _wrong("warmup_epochs", self.warmup_epochs, f"less than epochs, which is {self.epochs}")


def _wrong(name: str, value: Any, expected: str) -> SettingError:
    return SettingError(f"RQ-VAE setting '{name}' is {value!r}; it must be {expected}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True)
class RQVAEResult:
    """What training leaves behind.

    Attributes:
        search_codes: int64 ``[U, L]``, coarse to fine.
        rec_codes: int64 ``[U, L]``.
        search_latents: :math:`z_s`, float32 ``[U, d_l]``.
        rec_latents: :math:`z_r`, float32 ``[U, d_l]``.
        history: One entry per check: ``epoch``, ``losses`` by name, and ``collision_rate``.
        metrics: :func:`codebook_metrics` of the codes, and ``nearest_collision_rate``, that of the nearest codes.
        best_epoch: The epoch that the codes come from, from 1 on.
        state_dict: Of the :class:`RQVAE` at that epoch, on the CPU.
    """

    search_codes: np.ndarray
    rec_codes: np.ndarray
    search_latents: np.ndarray
    rec_latents: np.ndarray
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    best_epoch: int
    state_dict: dict[str, Tensor]


def build_rqvae(
    search_dim: int, rec_dim: int, settings: RQVAESettings, generator: torch.Generator | None = None
) -> RQVAE:
    """The module that ``settings`` describe, ready for ``load_state_dict`` or training."""
    balanced = partial(balanced_codes, epsilon=settings.sinkhorn_epsilon, n_iterations=settings.sinkhorn_iterations)
    return RQVAE(
        search_dim,
        rec_dim,
        hidden_sizes=settings.hidden_sizes,
        code_dim=settings.code_dim,
        n_codebooks=settings.n_codebooks,
        codebook_size=settings.codebook_size,
        lambda_rq=settings.lambda_rq,
        lambda_rq_cl=settings.lambda_rq_cl,
        tau_1=settings.tau_1,
        commitment_weight=settings.commitment_weight,
        reduction=settings.loss_reduction,
        balanced=balanced if settings.sinkhorn else None,
        generator=generator,
    )


def kmeans_centres(rows: Tensor, n_centres: int, generator: np.random.Generator) -> Tensor:
    """Centres of ``rows``, ``[N, d]``, by k-means on at most 20,000 of them: ``[n_centres, d]``.

    With no more distinct rows than centres every distinct row is a centre, and the others are drawn from the rows with
    noise of a hundredth of their spread: close enough to mean something, and not equal, so that training can tell them
    apart.
    """
    values = rows.detach().cpu().numpy()
    if len(values) > max(_MOST_ROWS_TO_CLUSTER, 4 * n_centres):
        sample = generator.choice(len(values), max(_MOST_ROWS_TO_CLUSTER, 4 * n_centres), replace=False)
        values = values[np.sort(sample)]
    seed = int(generator.integers(2**31))
    distinct = np.unique(values, axis=0)
    if len(distinct) > n_centres:
        # Several threads add up centres in an order that varies from run to run.
        with threadpool_limits(limits=1):
            centres = KMeans(n_centres, n_init=1, max_iter=100, random_state=seed).fit(values).cluster_centers_
    else:
        extra = values[generator.integers(len(values), size=n_centres - len(distinct))]
        noise = 0.01 * max(float(values.std(axis=0).mean()), 1e-6) * generator.standard_normal(extra.shape)
        centres = np.concatenate([distinct, extra + noise])
    return torch.as_tensor(centres, dtype=rows.dtype, device=rows.device)


def learning_rate_factor(step: int, n_warmup: int, n_steps: int) -> float:
    """Share of the peak learning rate at ``step``, counted from 0: up to 1 linearly, then down towards 0."""
    return min((step + 1) / (n_warmup + 1), (n_steps - step) / (n_steps - n_warmup))


def train_rqvae(
    search_vectors: np.ndarray,
    rec_vectors: np.ndarray,
    settings: RQVAESettings | None = None,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> RQVAEResult:
    """Train an :class:`RQVAE` on all users and give each of them codes.

    Equal arguments give equal results on one machine; the global random state is neither read nor changed.

    Args:
        search_vectors: Embedded search preferences, float32 ``[U, d_e]``.
        rec_vectors: Embedded recommendation preferences of the same users, float32 ``[U, d_e]``.
        settings: The defaults if none are given.
        device: Where to train.
        progress: Called after every epoch with its number from 1 on, the number of epochs, and its mean losses by name.

    Raises:
        SettingError: The loss stopped being a number.
        ValueError: The vectors are not two finite matrices with as many rows.
    """
    settings = settings or RQVAESettings()
    vectors = {"search": _as_tensor(search_vectors, device), "rec": _as_tensor(rec_vectors, device)}
    n_users = len(vectors["search"])
    if n_users == 0 or n_users != len(vectors["rec"]):
        raise ValueError(f"{n_users} search vectors and {len(vectors['rec'])} recommendation vectors")

    generator = torch.Generator().manual_seed(settings.seed)
    model = build_rqvae(vectors["search"].shape[1], vectors["rec"].shape[1], settings, generator).to(device)
    if settings.kmeans_init:
        cluster = partial(kmeans_centres, generator=np.random.default_rng(settings.seed))
        for side in SIDES:
            autoencoder = model.get_submodule(side)
            autoencoder.quantizer.initialise(_by_chunks(autoencoder.encoder, vectors[side]), cluster)

    n_batches = math.ceil(n_users / settings.batch_size)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    factor = partial(
        learning_rate_factor, n_warmup=settings.warmup_epochs * n_batches, n_steps=settings.epochs * n_batches
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    history: list[dict[str, Any]] = []
    best_epoch, best_rate, best_state = 0, math.inf, {}
    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(n_users, generator=generator).to(device)
        losses = _train_epoch(model, vectors, order.tensor_split(n_batches), optimizer, schedule, settings)
        if not math.isfinite(losses["total"]):
            remedy = f"Lower its learning rate, which is {settings.learning_rate}."
            raise SettingError(f"RQ-VAE training diverged: the loss of epoch {epoch} is {losses['total']}. {remedy}")
        if epoch % settings.check_every == 0 or epoch == settings.epochs:
            rate = _nearest_collision_rate(model, vectors)
            history.append({"epoch": epoch, "losses": losses, "collision_rate": rate})
            logger.debug("epoch %d: %s, collision rate %.4f", epoch, losses, rate)
            # The k-means start has few collisions before anything is learnt, so the warm-up does not compete. Of epochs
            # with equal rates the last has learnt most.
            if epoch > settings.warmup_epochs and (rate <= best_rate or not settings.keep_best):
                best_epoch, best_rate = epoch, rate
                best_state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        if progress is not None:
            progress(epoch, settings.epochs, losses)

    model.load_state_dict(best_state)
    return _result(model, vectors, settings, history, best_epoch)


def _train_epoch(
    model: RQVAE,
    vectors: dict[str, Tensor],
    batches: tuple[Tensor, ...],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    settings: RQVAESettings,
) -> dict[str, float]:
    """One pass over ``batches`` of user rows; mean losses per user by name."""
    model.train()
    sums = torch.zeros(len(_LOSSES), device=batches[0].device)
    for rows in batches:
        losses = model(vectors["search"][rows], vectors["rec"][rows])
        optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_grad_norm)
        optimizer.step()
        schedule.step()
        # Kept on the device: reading a value makes it wait.
        sums += len(rows) * torch.stack([getattr(losses, name).detach() for name in _LOSSES])
    means = (sums / sum(map(len, batches))).tolist()
    return dict(zip(_LOSSES, means, strict=True))


def _nearest_collision_rate(model: RQVAE, vectors: dict[str, Tensor]) -> float:
    """Collision rate of the nearest codes, averaged over both sides."""
    codes = [_by_chunks(model.get_submodule(side).encode, vectors[side]) for side in SIDES]
    return sum(collision_rate(side.cpu().numpy()) for side in codes) / len(SIDES)


def _result(
    model: RQVAE,
    vectors: dict[str, Tensor],
    settings: RQVAESettings,
    history: list[dict[str, Any]],
    best_epoch: int,
) -> RQVAEResult:
    model.eval()
    latents, codes, errors, nearest_rates = {}, {}, {}, []
    for side in SIDES:
        autoencoder = model.get_submodule(side)
        latents[side] = _by_chunks(autoencoder.encoder, vectors[side])
        nearest = _by_chunks(autoencoder.quantizer.encode, latents[side])
        codes[side] = nearest.cpu().numpy()
        nearest_rates.append(collision_rate(codes[side]))
        if settings.resolve_collisions:
            codes[side] = separate_collisions(
                codes[side],
                autoencoder.quantizer.last_residuals(latents[side], nearest),
                autoencoder.quantizer.codebooks[-1],
                n_rounds=settings.collision_rounds,
                epsilon=settings.sinkhorn_epsilon,
                n_iterations=settings.sinkhorn_iterations,
            )
        final = torch.from_numpy(codes[side]).to(nearest.device)
        errors[side] = reconstruction_error(vectors[side], final, autoencoder.decode)
    metrics = codebook_metrics(
        codes["search"],
        codes["rec"],
        settings.codebook_size,
        search_error=errors["search"],
        rec_error=errors["rec"],
    )
    metrics["nearest_collision_rate"] = sum(nearest_rates) / len(SIDES)
    return RQVAEResult(
        search_codes=codes["search"],
        rec_codes=codes["rec"],
        search_latents=latents["search"].cpu().numpy(),
        rec_latents=latents["rec"].cpu().numpy(),
        history=history,
        metrics=metrics,
        best_epoch=best_epoch,
        state_dict={name: value.cpu() for name, value in model.state_dict().items()},
    )


@torch.no_grad()
def _by_chunks(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """``function`` of ``rows``, a bounded number of rows at a time."""
    return torch.cat([function(chunk) for chunk in rows.split(ROWS_PER_CHUNK)])


def _as_tensor(vectors: np.ndarray, device: str | torch.device) -> Tensor:
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"vectors must be a finite matrix, not an array of shape {vectors.shape}")
    if not vectors.flags.writeable:
        # torch warns about memory that it must not write to, such as a file mapped for reading.
        vectors = vectors.copy()
    return torch.from_numpy(vectors).to(device)
