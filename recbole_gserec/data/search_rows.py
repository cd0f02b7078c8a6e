"""Rows of the search task, and the query-item graph, both from the training part.

A row of the search task asks which item a user clicked for a query, given all events before the search. The graph of
queries and clicked items is for Query-SeqRec.

"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_gserec.data.events import EventLog, Ragged

QUERY = "query_id"
"""Field of a search row's query."""
SEARCH = "search_place"
"""Field of a search to evaluate: its index in :attr:`EventLog.queries`, which determines all histories."""
MIN_SEARCHES = 3
"""Searches with a click that a user needs to be evaluated: one for training, one for validation, one for the test."""


@dataclass(frozen=True)
class SearchRows:
    """One row per clicked item of a search.

    Shapes:
        - **users**, **searches**, **items**: ``[n]`` user, index of the search in :attr:`EventLog.queries`, and clicked
          item.
    """

    users: Tensor
    searches: Tensor
    items: Tensor

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of_training(cls, events: EventLog, n_clicks: int | None = None) -> SearchRows:
        """Return the clicks of the training part, without searches at or after a user's first evaluation target.

        Args:
            events: All events, with the end of their training part.
            n_clicks: Maximum number of clicks per search, the last ones; None for all. Every row includes the user's
                histories, so one search with very many clicks would fill the memory.
        """
        searches = torch.arange(len(events.queries)).repeat_interleave(events.clicks.offsets.diff())
        users = events.users_of_clicks()
        kept = searches < events.train_search_ends[users]
        if n_clicks is not None:
            kept &= torch.arange(len(searches)) >= events.clicks.offsets[searches + 1] - n_clicks
        return cls(users[kept], searches[kept], events.clicks.values[kept].long())

    @classmethod
    def of_evaluation(cls, events: EventLog) -> tuple[SearchRows, SearchRows]:
        """Return the last but one and the last search of each user with at least three, for validation and test.

        Only searches with a click on an item that also has interactions count. The target is the last such click.
        """
        n_searches, clicks = len(events.queries), events.clicks
        is_item = torch.zeros(max(_largest(events.items), _largest(clicks.values)) + 1, dtype=torch.bool)
        is_item[events.items.long()] = True
        places = torch.arange(len(clicks.values)).masked_fill(~is_item[clicks.values.long()], -1)
        searches = torch.arange(n_searches).repeat_interleave(clicks.offsets.diff())
        last = torch.full((n_searches,), -1).scatter_reduce_(0, searches, places, "amax")
        clicked = (last >= 0).nonzero().squeeze(1)
        all_users = torch.arange(events.n_users).repeat_interleave(events.search_offsets.diff())
        users = all_users[clicked]
        counts = users.bincount(minlength=events.n_users)
        from_end = counts.cumsum(0)[users] - torch.arange(len(users))
        parts = (clicked[(from_end == place) & (counts[users] >= MIN_SEARCHES)] for place in (2, 1))
        valid, test = (cls(all_users[part], part, clicks.values[last[part]].long()) for part in parts)
        return valid, test

    def take(self, rows: np.ndarray) -> SearchRows:
        """Return the given rows, ``[m]``."""
        indices = torch.from_numpy(rows)
        return SearchRows(self.users[indices], self.searches[indices], self.items[indices])

    def batch(self, dataset: Dataset) -> Interaction:
        """Return the rows as a batch, with the fields of a recommendation row and ``query_id``.

        Histories contain only events strictly before the search: the search itself and others at the same time are
        hidden.
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


def _largest(ids: Tensor) -> int:
    return int(ids.max()) if len(ids) else 0


class JointInteraction(Interaction):
    """A batch of recommendation rows with a batch of search rows, which may have another length.

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


class QueryItemGraph(NamedTuple):
    """A bipartite graph with an edge wherever an item was clicked for a query.

    Shapes:
        - **items_of_query**: one row per query id, the distinct items clicked for it.
        - **queries_of_item**: one row per item id, the distinct queries it was clicked for.
        - **vocabulary**: two rows, all items that occur in interactions or clicks, and all queries searched for.
    """

    items_of_query: Ragged
    queries_of_item: Ragged
    vocabulary: Ragged

    @classmethod
    def of_training(cls, events: EventLog, n_items: int, n_queries: int) -> QueryItemGraph:
        """The graph of all events before each user's first evaluation target."""
        clicks = SearchRows.of_training(events)
        queries = events.queries[clicks.searches].numpy()
        edges = sp.csr_matrix(
            (np.ones(len(clicks), dtype=np.int32), (queries, clicks.items.numpy())), (n_queries, n_items)
        )
        items = torch.cat([_training_part(events.items, events.item_offsets, events.train_ends).long(), clicks.items])
        searched = _training_part(events.queries, events.search_offsets, events.train_search_ends).long()
        items, searched = items.unique(), searched.unique()
        offsets = torch.tensor([0, len(items), len(items) + len(searched)])
        return cls(_neighbours(edges), _neighbours(edges.T), Ragged(torch.cat([items, searched]), offsets))


def _training_part(values: Tensor, offsets: Tensor, train_ends: Tensor) -> Tensor:
    """Those of all users' values, ``offsets`` apart, that come before each user's end."""
    ends = train_ends.repeat_interleave(offsets.diff())
    return values[torch.arange(len(values)) < ends]


def _neighbours(edges: sp.spmatrix) -> Ragged:
    """The columns of each row."""
    edges = edges.tocsr()
    edges.sum_duplicates()
    return Ragged(torch.from_numpy(edges.indices.astype(np.int64)), torch.from_numpy(edges.indptr.astype(np.int64)))
