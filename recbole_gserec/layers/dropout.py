"""Dropout that costs little on a CPU, and torch's containers with types that type checkers understand."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 8


class Dropout(nn.Module):
    """Dropout; on a CPU, its mask uses 8 random bits per element.

    Torch's own dropout draws one Mersenne twister number per element on a CPU, which took up to half of a forward pass
    of the Transformers in this package. The probability is rounded to a multiple of 1/256, and values are scaled
    accordingly. Masks depend on torch's random state, so ``torch.manual_seed`` makes them reproducible.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return values
        if values.device.type != "cpu":
            return F.dropout(values, self.p)
        dropped = min(round(self.p * _LEVELS), _LEVELS - 1)
        return _Mask.apply(values, _keep(values.shape, dropped), _LEVELS / (_LEVELS - dropped))

    def extra_repr(self) -> str:
        return f"p={self.p}"


def _keep(shape: torch.Size, dropped: int) -> Tensor:
    """Draw a random mask of bytes, 0 with probability ``dropped / 256`` and otherwise 1."""
    # NumPy compares bytes, and torch multiplies by bytes, several times faster than torch does with booleans.
    n_elements = shape.numel()
    bits = np.random.SFC64(int(torch.randint(2**62, ()))).random_raw(-(-n_elements // 8)).view(np.uint8)
    return torch.from_numpy((bits[:n_elements] >= dropped).view(np.uint8)).view(shape)


class _Mask(torch.autograd.Function):
    """``values * keep * scale``; stores the mask as one byte per element."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (values * keep).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return (gradient * keep).mul_(ctx.scale), None, None


M = TypeVar("M", bound=nn.Module)


class ModuleList(nn.ModuleList, Generic[M]):
    """``nn.ModuleList`` of modules of one type."""

    if TYPE_CHECKING:

        def __init__(self, modules: Iterable[M] | None = None) -> None: ...

        @overload
        def __getitem__(self, idx: slice) -> ModuleList[M]: ...
        @overload
        def __getitem__(self, idx: int) -> M: ...
        def __getitem__(self, idx: int | slice) -> M | ModuleList[M]: ...

        def __iter__(self) -> Iterator[M]: ...


class ModuleDict(nn.ModuleDict, Generic[M]):
    """``nn.ModuleDict`` of modules of one type."""

    if TYPE_CHECKING:

        def __init__(self, modules: Mapping[str, M] | None = None) -> None: ...

        def __getitem__(self, key: str) -> M: ...

        def items(self) -> ItemsView[str, M]: ...

        def values(self) -> ValuesView[M]: ...
