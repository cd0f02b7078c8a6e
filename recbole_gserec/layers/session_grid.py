"""A user's events cut into sessions, for USER."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class SessionGrid:
    """Sequences cut into sessions of one length, counted from their ends: only the oldest session may be shorter.

    Sequences are moved to the right, so that the sessions of all rows are the same columns.

    Args:
        events: ``[B, N]``, True on real events, which come first.
        session_length: Events of a session.
    """

    events: Tensor
    session_length: int

    @cached_property
    def n_sessions(self) -> int:
        """Sessions of the longest row, P; at least 2, so that there is a past session, if an empty one."""
        return max(2, -(-int(self.events.sum(1).max()) // self.session_length))

    @cached_property
    def _columns(self) -> Tensor:
        width = self.n_sessions * self.session_length
        place = torch.arange(width, device=self.events.device)
        return place - width + self.events.sum(1, keepdim=True)

    @property
    def mask(self) -> Tensor:
        """True on real events of the grid, ``[B, P * session_length]``."""
        return self._columns >= 0

    @property
    def columns(self) -> Tensor:
        """Column of ``events`` that comes to each place, ``[B, P * session_length]``; any where there is no event."""
        return self._columns.clamp_min(0)
