"""All events of a dataset in the model's ids, of all parts of its split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from recbole.data.dataset import Dataset

from recbole_gserec.data.dataset import SearchDataset

Ids = NDArray[np.int64]
Times = NDArray[np.float64]


@dataclass(frozen=True)
class RawEvents:
    """Events in the order of the files, as :func:`build_event_log` takes them.

    Attributes:
        interactions: Users, items and times, ``[n_interactions]`` each; times are 0 where a dataset has none.
        searches: Users, queries and times, ``[n_searches]`` each; none for RecBole's own datasets.
        clicks: Clicked items ``[n_clicks]``, and where those of each search begin, ``[n_searches + 1]``.
        table: All columns of the interactions, as RecBole loads them; None for search-aware datasets.
    """

    interactions: tuple[Ids, Ids, Times]
    searches: tuple[Ids, Ids, Times]
    clicks: tuple[Ids, Ids]
    table: pd.DataFrame | None = None


def no_searches() -> tuple[tuple[Ids, Ids, Times], tuple[Ids, Ids]]:
    """The searches and clicks of a dataset without any."""
    nothing = np.zeros(0, dtype=np.int64)
    return (nothing, nothing, np.zeros(0)), (nothing, np.zeros(1, dtype=np.int64))


def raw_events(dataset: Dataset) -> RawEvents:
    """The events of a dataset that has been read and filtered, and not yet been built."""
    table = dataset.inter_feat
    users, items = (table[field].to_numpy().astype(np.int64) for field in (dataset.uid_field, dataset.iid_field))
    searches, clicks = no_searches()
    if not isinstance(dataset, SearchDataset):
        times = table[dataset.time_field].to_numpy() if dataset.time_field in table else np.zeros(len(table))
        return RawEvents((users, items, times), searches, clicks, table)
    if hasattr(dataset, "search_feat"):
        feat, clicked = dataset.search_feat, dataset.search_click_feat["search_item_ids"]
        columns = ("search_user_id", "search_query_id", "search_timestamp")
        searches = tuple(feat[column].to_numpy(copy=True) for column in columns)
        clicks = (clicked.to_numpy().astype(np.int64), dataset._click_offsets)
    return RawEvents((users, items, dataset._times.copy()), searches, clicks)
