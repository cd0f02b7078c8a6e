"""Trains the RQ-VAE and computes every user's codes."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from recbole_gserec.errors import SettingError
from recbole_gserec.layers import balanced_codes
from recbole_gserec.preprocess.codebook_metrics import (
    ROWS_PER_CHUNK,
    codebook_metrics,
    collision_rate,
    reconstruction_error,
    separate_collisions,
)
from recbole_gserec.preprocess.rqvae import RQVAE, SIDES, RunFile, TrainingRun, training_hash
from recbole_gserec.settings import RQVAESettings

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, dict[str, float]], None]

_MOST_ROWS_TO_CLUSTER = 20_000
_LOSSES = ("total", "reconstruction", "quantization", "contrastive")


@dataclass(frozen=True)
class RQVAEResult:
    """The result of training.

    Attributes:
        search_codes: int64 ``[U, L]``, coarse to fine.
        rec_codes: int64 ``[U, L]``.
        search_latents: :math:`z_s`, float32 ``[U, d_l]``.
        rec_latents: :math:`z_r`, float32 ``[U, d_l]``.
        history: One entry per check: ``epoch``, ``losses`` by name, ``collision_rate``, and ``changed``, the share of
            users with another code than a check before (1 at the first).
        metrics: :func:`codebook_metrics` of the codes, and ``nearest_collision_rate``, the collision rate of the
            nearest codes.
        best_epoch: The epoch that the codes come from, from 1 on.
        state_dict: State of the :class:`RQVAE` at that epoch, on the CPU.
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
    """Create the module described by ``settings``, ready for ``load_state_dict`` or training."""
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
    """Compute k-means centres of ``rows``, ``[N, d]``, from at most 20,000 of them: ``[n_centres, d]``.

    If there are no more distinct rows than centres, every distinct row is a centre. The other centres are rows with
    noise of a hundredth of their spread. They are close enough to be meaningful but not equal, so training can separate
    them.
    """
    values = rows.detach().cpu().numpy()
    if len(values) > max(_MOST_ROWS_TO_CLUSTER, 4 * n_centres):
        sample = generator.choice(len(values), max(_MOST_ROWS_TO_CLUSTER, 4 * n_centres), replace=False)
        values = values[np.sort(sample)]
    seed = int(generator.integers(2**31))
    distinct = np.unique(values, axis=0)
    if len(distinct) > n_centres:
        # With several threads, the order of additions varies from run to run.
        with threadpool_limits(limits=1):
            centres = KMeans(n_centres, n_init=1, max_iter=100, random_state=seed).fit(values).cluster_centers_
    else:
        extra = values[generator.integers(len(values), size=n_centres - len(distinct))]
        noise = 0.01 * max(float(values.std(axis=0).mean()), 1e-6) * generator.standard_normal(extra.shape)
        centres = np.concatenate([distinct, extra + noise])
    return torch.as_tensor(centres, dtype=rows.dtype, device=rows.device)


def learning_rate_factor(step: int, n_warmup: int, n_steps: int) -> float:
    """Return the share of the peak learning rate at ``step``, from 0: linearly up to 1, then down towards 0."""
    return min((step + 1) / (n_warmup + 1), (n_steps - step) / (n_steps - n_warmup))


def has_settled(history: Sequence[Mapping[str, Any]], settings: RQVAESettings) -> bool:
    """Return whether each of the last ``stopping_checks`` checks found little change.

    Checks of the warm-up do not count. The schedule of the learning rate is never shortened: codes that no longer
    change at a rate change even less at the lower ones that would follow.

    Args:
        history: See :class:`RQVAEResult`.
        settings: With 0 ``stopping_checks``, nothing ever settles.
    """
    n_checks = settings.stopping_checks
    if n_checks == 0 or len(history) <= n_checks or history[-n_checks]["epoch"] <= settings.warmup_epochs:
        return False
    return all(
        check["changed"] <= settings.stopping_changed
        and check["losses"]["reconstruction"]
        >= before["losses"]["reconstruction"] * (1 - settings.stopping_improvement)
        for before, check in pairwise(history[-n_checks - 1 :])
    )


def train_rqvae(
    search_vectors: np.ndarray,
    rec_vectors: np.ndarray,
    settings: RQVAESettings,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    save_every_s: float = 60.0,
) -> RQVAEResult:
    """Train an :class:`RQVAE` on all users and give each of them codes.

    Equal arguments give equal results on one machine. The global random state is neither read nor changed. With a
    ``checkpoint``, an interrupted training that is called again resumes from the last saved state, with the same result
    as an uninterrupted run. The last epoch's state stays in the file: remove it when the codes are stored.

    Args:
        search_vectors: Embedded search preferences, float32 ``[U, d_e]``.
        rec_vectors: Embedded recommendation preferences of the same users, float32 ``[U, d_e]``.
        settings: Settings of the training.
        device: Device for training.
        progress: Called after every epoch with its number from 1 on, the number of epochs, and its mean losses by name.
            A resumed training first calls it with the last saved epoch.
        checkpoint: File for the state of the training. A file from other settings, vectors or versions is overwritten.
        save_every_s: Minimum number of seconds between two saves; 0 saves every epoch.

    Raises:
        SettingError: If the loss becomes NaN or infinite.
        InterruptedWorkError: If the state cannot be saved.
        ValueError: If the vectors are not two finite matrices with equally many rows.
    """
    vectors = {"search": _as_tensor(search_vectors, device), "rec": _as_tensor(rec_vectors, device)}
    n_users = len(vectors["search"])
    if n_users == 0 or n_users != len(vectors["rec"]):
        raise ValueError(f"{n_users} search vectors and {len(vectors['rec'])} recommendation vectors")

    n_batches = math.ceil(n_users / settings.batch_size)
    run = _new_run(vectors, settings, n_batches)
    file = None if checkpoint is None else RunFile(checkpoint, training_hash(settings, vectors), save_every_s)
    if file is not None and file.restore(run):
        logger.info("Resuming the RQ-VAE training after epoch %d of %d", run.epoch, settings.epochs)
        if progress is not None:
            progress(run.epoch, settings.epochs, run.losses)
    elif settings.kmeans_init:
        _place_codes(run.model, vectors, settings)

    for epoch in range(run.epoch + 1, settings.epochs + 1):
        if has_settled(run.history, settings):
            logger.info("The codes have settled: the RQ-VAE's training ends after epoch %d", run.epoch)
            break
        order = torch.randperm(n_users, generator=run.generator).to(device)
        losses = _train_epoch(run, vectors, order.tensor_split(n_batches), settings)
        if not math.isfinite(losses["total"]):
            advice = f"Lower its learning rate, which is {settings.learning_rate}."
            raise SettingError(f"RQ-VAE training diverged: the loss of epoch {epoch} is {losses['total']}. {advice}")
        run.epoch, run.losses = epoch, losses
        if epoch % settings.check_every == 0 or epoch == settings.epochs:
            _check(run, vectors, settings)
        if file is not None:
            file.save(run, now=epoch == settings.epochs or has_settled(run.history, settings))
        if progress is not None:
            progress(epoch, settings.epochs, losses)

    run.model.load_state_dict(run.best_state)
    return _result(run.model, vectors, settings, run.history, run.best_epoch)


def _new_run(vectors: dict[str, Tensor], settings: RQVAESettings, n_batches: int) -> TrainingRun:
    """Create a model with random weights on the device of ``vectors``, with its optimizer and schedule."""
    generator = torch.Generator().manual_seed(settings.seed)
    model = build_rqvae(vectors["search"].shape[1], vectors["rec"].shape[1], settings, generator)
    model.to(vectors["search"].device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    factor = partial(
        learning_rate_factor, n_warmup=settings.warmup_epochs * n_batches, n_steps=settings.epochs * n_batches
    )
    return TrainingRun(model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor), generator)


def _place_codes(model: RQVAE, vectors: dict[str, Tensor], settings: RQVAESettings) -> None:
    """Start every codebook at the k-means centres of its inputs."""
    cluster = partial(kmeans_centres, generator=np.random.default_rng(settings.seed))
    for side in SIDES:
        autoencoder = model.side(side)
        autoencoder.quantizer.initialise(_by_chunks(autoencoder.encoder, vectors[side]), cluster)


def _check(run: TrainingRun, vectors: dict[str, Tensor], settings: RQVAESettings) -> None:
    """Record the state of the codes after the last epoch, and its weights if they are the best so far."""
    codes = {side: _by_chunks(run.model.side(side).encode, vectors[side]).cpu() for side in SIDES}
    rate, changed = _mean_collision_rate(codes), _changed_share(run.codes, codes)
    run.history.append({"epoch": run.epoch, "losses": run.losses, "collision_rate": rate, "changed": changed})
    run.codes = codes
    logger.debug("epoch %d: %s, collision rate %.4f", run.epoch, run.losses, rate)
    # The k-means start has few collisions before anything is learnt, so epochs of the warm-up do not count. Of epochs
    # with equal rates, the last one has learnt most.
    if run.epoch > settings.warmup_epochs and (rate <= run.best_rate or not settings.keep_best):
        run.best_epoch, run.best_rate = run.epoch, rate
        run.best_state = {name: value.detach().clone() for name, value in run.model.state_dict().items()}


def _train_epoch(
    run: TrainingRun, vectors: dict[str, Tensor], batches: tuple[Tensor, ...], settings: RQVAESettings
) -> dict[str, float]:
    """Train for one pass over ``batches`` of user rows; return mean losses per user by name."""
    run.model.train()
    sums = torch.zeros(len(_LOSSES), device=batches[0].device)
    for rows in batches:
        losses = run.model(vectors["search"][rows], vectors["rec"][rows])
        run.optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), settings.clip_grad_norm)
        run.optimizer.step()
        run.schedule.step()
        # Kept on the device, because reading a value waits for it.
        sums += len(rows) * torch.stack([getattr(losses, name).detach() for name in _LOSSES])
    means = (sums / sum(map(len, batches))).tolist()
    return dict(zip(_LOSSES, means, strict=True))


def _mean_collision_rate(codes: Mapping[str, Tensor]) -> float:
    """Return the collision rate of the codes by side, averaged over both sides."""
    return sum(collision_rate(side.numpy()) for side in codes.values()) / len(codes)


def _changed_share(before: Mapping[str, Tensor], codes: Mapping[str, Tensor]) -> float:
    """Return the share of users with another code on either side, or 1 if there are no codes ``before``."""
    if not before:
        return 1.0
    differ = torch.stack([(before[side] != codes[side]).any(1) for side in SIDES]).any(0)
    return differ.double().mean().item()


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
        autoencoder = model.side(side)
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
        settings.codebook_sizes,
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
    """Apply ``function`` to ``rows``, a bounded number of rows at a time."""
    return torch.cat([function(chunk) for chunk in rows.split(ROWS_PER_CHUNK)])


def _as_tensor(vectors: np.ndarray, device: str | torch.device) -> Tensor:
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"vectors must be a finite matrix, not an array of shape {vectors.shape}")
    if not vectors.flags.writeable:
        # torch warns about read-only memory, such as a file mapped for reading.
        vectors = vectors.copy()
    return torch.from_numpy(vectors).to(device)
