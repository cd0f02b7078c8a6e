"""The file from which a training of the RQ-VAE that was killed goes on."""

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
    """All that changes from epoch to epoch.

    Attributes:
        model: In training.
        optimizer: Of its parameters.
        schedule: Of the learning rate.
        generator: Draws the order of the users; on the CPU.
        epoch: The last one that is finished; 0 before the first.
        losses: Of that epoch, by name.
        history: One entry per check, see :class:`~recbole_gserec.preprocess.rqvae_training.RQVAEResult`.
        best_epoch: The one that the codes would come from; 0 while there is none.
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
        """Everything as tensors, numbers, texts, lists and dictionaries; tensors are shared, not copied."""
        state = {name: dict(getattr(self, name).state_dict()) for name in _STATEFUL}
        state |= {name: getattr(self, name) for name in _PLAIN}
        return state | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; its tensors may be on another device than the model."""
        for name in _STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        for name in _PLAIN:
            setattr(self, name, state[name])
        self.generator.set_state(state["generator"])


def hash_of_run(settings: RQVAESettings, vectors: Mapping[str, Tensor]) -> str:
    """Hexadecimal SHA-256 of all that decides how training goes: runs with equal hashes can go on from one another.

    Args:
        settings: Of the training.
        vectors: By side, float32 ``[U, d_e]``, on the device that trains.
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
    """A file with the state of a :class:`TrainingRun` after an epoch, whole at any moment.

    ``torch.load(path, weights_only=True)`` reads it: the run's :meth:`~TrainingRun.state_dict`, and as ``run_hash``
    what it belongs to.

    Args:
        path: Where the file is, or will be.
        run_hash: See :func:`hash_of_run`.
        save_every_s: Seconds between two saves, at least.
    """

    def __init__(self, path: Path, run_hash: str, save_every_s: float):
        self.path, self.run_hash, self.save_every_s = Path(path), run_hash, save_every_s
        self._saved_at = time.monotonic()

    def restore(self, run: TrainingRun) -> bool:
        """Bring ``run`` to the state in the file.

        Returns:
            False, with ``run`` as it was, if there is no file, or it is damaged or of another run.
        """
        try:
            state = self._read()
        except FileNotFoundError:
            return False
        except Exception as error:  # Damaged bytes make torch raise almost anything.
            logger.warning("%s is damaged, so the RQ-VAE's training starts anew (%s)", self.path, one_line(error))
            return False
        if state.get("run_hash") != self.run_hash:
            logger.info("%s is of other settings, vectors or versions, and will be overwritten", self.path)
            return False
        run.load_state_dict(state)
        return True

    def save(self, run: TrainingRun, *, now: bool = False) -> None:
        """Write the state of ``run``, if it is time to or must be ``now``.

        Raises:
            InterruptedWorkError: If it cannot be written, for example because the disk is full.
        """
        if not now and time.monotonic() - self._saved_at < self.save_every_s:
            return
        try:
            torch_files.save({"run_hash": self.run_hash, **run.state_dict()}, self.path)
        except OSError as error:
            reason = f"the RQ-VAE's training cannot be saved to {self.path} ({error.strerror or error})"
            raise InterruptedWorkError(f"{reason}. See that there is room for it, then start again") from error
        self._saved_at = time.monotonic()

    def _read(self) -> dict[str, Any]:
        # On the CPU, where the generator's state must be; loading into the model moves the rest.
        state = torch_files.load(self.path, "The RQ-VAE's training starts anew")
        if not isinstance(state, dict):
            raise ValueError("it has no training state")
        return state
