"""All events of a dataset in the model's ids, from all parts of the split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from recbole.data.dataset import Dataset

from recbole_gserec.data.dataset import SearchDataset
from recbole_gserec.data.events import Columns, no_searches


@dataclass(frozen=True)
class RawEvents:
    """Events in the order of the files, as expected by :func:`build_event_log`.

    Attributes:
        interactions: Users, items and times, ``[n_interactions]`` each; times are 0 if the dataset has none.
        searches: Users, queries and times, ``[n_searches]`` each; empty for RecBole's own datasets.
        clicks: Clicked items ``[n_clicks]``, and where the clicks of each search begin, ``[n_searches + 1]``.
        table: All columns of the interactions, as RecBole loads them; None for search-aware datasets.
    """

    interactions: Columns
    searches: Columns
    clicks: Columns
    table: pd.DataFrame | None = None


def raw_events(dataset: Dataset) -> RawEvents:
    """Return the events of a dataset that has been read and filtered, but not built."""
    if isinstance(dataset, SearchDataset):
        return RawEvents(*dataset.events_as_read())
    table = dataset.inter_feat
    users, items = (table[field].to_numpy().astype(np.int64) for field in (dataset.uid_field, dataset.iid_field))
    times = table[dataset.time_field].to_numpy() if dataset.time_field in table else np.zeros(len(table))
    return RawEvents((users, items, times), *no_searches(), table)
