"""Divides a user's events into sessions, for USER."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class SessionGrid:
    """Sequences divided into sessions of one length, counted from the end: only the oldest session may be shorter.

    Sequences are aligned to the right, so that the sessions of all rows have the same columns.

    Args:
        events: ``[B, N]``, True for real events, which come first.
        session_length: Number of events in a session.
    """

    events: Tensor
    session_length: int

    @cached_property
    def n_sessions(self) -> int:
        """Number of sessions in the longest row, P; at least 2, so that there is a past session, possibly empty."""
        return max(2, -(-int(self.events.sum(1).max()) // self.session_length))

    @cached_property
    def _columns(self) -> Tensor:
        width = self.n_sessions * self.session_length
        position = torch.arange(width, device=self.events.device)
        return position - width + self.events.sum(1, keepdim=True)

    @property
    def mask(self) -> Tensor:
        """True for real events of the grid, ``[B, P * session_length]``."""
        return self._columns >= 0

    @property
    def columns(self) -> Tensor:
        """Column of ``events`` for each position, ``[B, P * session_length]``; arbitrary without an event."""
        return self._columns.clamp_min(0)
