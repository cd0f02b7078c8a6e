"""Every user's interactions and searches in flat, time-ordered arrays.

Batches gather histories from here when they are made, so memory grows with the logs and not with rows x history length.
Rows of different lengths are held as flat tensors with offsets (:class:`Ragged`).

"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """Row *i* is ``values[offsets[i]:offsets[i + 1]]``.

    Shapes:
        - **values**: ``[n_values]``, any integer dtype.
        - **offsets**: ``[n_rows + 1]``, ``int64``, starts with 0.
    """

    values: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: Tensor) -> Ragged:
        """Return the given rows, in the given order; ``rows`` is ``[n]``."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        within = torch.arange(int(offsets[-1]), device=offsets.device) - offsets[:-1].repeat_interleave(lengths)
        return Ragged(self.values[starts.repeat_interleave(lengths) + within], offsets)

    def to(self, device: torch.device | str) -> Ragged:
        return Ragged(self.values.to(device), self.offsets.to(device))


def last_window(starts: Tensor, ends: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the last ``size`` indices of each range ``[start, end)``: oldest first, padding at the end.

    The width is that of the longest window in the batch (at least 1), so short histories need little memory.

    Args:
        starts: ``[...]`` first index of each range.
        ends: ``[...]`` index after the last.
        size: Maximum width of a window.

    Returns:
        Indices ``[..., width]`` (0 for padding), their mask ``[..., width]`` (False for padding) and the lengths
        ``[...]``.
    """
    lengths = (ends - starts).clamp(0, size)
    width = max(int(lengths.max()) if lengths.numel() else 0, 1)
    position = torch.arange(width, device=ends.device)
    mask = position < lengths.unsqueeze(-1)
    indices = (ends - lengths).unsqueeze(-1) + position
    return indices.where(mask, torch.zeros_like(indices)), mask, lengths


def gather_padded(values: Tensor, indices: Tensor, mask: Tensor) -> Tensor:
    """``values[indices]`` as ``int64``, 0 where ``mask`` is False; ``values`` may be empty."""
    if len(values) == 0:
        return torch.zeros_like(indices)
    return values[indices].long() * mask


PADDED = torch.iinfo(torch.int64).max
"""Position of padding among a user's events: after all of them."""


Columns = tuple[np.ndarray, ...]


def no_searches() -> tuple[Columns, Columns]:
    """Return empty searches and clicks, as expected by :func:`build_event_log`."""
    nothing = np.zeros(0, dtype=np.int64)
    return (nothing, nothing, np.zeros(0)), (nothing, np.zeros(1, dtype=np.int64))


@dataclass
class EventLog:
    """All events of a dataset, sorted by user, then time, then file order.

    Shapes:
        - **items**: ``[n_interactions]`` item of each interaction.
        - **item_offsets**: ``[n_users + 1]`` where each user's interactions start.
        - **queries**: ``[n_searches]`` query of each search.
        - **search_offsets**: ``[n_users + 1]`` where each user's searches start.
        - **clicks**: one row per search, the clicked items.
        - **search_ends**: ``[n_interactions]`` for a target at this index, the end of the user's visible searches:
          those strictly before the target's time.
        - **item_ends**: ``[n_searches]`` for a search at this index, the end of the user's interactions strictly before
          the search's time.
        - **earlier_ends**: ``[n_searches]`` for a search at this index, the end of the user's searches strictly before
          its time.
        - **item_bounds**: ``[n_searches]`` for a search at this index, the end of the user's interactions up to its
          time: at equal times, an interaction comes before a search.
        - **train_ends**: ``[n_users]`` end of each user's training interactions.
        - **train_search_ends**: ``[n_users]`` end of each user's training searches.
    """

    items: Tensor
    item_offsets: Tensor
    queries: Tensor
    search_offsets: Tensor
    clicks: Ragged
    search_ends: Tensor
    item_ends: Tensor
    earlier_ends: Tensor
    item_bounds: Tensor
    train_ends: Tensor = field(init=False)
    train_search_ends: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.train_ends = self.item_offsets[1:].clone()
        self.train_search_ends = self.search_offsets[1:].clone()

    @property
    def n_users(self) -> int:
        return len(self.item_offsets) - 1

    def users_of_interactions(self) -> Tensor:
        """User of each interaction, ``[n_interactions]``."""
        return torch.arange(self.n_users).repeat_interleave(self.item_offsets.diff())

    def users_of_clicks(self) -> Tensor:
        """User of each clicked item, ``[n_clicks]``."""
        users = torch.arange(self.n_users).repeat_interleave(self.search_offsets.diff())
        return users.repeat_interleave(self.clicks.offsets.diff())

    def limit_training(self, users: Tensor, targets: Tensor) -> None:
        """End the training part of each user before the first of the given evaluation targets.

        Args:
            users: ``[n]`` users with a target in validation or test.
            targets: ``[n]`` indices of the targets in :attr:`items`.
        """
        self.train_ends.scatter_reduce_(0, users, targets, "amin")
        # Users without such a target keep all of their searches, because they are never evaluated.
        limited = users.unique()
        self.train_search_ends[limited] = self.search_ends[self.train_ends[limited]]

    def limit_training_to_searches(self, users: Tensor, searches: Tensor) -> None:
        """End the training part of each user strictly before the time of the given searches.

        Args:
            users: ``[n]`` users with a search to evaluate, each once.
            searches: ``[n]`` index of the first such search of each in :attr:`queries`.
        """
        self.train_ends[users] = self.item_ends[searches].long()
        self.train_search_ends[users] = self.earlier_ends[searches].long()

    def item_histories(self, users: Tensor, targets: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return the last ``size`` interactions before each target.

        Returns:
            Items ``[B, L]`` (0 where padded) and lengths ``[B]``.
        """
        return self.items_between(self.item_offsets[users], targets, size)

    def items_between(self, starts: Tensor, ends: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return the last ``size`` interactions of each range of indices, as :meth:`item_histories` does."""
        indices, mask, lengths = last_window(starts, ends, size)
        return gather_padded(self.items, indices, mask), lengths

    def search_histories(self, users: Tensor, ends: Tensor, size: int, n_clicks: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the last ``size`` searches before each end, each with its last ``n_clicks`` clicked items.

        Args:
            users: ``[B]`` users.
            ends: ``[B]`` end of the visible searches, such as ``search_ends[targets]``.
            size: Maximum number of searches.
            n_clicks: Maximum number of clicked items of a search.

        Returns:
            Queries ``[B, S]``, clicked items ``[B, S, K]`` (0 where padded) and lengths ``[B]``.
        """
        return self.searches_between(self.search_offsets[users], ends, size, n_clicks)

    def searches_between(self, starts: Tensor, ends: Tensor, size: int, n_clicks: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the last ``size`` searches of each range of indices, as :meth:`search_histories` does."""
        searches, mask, lengths = last_window(starts, ends, size)
        if len(self.queries) == 0:
            return searches, searches.unsqueeze(-1), lengths
        queries = gather_padded(self.queries, searches, mask)
        ends = torch.where(mask, self.clicks.offsets[searches + 1], 0)
        starts = torch.where(mask, self.clicks.offsets[searches], 0)
        indices, click_mask, _ = last_window(starts, ends, n_clicks)
        return queries, gather_padded(self.clicks.values, indices, click_mask), lengths

    def event_places(
        self, users: Tensor, item_ends: Tensor, search_ends: Tensor, item_size: int, search_size: int
    ) -> tuple[Tensor, Tensor]:
        """Return the positions of two histories' events among all events of a user, in chronological order.

        At equal times, interactions come first, and otherwise the order of each file is kept.

        Returns:
            Places ``[B, L]`` of the interactions and ``[B, S]`` of the searches in :meth:`item_histories` and
            :meth:`search_histories`, from 0 on; distinct, increasing along each row, and :data:`PADDED` where padded.
        """
        items = self.item_offsets[users], item_ends
        return self.places_between(users, items, (self.search_offsets[users], search_ends), item_size, search_size)

    def places_between(
        self,
        users: Tensor,
        item_range: tuple[Tensor, Tensor],
        search_range: tuple[Tensor, Tensor],
        item_size: int,
        search_size: int,
    ) -> tuple[Tensor, Tensor]:
        """Return the places of the last events of ranges of indices, as :meth:`event_places` does."""
        items, item_mask, _ = last_window(*item_range, item_size)
        searches, search_mask, _ = last_window(*search_range, search_size)
        first = (self.item_offsets[users] + self.search_offsets[users]).unsqueeze(1)
        item_places = items + gather_padded(self.search_ends, items, item_mask) - first
        search_places = searches + gather_padded(self.item_bounds, searches, search_mask) - first
        return item_places.masked_fill(~item_mask, PADDED), search_places.masked_fill(~search_mask, PADDED)


def build_event_log(
    n_users: int,
    interactions: Columns,
    searches: Columns,
    clicks: Columns,
) -> tuple[EventLog, np.ndarray]:
    """Sort raw events into an :class:`EventLog`.

    Args:
        n_users: Number of user ids, including the padding id 0.
        interactions: Users, items and times, each ``[n_interactions]`` in file order.
        searches: Users, queries and times, each ``[n_searches]`` in file order.
        clicks: Clicked items ``[n_clicks]`` and offsets ``[n_searches + 1]``, searches in file order.

    Returns:
        The log, and the order that sorts the interactions: ``[n_interactions]`` indices into the file.
    """
    users, items, times = interactions
    search_users, queries, search_times = searches
    # lexsort is stable: equal times keep the order of the file.
    order = np.lexsort((times, users))
    search_order = np.lexsort((search_times, search_users))
    moments = np.unique(np.concatenate([times, search_times]))
    keys = _moment_keys(users[order], times[order], moments)
    search_keys = _moment_keys(search_users[search_order], search_times[search_order], moments)
    ragged_clicks = Ragged(*(torch.from_numpy(np.ascontiguousarray(array)) for array in clicks))
    log = EventLog(
        items=torch.from_numpy(items[order].astype(np.int32)),
        item_offsets=_offsets(users, n_users),
        queries=torch.from_numpy(queries[search_order].astype(np.int32)),
        search_offsets=_offsets(search_users, n_users),
        clicks=ragged_clicks.take(torch.from_numpy(search_order)),
        search_ends=torch.from_numpy(np.searchsorted(search_keys, keys, side="left")),
        item_ends=_as_indices(np.searchsorted(keys, search_keys, side="left")),
        earlier_ends=_as_indices(np.searchsorted(search_keys, search_keys, side="left")),
        item_bounds=_as_indices(np.searchsorted(keys, search_keys, side="right")),
    )
    return log, order


def _offsets(users: np.ndarray, n_users: int) -> Tensor:
    return torch.from_numpy(np.concatenate([[0], np.bincount(users, minlength=n_users).cumsum()]))


def _as_indices(indices: np.ndarray) -> Tensor:
    """Use 32-bit integers, which halve the memory, for fewer than two billion events."""
    return torch.from_numpy(indices.astype(np.int32 if indices.max(initial=0) < 2**31 else np.int64))


def _moment_keys(users: np.ndarray, times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Number the moments by user, then time; events of one user at one moment get equal numbers."""
    return users.astype(np.int64) * len(moments) + np.searchsorted(moments, times)
