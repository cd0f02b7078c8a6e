"""Histories without their padding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where the real events of a batch of padded histories lie.

    Work on single events (embedding, linear layers, norms) is done on packed ``[T, d]`` values; only attention, which
    looks across a row, needs the padded form.

    Shapes:
        - **mask**: ``[B, N]``, True on real events.
    """

    mask: Tensor

    @cached_property
    def flat(self) -> Tensor:
        """Places of the real events in the flattened mask, ``[T]``."""
        return self.mask.flatten().nonzero().squeeze(1)

    @cached_property
    def rows(self) -> Tensor:
        """Row of each real event, ``[T]``."""
        return self.flat // self.mask.shape[1]

    @cached_property
    def columns(self) -> Tensor:
        """Position of each real event in its row, ``[T]``; 0 is the oldest."""
        return self.flat % self.mask.shape[1]

    @cached_property
    def counts(self) -> Tensor:
        """Real events of each row, ``[B]``."""
        return self.mask.sum(1)

    @cached_property
    def _is_full(self) -> bool:
        return len(self.flat) == self.mask.numel()

    def pack(self, padded: Tensor) -> Tensor:
        """``[B, N, ...]`` to ``[T, ...]``."""
        values = padded.reshape(-1, *padded.shape[2:])
        return values if self._is_full else values.index_select(0, self.flat)

    def unpack(self, packed: Tensor) -> Tensor:
        """``[T, ...]`` to ``[B, N, ...]``, 0 where padded."""
        if not self._is_full:
            packed = packed.new_zeros(self.mask.numel(), *packed.shape[1:]).index_copy(0, self.flat, packed)
        return packed.view(*self.mask.shape, *packed.shape[1:])

    def mean(self, packed: Tensor) -> Tensor:
        """Mean of each row's events, ``[T, d]`` to ``[B, d]``; 0 for rows without."""
        sums = packed.new_zeros(len(self.mask), packed.shape[1]).index_add(0, self.rows, packed)
        return sums / self.counts.clamp_min(1).unsqueeze(1)
