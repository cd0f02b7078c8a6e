"""Settings of the RQ-VAE and its training."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from recbole_gserec.errors import SettingError
from recbole_gserec.narrowing import is_number

_COUNTS = ("n_codebooks", "codebook_size", "code_dim", "epochs", "batch_size", "sinkhorn_iterations", "check_every")
_COUNTS_OR_ZERO = ("warmup_epochs", "collision_rounds", "seed")
_POSITIVE = ("tau_1", "learning_rate", "clip_grad_norm", "sinkhorn_epsilon")
_POSITIVE_OR_ZERO = ("lambda_rq", "lambda_rq_cl", "commitment_weight", "weight_decay")
_REDUCTIONS = ("mean", "sum")
_SWITCHES = ("kmeans_init", "sinkhorn", "resolve_collisions", "keep_best")


@dataclass(frozen=True)
class RQVAESettings:
    """Settings of ``train_rqvae``. The defaults are the paper's or, if it gives none, those of its authors' code.

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
        batch_size: Maximum number of users in a batch; an epoch is divided into batches of equal size.
        learning_rate: Peak learning rate of the schedule.
        weight_decay: Weight decay of AdamW.
        warmup_epochs: Epochs of linear warm-up, followed by a linear decay to 0.
        clip_grad_norm: Maximum norm of the gradient.
        kmeans_init: Whether codes start at the k-means centres of the data.
        sinkhorn: Whether the last level is assigned evenly during training.
        sinkhorn_epsilon: Entropy regularisation of that assignment.
        sinkhorn_iterations: Iterations of that assignment.
        resolve_collisions: Whether users who share all their codes are separated afterwards.
        collision_rounds: Maximum number of rounds for that.
        keep_best: Whether the codes come from the checked epoch after the warm-up with the lowest collision rate,
            instead of the last.
        check_every: Epochs between checks of the collision rate.
        seed: Random seed.

    Raises:
        SettingError: If a value has the wrong type or is out of range.
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
        if self.loss_reduction not in _REDUCTIONS:
            raise _wrong("loss_reduction", self.loss_reduction, f"one of {', '.join(_REDUCTIONS)}")
        for setting in fields(self):
            name, value = setting.name, getattr(self, setting.name)
            if name in _COUNTS and not _is_count(value):
                raise _wrong(name, value, "a whole number above 0")
            if name in _COUNTS_OR_ZERO and not (_is_count(value) or (value == 0 and value is not False)):
                raise _wrong(name, value, "a whole number, 0 or above")
            if name in _POSITIVE and not (_is_finite(value) and value > 0):
                raise _wrong(name, value, "a number above 0")
            if name in _POSITIVE_OR_ZERO and not (_is_finite(value) and value >= 0):
                raise _wrong(name, value, "a number, 0 or above")
            if name in _SWITCHES and not isinstance(value, bool):
                raise _wrong(name, value, "true or false")
        if self.warmup_epochs >= self.epochs:
            raise _wrong("warmup_epochs", self.warmup_epochs, f"less than epochs, which is {self.epochs}")


def _wrong(name: str, value: Any, expected: str) -> SettingError:
    return SettingError(f"RQ-VAE setting '{name}' is {value!r}; it must be {expected}.")


def _is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
