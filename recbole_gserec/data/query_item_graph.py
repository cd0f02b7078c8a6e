"""Which items were clicked for which queries, in the training part alone; for Query-SeqRec."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_gserec.data.events import EventLog
from recbole_gserec.data.ragged import Ragged
from recbole_gserec.data.search_rows import SearchRows


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
