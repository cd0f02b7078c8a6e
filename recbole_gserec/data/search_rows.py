"""Rows of the search task: which item did a user click for a query, given all that came before the search?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_gserec.data.events import EventLog

QUERY = "query_id"
"""Field of a search row's own query."""


@dataclass(frozen=True)
class SearchRows:
    """One row per clicked item of a search.

    Shapes:
        - **users**, **searches**, **items**: ``[n]`` user, place of the search in :attr:`EventLog.queries`, and clicked
          item.
    """

    users: Tensor
    searches: Tensor
    items: Tensor

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of_training(cls, events: EventLog, n_clicks: int | None = None) -> SearchRows:
        """The clicks of the training part; no search at or after a user's first evaluation target is in it.

        Args:
            events: All events, their training part marked.
            n_clicks: Most clicks of a search, the last ones; None for all. Every row brings the user's histories, so a
                single search with very many clicks would fill the memory.
        """
        searches = torch.arange(len(events.queries)).repeat_interleave(events.clicks.offsets.diff())
        users = events.users_of_clicks()
        kept = searches < events.train_search_ends[users]
        if n_clicks is not None:
            kept &= torch.arange(len(searches)) >= events.clicks.offsets[searches + 1] - n_clicks
        return cls(users[kept], searches[kept], events.clicks.values[kept].long())

    def take(self, rows: np.ndarray) -> SearchRows:
        """The given rows, ``[m]``."""
        places = torch.from_numpy(rows)
        return SearchRows(self.users[places], self.searches[places], self.items[places])

    def batch(self, dataset: Dataset) -> Interaction:
        """The rows as a batch, with the fields of a recommendation row and ``query_id``.

        Histories are what lies strictly before the search: searches at the same moment are hidden, as the search itself
        is.
        """
        events = dataset.events
        ends = (part[self.searches].long() for part in (events.item_ends, events.earlier_ends))
        batch = dataset.histories(self.users, *ends)
        batch.update(
            Interaction(
                {
                    dataset.uid_field: self.users,
                    dataset.iid_field: self.items,
                    QUERY: events.queries[self.searches].long(),
                }
            )
        )
        return batch


class JointInteraction(Interaction):
    """A batch of recommendation rows that carries a batch of search rows of its own length.

    Attributes:
        search (Interaction): The search rows.
    """

    def __init__(self, interaction: dict[str, Tensor], search: Interaction):
        super().__init__(interaction)
        self.search = search

    def to(self, device: torch.device, selected_field: Any = None) -> JointInteraction:
        """Move both; see RecBole's ``Interaction.to``."""
        moved = super().to(device, selected_field)
        return JointInteraction(moved.interaction, self.search.to(device))
