"""Resuming a killed training from its last stored epoch, with the same numbers as an uninterrupted one.

RecBole's own checkpoints hold the weights of the best epoch. The next epochs also depend on the random states, the
optimiser, and on values that some models change while they train; all of them are stored here as plain data.

"""

from __future__ import annotations

import hashlib
import inspect
import logging
import random
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from recbole.trainer import Trainer
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from recbole_gserec.errors import CheckpointError, not_none
from recbole_gserec.files import load_tensors, save_tensors
from recbole_gserec.plugin.checkpoint import (
    PortableArray,
    check_checkpoint,
    load_other_parameter,
    portable_other_parameter,
)

if TYPE_CHECKING:
    from recbole.trainer import Trainer as _Trainer
else:
    _Trainer = object

Generator = torch.Generator | np.random.Generator


def global_states() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's global generators, readable with ``weights_only``."""
    state: Any = np.random.get_state()  # noqa: NPY002  (RecBole draws from it)
    kind, keys, *others = state
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *others),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_global_states(states: dict[str, Any]) -> None:
    """Restore the states from :func:`global_states`."""
    random.setstate(states["python"])
    kind, keys, *others = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *others))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def own_states(*owners: object) -> dict[str, Any]:
    """Return the states of generators that are attributes of objects, or of their modules and dataloaders."""
    return {name: _state(generator) for name, generator in _generators(owners)}


def set_own_states(states: dict[str, Any], *owners: object) -> None:
    """Restore the states from :func:`own_states`, for the same objects in their initial state."""
    for name, generator in _generators(owners):
        state = states[name]
        if isinstance(generator, torch.Generator):
            generator.set_state(state)
            continue
        bits: Any = generator.bit_generator
        bits.state = state["bits"]
        # Generators spawned from this one depend on the number of earlier ones.
        bits.seed_seq.spawn(state["spawned"] - bits.seed_seq.n_children_spawned)


def _state(generator: Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    bits: Any = generator.bit_generator
    return {"bits": bits.state, "spawned": bits.seed_seq.n_children_spawned}


def _generators(owners: tuple[object, ...]) -> Iterator[tuple[str, Generator]]:
    for index, owner in enumerate(owners):
        for part, value in _parts(owner):
            for name, attribute in vars(value).items():
                if isinstance(attribute, Generator):
                    yield f"{index}.{part}.{name}", attribute


def _parts(owner: object) -> Iterator[tuple[str, object]]:
    if isinstance(owner, nn.Module):
        yield from owner.named_modules()
        return
    yield "", owner
    # RecBole's dataloader for knowledge graphs has a generator for each of its two kinds of rows.
    yield from ((name, value) for name, value in vars(owner).items() if isinstance(value, DataLoader))


class UnsavedState:
    """Changed plain numbers, tensors and arrays among the attributes of a model and its modules.

    Unchanged values follow from the settings, so they are not stored. Lists and other objects are not searched.

    Args:
        model: The model, whose current values count as unchanged.
    """

    def __init__(self, model: nn.Module):
        self._model = model
        self._marks = {path: _mark(value) for path, value in _values(model)}

    def changed(self) -> dict[str, Any]:
        """Return attribute path -> value, readable by ``torch.load`` with ``weights_only``."""
        return {
            path: _portable(value)
            for path, value in _values(self._model)
            if path not in self._marks or not _is_marked(value, self._marks[path])
        }

    def take(self, changed: Mapping[str, Any], device: torch.device) -> None:
        """Set the values from :meth:`changed` in an equal model."""
        modules = dict(self._model.named_modules())
        for path, value in changed.items():
            part, _, name = path.rpartition(".")
            if isinstance(value, torch.Tensor):
                before = getattr(modules[part], name, None)
                value = value.to(before.device if isinstance(before, torch.Tensor) else device)
            setattr(modules[part], name, value)


def _values(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for part, module in model.named_modules():
        for name, value in vars(module).items():
            if name != "training" and _is_plain(value):
                yield f"{part}.{name}", value


def _is_plain(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype != object
    return value is None or type(value) in (bool, int, float) or isinstance(value, torch.Tensor)


def _mark(value: Any) -> Any:
    """Return a mark that identifies a value without a copy of it."""
    if isinstance(value, torch.Tensor):
        return weakref.ref(value), value._version
    return hashlib.sha256(value.tobytes()).digest() if isinstance(value, np.ndarray) else (type(value), value)


def _is_marked(value: Any, mark: Any) -> bool:
    if isinstance(value, torch.Tensor):
        is_tensor = isinstance(mark, tuple) and isinstance(mark[0], weakref.ref)
        return is_tensor and mark[0]() is value and mark[1] == value._version
    return mark == _mark(value)


def _portable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return PortableArray(value)
    # Copied, because saving a view of a tensor would write all of the tensor.
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


FORMAT = 3
_ANEW = "The training starts from the beginning"

logger = logging.getLogger(__name__)


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
        save_tensors(state, not_none(self.state_file))

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
        state = load_tensors(path, _ANEW)
    except FileNotFoundError:
        return None
    except Exception:  # Damaged bytes can raise almost any error in torch.
        logger.warning(f"{path} is damaged. {_ANEW}")
        return None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        logger.warning(f"{path} comes from another version, or is not a stored training. {_ANEW}")
        return None
    if state["made_by"] != dict(training_identity or {}):
        logger.warning(
            f"{path} belongs to a training with other settings, data or versions: training starts from the beginning"
        )
        return None
    return state
