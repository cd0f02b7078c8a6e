"""Histories without their padding."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_DENSE = 0.75


@dataclass(frozen=True)
class Packing:
    """The positions of the events in a batch of padded histories.

    Work on single events (embedding, linear layers, norms) uses packed ``[T, d]`` values. Only attention, which looks
    across a row, needs the padded form. If most positions are real, packing costs more than it saves. All positions are
    then kept, and values at padded ones are undefined.

    Shapes:
        - **mask**: ``[B, N]``, True on real events.
    """

    mask: Tensor

    @cached_property
    def is_dense(self) -> bool:
        """Whether the packed form keeps padded positions."""
        return int(self.mask.sum()) >= _DENSE * self.mask.numel()

    @cached_property
    def flat(self) -> Tensor:
        """Indices of the packed events in the flattened mask, ``[T]``."""
        if self.is_dense:
            return torch.arange(self.mask.numel(), device=self.mask.device)
        return self.mask.flatten().nonzero().squeeze(1)

    @cached_property
    def rows(self) -> Tensor:
        """Row of each packed event, ``[T]``."""
        return self.flat // self.mask.shape[1]

    @cached_property
    def columns(self) -> Tensor:
        """Position of each packed event in its row, ``[T]``; 0 is the oldest."""
        return self.flat % self.mask.shape[1]

    @cached_property
    def counts(self) -> Tensor:
        """Number of real events in each row, ``[B]``."""
        return self.mask.sum(1)

    def pack(self, padded: Tensor) -> Tensor:
        """Pack ``[B, N, ...]`` to ``[T, ...]``."""
        values = padded.reshape(-1, *padded.shape[2:])
        return values if self.is_dense else values.index_select(0, self.flat)

    def unpack(self, packed: Tensor) -> Tensor:
        """Unpack ``[T, ...]`` to ``[B, N, ...]``; padded positions are undefined."""
        if not self.is_dense:
            packed = packed.new_zeros(self.mask.numel(), *packed.shape[1:]).index_copy(0, self.flat, packed)
        return packed.view(*self.mask.shape, *packed.shape[1:])

    def sum(self, packed: Tensor) -> Tensor:
        """Sum each row's real events, ``[T, d]`` to ``[B, d]``; 0 for rows without events."""
        if self.is_dense:
            return torch.einsum("bn,bnd->bd", self.mask.to(packed.dtype), self.unpack(packed))
        return packed.new_zeros(len(self.mask), packed.shape[1]).index_add(0, self.rows, packed)

    def mean(self, packed: Tensor) -> Tensor:
        """Average each row's real events, ``[T, d]`` to ``[B, d]``; 0 for rows without events."""
        return self.sum(packed) / self.counts.clamp_min(1).unsqueeze(1)

    def last(self, packed: Tensor) -> Tensor:
        """Select the most recent real event of each row, ``[T, d]`` to ``[B, d]``; 0 for rows without events."""
        return after(self.unpack(packed), torch.arange(len(self.mask), device=packed.device), self.counts)


def after(states: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
    """Select the states of the last events that may be seen.

    Args:
        states: ``[B, N, d]``, a state for each event.
        rows: ``[n]``, a row for each state to select; or of any shape that broadcasts with ``counts``.
        counts: ``[n]``, how many of the row's events may be seen.

    Returns:
        ``[n, d]``; 0 where no event may be seen.
    """
    return states[rows, (counts - 1).clamp_min(0)] * (counts > 0).unsqueeze(-1)
