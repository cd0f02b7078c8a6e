"""Windows of users' events, in which every training row is the target of exactly one window.

A row of the usual form holds the history of one target. Rows of one user share nearly all of it, so encoding a window
once for all of its targets saves most of the work.

"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_gserec.data.dataset import SearchDataset
from recbole_gserec.data.events import EventLog, Ragged

TARGETS, SEEN_ITEMS, SEEN_SEARCHES = "window_targets", "window_seen_items", "window_seen_searches"
"""Fields of a batch of windows: targets, and how many of the window's interactions and searches each may see."""


def reads_windows(config: Mapping[str, Any]) -> bool:
    """Return whether settings ask for training batches of windows, with a target at every position."""
    # Other models and checkpoints of earlier versions do not have the setting.
    return "train_rows" in config and config["train_rows"] == "users"


@dataclass(frozen=True)
class Windows:
    """Ranges of users' interactions and searches with the targets in them.

    A window begins with the context of its first target: the last interactions and searches that this target may see,
    as many as a history holds. It has at most twice as many interactions and searches as a history.

    Shapes:
        - **users**: ``[n]``.
        - **item_starts**, **search_starts**: ``[n]`` index of the first event in :attr:`EventLog.items` and
          :attr:`EventLog.queries`.
        - **targets**: one row per window, indices of its targets in :attr:`EventLog.items`, ascending.
    """

    users: Tensor
    item_starts: Tensor
    search_starts: Tensor
    targets: Ragged

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of_targets(cls, events: EventLog, users: Tensor, targets: Tensor, n_items: int, n_searches: int) -> Windows:
        """Divide targets into windows.

        Args:
            events: All events.
            users: ``[n_targets]`` user of each target.
            targets: ``[n_targets]`` index of each target in :attr:`EventLog.items`, in any order.
            n_items: Number of interactions in a history, L.
            n_searches: Number of searches in a history, S.
        """
        targets, order = targets.sort()
        users = users[order]
        first_item, first_search = events.item_offsets[users], events.search_offsets[users]
        search_ends = events.search_ends[targets]
        # The first window has no context before it, so it holds twice as many targets as the others.
        group = torch.stack(
            [
                users,
                ((targets - first_item) // n_items - 1).clamp_min(0),
                ((search_ends - first_search) // n_searches - 1).clamp_min(0),
            ]
        )
        is_first = torch.ones(len(targets), dtype=torch.bool)
        is_first[1:] = (group[:, 1:] != group[:, :-1]).any(0)
        firsts = is_first.nonzero().squeeze(1)
        offsets = torch.cat([firsts, torch.tensor([len(targets)])])
        return cls(
            users[firsts],
            torch.maximum(first_item[firsts], targets[firsts] - n_items),
            torch.maximum(first_search[firsts], search_ends[firsts] - n_searches),
            Ragged(targets, offsets),
        )

    def take(self, windows: Tensor) -> Windows:
        """Return some windows, ``[m]``."""
        return Windows(
            self.users[windows], self.item_starts[windows], self.search_starts[windows], self.targets.take(windows)
        )

    def batch(self, dataset: SearchDataset) -> Interaction:
        """Return all windows as a batch: the history fields of :class:`SearchDataset`, and three of the targets.

        The histories have at most ``2 L`` interactions and ``2 S`` searches. ``window_targets`` ``[B, T]`` are item
        ids, 0 where padded. ``window_seen_items`` and ``window_seen_searches`` ``[B, T]`` say how many of the
        window's events each target may see.
        """
        events = dataset.events
        item_range, search_range = (self.item_starts, self.ends), (self.search_starts, events.search_ends[self.ends])
        sizes = 2 * dataset.max_item_list_len, 2 * dataset.max_search_list_len
        items = events.items_between(*item_range, sizes[0])
        searches = events.searches_between(*search_range, sizes[1], dataset.max_click_list_len)
        places = events.places_between(self.users, item_range, search_range, *sizes)
        return Interaction(
            {
                dataset.uid_field: self.users,
                **dataset.history_fields(items, searches, places),
                **self.target_fields(events),
            }
        )

    def target_fields(self, events: EventLog) -> dict[str, Tensor]:
        """Return the fields of the targets in a batch of all windows, each ``[B, T]``."""
        indices = self.targets.values
        return {
            TARGETS: self.padded(events.items[indices].long()),
            SEEN_ITEMS: self.padded(indices - self.per_target(self.item_starts)),
            SEEN_SEARCHES: self.padded(events.search_ends[indices] - self.per_target(self.search_starts)),
        }

    @cached_property
    def ends(self) -> Tensor:
        """Index of each window's last target in :attr:`EventLog.items`, ``[n]``, before which the window ends."""
        return self.targets.values[self.targets.offsets[1:] - 1]

    def per_target(self, values: Tensor) -> Tensor:
        """Repeat values of windows ``[n]`` for their targets, ``[n_targets]``."""
        return values.repeat_interleave(self.targets.offsets.diff())

    def padded(self, values: Tensor) -> Tensor:
        """Pad values of the targets ``[n_targets, ...]`` to ``[B, T, ...]``, with 0."""
        padded = values.new_zeros(*self._is_target.shape, *values.shape[1:])
        padded[self._is_target] = values
        return padded

    @cached_property
    def _is_target(self) -> Tensor:
        lengths = self.targets.offsets.diff()
        return torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
