"""The items that each user interacted with or clicked in searches, for any RecBole dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_gserec.data.atomic_files import has_no_rows
from recbole_gserec.data.dataset import SearchDataset
from recbole_gserec.data.search_files import read_search_file

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset


def collect_interactions(datasets: list) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return users and items (internal ids) of the interactions in the given parts of one dataset.

    Users with a single interaction are left out. RecBole's sequential datasets do not contain it, and lists must not
    depend on the kind of dataset.

    Args:
        datasets: RecBole datasets. The rows of a sequential one do not contain each user's first interaction; it is
            taken from the history of the user's second.
    """
    first = datasets[0]
    if isinstance(first, SearchDataset):
        events = first.events
        return _of_several(events.users_of_interactions().numpy(), events.items.numpy().astype(np.int64))
    users, items = [], []
    for dataset in datasets:
        feat = dataset.inter_feat
        user, item = feat[dataset.uid_field].numpy(), feat[dataset.iid_field].numpy()
        users.append(user)
        items.append(item)
        history = getattr(dataset, "item_id_list_field", None)
        if history is not None and history in feat:
            # With MAX_ITEM_LIST_LENGTH 1, every history has length 1; a user's rows are in chronological order.
            second = np.unique(user, return_index=True)[1]
            second = second[feat[dataset.item_list_length_field].numpy()[second] == 1]
            users.append(user[second])
            items.append(feat[history].numpy()[second, 0])
    return _of_several(np.concatenate(users), np.concatenate(items))


def _of_several(users: NDArray[np.int64], items: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the interactions of users with at least two."""
    kept = np.bincount(users)[users] > 1
    return users[kept], items[kept]


def collect_search_clicks(dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return users and items (internal ids) of all clicks in searches; ids missing from the dataset are left out."""
    config = dataset.config
    # A model without searches gets the same candidates as models with searches.
    if isinstance(dataset, SearchDataset) and "search" in (config["additional_feat_suffix"] or ()):
        events = dataset.events
        return events.users_of_clicks().numpy(), events.clicks.values.numpy().astype(np.int64)
    path = Path(dataset.dataset_path) / f"{dataset.dataset_name}.search"
    encoding = config["encoding"] or "utf-8"
    if not path.is_file() or has_no_rows(path, encoding):
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing
    searches, clicks = read_search_file(
        path, separator=config["field_separator"], seq_separator=config["seq_separator"], encoding=encoding
    )
    users = pd.Index(dataset.field2id_token[dataset.uid_field]).get_indexer(searches["search_user_id"])
    users = users.repeat(np.diff(clicks.offsets))
    items = pd.Index(dataset.field2id_token[dataset.iid_field]).get_indexer(clicks.frame["search_item_ids"])
    known = (users >= 0) & (items >= 0)
    return users[known], items[known]
