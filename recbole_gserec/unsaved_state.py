"""What a model keeps besides its weights and changes in training, such as the step of a loss's annealing."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from recbole_gserec.portable_values import PortableArray


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
