"""Values that RecBole's models store with their weights, in a form that loads without running code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender

_FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")


class PortableArray:
    """A NumPy array (or matrix) that is pickled as a tensor."""

    def __init__(self, array: np.ndarray):
        self._array = array

    def __reduce__(self) -> tuple[Any, ...]:
        return restore_array, (torch.from_numpy(np.array(self._array)), isinstance(self._array, np.matrix))


class PortableMatrix:
    """A SciPy sparse matrix that is pickled as tensors."""

    def __init__(self, matrix: Any):
        self._matrix = matrix

    def __reduce__(self) -> tuple[Any, ...]:
        triplets = self._matrix.tocoo()
        parts = (torch.from_numpy(np.array(part)) for part in (triplets.data, triplets.row, triplets.col))
        return restore_matrix, (self._matrix.format, tuple(self._matrix.shape), *parts)


def restore_array(values: torch.Tensor, is_matrix: bool) -> np.ndarray:
    """The array that :class:`PortableArray` was made from."""
    array = values.numpy()
    return np.asmatrix(array) if is_matrix else array


def restore_matrix(
    kind: str, shape: tuple[int, int], values: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> Any:
    """The matrix that :class:`PortableMatrix` was made from."""
    if kind not in _FORMATS:
        raise ValueError(f"no sparse matrix is of the kind {kind}")
    return sp.coo_matrix((values.numpy(), (rows.numpy(), columns.numpy())), shape=shape).asformat(kind)


def portable_other_parameter(model: AbstractRecommender) -> dict[str, Any]:
    """Return ``model.other_parameter()`` without the parts in ``state_dict``, with portable arrays and matrices."""
    children = dict(model.named_children())
    values = {}
    for name, value in model.other_parameter().items():
        if isinstance(value, nn.Module) and children.get(name) is value:
            continue
        if isinstance(value, np.ndarray):
            value = PortableArray(value)
        elif sp.issparse(value):
            value = PortableMatrix(value)
        elif isinstance(value, dict):
            # The default of RippleNet's values would be refused when loading.
            value = dict(value)
        values[name] = value
    return values


def load_other_parameter(model: AbstractRecommender, values: Mapping[str, Any] | None, device: torch.device) -> None:
    """Call ``model.load_other_parameter()`` with tensors moved to the model's device."""
    values = values or {}
    model.load_other_parameter(
        {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in values.items()}
    )
