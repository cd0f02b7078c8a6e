"""Resumes a killed training from its last stored epoch, with the same results as an uninterrupted one.

RecBole's own checkpoints contain the weights of the best epoch, but not everything that the next epochs depend on:
random states, all optimisers and learning rate schedules, the number of epochs without improvement, and what a model
counts or collects. Gradient scaling (``enable_scaler``) starts again in each epoch, as in RecBole, so it needs no
stored state.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import torch
from recbole.trainer import Trainer
from torch.optim.lr_scheduler import LRScheduler

from recbole_gserec import torch_files
from recbole_gserec.checkpoint import check_checkpoint
from recbole_gserec.errors import CheckpointError
from recbole_gserec.narrowing import not_none
from recbole_gserec.portable_values import load_other_parameter, portable_other_parameter
from recbole_gserec.random_states import global_states, own_states, set_global_states, set_own_states
from recbole_gserec.unsaved_state import UnsavedState

FORMAT = 3
_ANEW = "The training starts from the beginning"

logger = logging.getLogger(__name__)


if TYPE_CHECKING:
    from recbole.trainer import Trainer as _Trainer
else:
    _Trainer = object


class ResumableTraining(_Trainer):
    """Mixin that comes before a RecBole trainer class; it does not change results.

    A training is resumed if the file of its state is complete, was written with the same ``training_identity``, and is
    next to the checkpoint of the best epoch. Otherwise it starts from the beginning. The file stays after the training:
    remove it when the results are stored.

    Attributes:
        state_file: Where to store the state; None stores nothing.
        training_identity: Everything that the results depend on, as JSON values: settings, data, versions.
        save_every_s: Minimum number of seconds between two stored epochs; 0 stores all.
        resumed_epochs: Number of epochs that were not trained again; 0 for a training from the beginning.
    """

    state_file: Path | None = None
    training_identity: Mapping[str, Any] | None = None
    save_every_s: float = 60.0
    resumed_epochs = 0
    start_epoch: int
    _unsaved: UnsavedState

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], Any] | None = None,
    ) -> tuple[float, Any]:
        """Train as RecBole does, from the stored epoch on."""
        run = {"verbose": verbose, "saved": saved, "show_progress": show_progress}
        if self.state_file is None or not saved or not valid_data:
            return super().fit(train_data, valid_data, callback_fn=callback_fn, **run)
        self._unsaved = UnsavedState(self.model)
        if self._restore(train_data):
            self.resumed_epochs = self.start_epoch
            self.logger.info(f"Resuming an interrupted training after epoch {self.start_epoch - 1}")
            if self._is_over(self.start_epoch - 1):
                # Without an epoch to train, RecBole would save the last weights instead of the best.
                self.start_epoch, run["saved"] = self.epochs, False
        stored_at = monotonic()

        def after_epoch(epoch: int, score: float) -> None:
            nonlocal stored_at
            if monotonic() - stored_at >= self.save_every_s or self._is_over(epoch):
                self.store(train_data, epoch)
                stored_at = monotonic()
            if callback_fn is not None:
                callback_fn(epoch, score)

        return super().fit(train_data, valid_data, callback_fn=after_epoch, **run)

    def store(self, train_data: Any, epoch: int) -> None:
        """Write the state after an epoch, atomically."""
        result = self.best_valid_result
        unsaved = self._unsaved.changed()
        others = portable_other_parameter(self.model)
        state = {
            "format": FORMAT,
            "made_by": dict(self.training_identity or {}),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": result and {name: float(value) for name, value in result.items()},
            "state_dict": self.model.state_dict(),
            "other_parameter": {name: value for name, value in others.items() if f".{name}" not in unsaved},
            "unsaved": unsaved,
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers().items()},
            "schedulers": {name: scheduler.state_dict() for name, scheduler in self.schedulers().items()},
            "random": global_states(),
            "own_random": own_states(train_data, self.model),
            "noted": self.extra_state(),
        }
        torch_files.save(state, not_none(self.state_file))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return all optimisers by the names of their attributes, each once."""
        found = {name: value for name, value in vars(self).items() if isinstance(value, torch.optim.Optimizer)}
        # A trainer with several optimisers sets RecBole's ``optimizer`` to one after the other.
        if any(found["optimizer"] is value for name, value in found.items() if name != "optimizer"):
            del found["optimizer"]
        return found

    def schedulers(self) -> dict[str, LRScheduler]:
        """Return all learning rate schedules by the names of their attributes."""
        return {name: value for name, value in vars(self).items() if isinstance(value, LRScheduler)}

    def extra_state(self) -> dict[str, Any]:
        """Return what else a trainer needs to resume, as plain data."""
        return {}

    def restore_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`extra_state` returned."""

    def _restore(self, train_data: Any) -> bool:
        state = read_state(not_none(self.state_file), self.training_identity)
        if state is None or not Path(self.saved_model_file).is_file():
            return False
        try:
            check_checkpoint(self.saved_model_file)
        except CheckpointError as error:
            logger.warning(f"{error}. {_ANEW}")
            return False
        self.model.load_state_dict(state["state_dict"])
        load_other_parameter(self.model, state["other_parameter"], self.device)
        self._unsaved.take(state["unsaved"], self.device)
        for name, optimizer_state in state["optimizers"].items():
            getattr(self, name).load_state_dict(optimizer_state)
        for name, scheduler_state in state.get("schedulers", {}).items():
            getattr(self, name).load_state_dict(scheduler_state)
        self.start_epoch, self.cur_step = state["epoch"] + 1, state["cur_step"]
        self.best_valid_score, self.best_valid_result = state["best_valid_score"], state["best_valid_result"]
        self.restore_extra_state(state["noted"])
        set_own_states(state["own_random"], train_data, self.model)
        set_global_states(state["random"])
        return True

    def _is_over(self, epoch: int) -> bool:
        return epoch + 1 >= self.epochs or self.cur_step > self.stopping_step


def is_resumable(trainer_class: type[Trainer]) -> bool:
    """Return whether training is RecBole's plain loop over epochs, whose complete state is known."""
    return inspect.getattr_static(trainer_class, "fit") is Trainer.fit


def resumable(trainer_class: type, kind: type[ResumableTraining] = ResumableTraining) -> type:
    """Return a trainer class with :class:`ResumableTraining` before it, or the class itself if that is impossible."""
    if not is_resumable(trainer_class):
        return trainer_class
    return type(f"Resumable{trainer_class.__name__}", (kind, trainer_class), {})


def read_state(path: Path, training_identity: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a stored state; None if it is missing, damaged or of another training."""
    try:
        state = torch_files.load(path, _ANEW)
    except FileNotFoundError:
        return None
    except Exception:  # Damaged bytes can raise almost any error in torch.
        logger.warning(f"{path} is damaged. {_ANEW}")
        return None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        logger.warning(f"{path} comes from another version, or is not a stored training. {_ANEW}")
        return None
    if state["made_by"] != dict(training_identity or {}):
        logger.warning(f"{path} belongs to a training with other settings, data or versions: this one starts again")
        return None
    return state
