"""Every user's interactions and searches in flat, time-ordered arrays.

Batches gather histories from here when they are made, so memory grows with the logs and not with rows x history length.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from recbole_gserec.data.ragged import Ragged, gather_padded, last_window


@dataclass
class EventLog:
    """All events of a dataset, sorted by user, then time, then file order.

    Shapes:
        - **items**: ``[n_interactions]`` item of each interaction.
        - **item_offsets**: ``[n_users + 1]`` where each user's interactions start.
        - **queries**: ``[n_searches]`` query of each search.
        - **search_offsets**: ``[n_users + 1]`` where each user's searches start.
        - **clicks**: one row per search, the clicked items.
        - **search_ends**: ``[n_interactions]`` for a target at this place, the end of the user's visible searches:
          those strictly before the target's time.
        - **train_ends**: ``[n_users]`` end of each user's training interactions.
        - **train_search_ends**: ``[n_users]`` end of each user's training searches.
    """

    items: Tensor
    item_offsets: Tensor
    queries: Tensor
    search_offsets: Tensor
    clicks: Ragged
    search_ends: Tensor
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
            targets: ``[n]`` places of the targets in :attr:`items`.
        """
        self.train_ends.scatter_reduce_(0, users, targets, "amin")
        # Users without interactions keep all of their searches: nothing of theirs is ever evaluated.
        limited = users.unique()
        self.train_search_ends[limited] = self.search_ends[self.train_ends[limited]]

    def item_histories(self, users: Tensor, targets: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """The last ``size`` interactions before each target.

        Returns:
            Items ``[B, L]`` (0 where padded) and lengths ``[B]``.
        """
        indices, mask, lengths = last_window(self.item_offsets[users], targets, size)
        return gather_padded(self.items, indices, mask), lengths

    def search_histories(
        self, users: Tensor, targets: Tensor, size: int, n_clicks: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The last ``size`` searches visible at each target, each with its last ``n_clicks`` clicked items.

        Returns:
            Queries ``[B, S]``, clicked items ``[B, S, K]`` (0 where padded) and lengths ``[B]``.
        """
        searches, mask, lengths = last_window(self.search_offsets[users], self.search_ends[targets], size)
        if len(self.queries) == 0:
            return searches, searches.unsqueeze(-1), lengths
        queries = gather_padded(self.queries, searches, mask)
        ends = torch.where(mask, self.clicks.offsets[searches + 1], 0)
        starts = torch.where(mask, self.clicks.offsets[searches], 0)
        indices, click_mask, _ = last_window(starts, ends, n_clicks)
        return queries, gather_padded(self.clicks.values, indices, click_mask), lengths


def build_event_log(
    n_users: int,
    interactions: tuple[np.ndarray, np.ndarray, np.ndarray],
    searches: tuple[np.ndarray, np.ndarray, np.ndarray],
    clicks: tuple[np.ndarray, np.ndarray],
) -> tuple[EventLog, np.ndarray]:
    """Sort raw events into an :class:`EventLog`.

    Args:
        n_users: Number of user ids, the padding id 0 included.
        interactions: Users, items and times, each ``[n_interactions]`` in file order.
        searches: Users, queries and times, each ``[n_searches]`` in file order.
        clicks: Clicked items ``[n_clicks]`` and offsets ``[n_searches + 1]``, searches in file order.

    Returns:
        The log, and the order that sorts the interactions: ``[n_interactions]`` places in the file.
    """
    users, items, times = interactions
    search_users, queries, search_times = searches
    # lexsort is stable: equal times keep the order of the file.
    order = np.lexsort((times, users))
    search_order = np.lexsort((search_times, search_users))
    ragged_clicks = Ragged(*(torch.from_numpy(np.ascontiguousarray(array)) for array in clicks))
    log = EventLog(
        items=torch.from_numpy(items[order].astype(np.int32)),
        item_offsets=_offsets(users, n_users),
        queries=torch.from_numpy(queries[search_order].astype(np.int32)),
        search_offsets=_offsets(search_users, n_users),
        clicks=ragged_clicks.take(torch.from_numpy(search_order)),
        search_ends=torch.from_numpy(
            _visible_ends(users[order], times[order], search_users[search_order], search_times[search_order])
        ),
    )
    return log, order


def _offsets(users: np.ndarray, n_users: int) -> Tensor:
    return torch.from_numpy(np.concatenate([[0], np.bincount(users, minlength=n_users).cumsum()]))


def _visible_ends(
    users: np.ndarray, times: np.ndarray, search_users: np.ndarray, search_times: np.ndarray
) -> np.ndarray:
    """For each (user, time), the end of the user's searches strictly before it, in the sorted searches."""
    moments = np.unique(np.concatenate([times, search_times]))
    keys = users.astype(np.int64) * len(moments) + np.searchsorted(moments, times)
    search_keys = search_users.astype(np.int64) * len(moments) + np.searchsorted(moments, search_times)
    return np.searchsorted(search_keys, keys, side="left")
