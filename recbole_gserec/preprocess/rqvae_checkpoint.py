"""The file from which an interrupted training of the RQ-VAE resumes."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import recbole_gserec
from recbole_gserec import torch_files
from recbole_gserec.errors import InterruptedWorkError, one_line
from recbole_gserec.preprocess.rqvae import RQVAE
from recbole_gserec.preprocess.rqvae_settings import RQVAESettings

logger = logging.getLogger(__name__)

_STATEFUL = ("model", "optimizer", "schedule")
_PLAIN = ("epoch", "losses", "history", "best_epoch", "best_rate", "best_state")


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
            torch_files.save({"run_hash": self.run_hash, **run.state_dict()}, self.path)
        except OSError as error:
            reason = f"the RQ-VAE's training cannot be saved to {self.path} ({error.strerror or error})"
            raise InterruptedWorkError(f"{reason}. Make room for it, then start again") from error
        self._saved_at = time.monotonic()

    def _read(self) -> dict[str, Any]:
        # The generator's state must be on the CPU; loading into the model moves the rest.
        state = torch_files.load(self.path, "The RQ-VAE's training starts again")
        if not isinstance(state, dict):
            raise ValueError("it has no training state")
        return state
