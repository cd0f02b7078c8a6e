"""The training part of a dataset in original ids. Prompts and derived features may see nothing else."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from recbole_gserec.data.dataset import SearchDataset


class SearchRecord(NamedTuple):
    """One search: the words of its query and the clicked items, in original ids."""

    query: str
    items: list[str]


class TrainingHistories:
    """Each user's events before the user's first evaluation target.

    Args:
        dataset: A built dataset (:meth:`SearchDataset.build` has run).

    Attributes:
        user_tokens: Original ids of all users with an interaction or a search, in the order of internal ids.
    """

    def __init__(self, dataset: SearchDataset):
        self._events = dataset.events
        self._item_tokens = dataset.field2id_token[dataset.iid_field]
        self._queries = query_texts(dataset)
        self.user_tokens: list[str] = dataset.field2id_token[dataset.uid_field][1:].tolist()

    def __len__(self) -> int:
        return len(self.user_tokens)

    def recommendation_history(self, user: int, n: int) -> list[str]:
        """Return the last ``n`` training interactions of the user at an index of :attr:`user_tokens`, oldest first."""
        start, end = int(self._events.item_offsets[user + 1]), int(self._events.train_ends[user + 1])
        return self._item_tokens[self._events.items[max(start, end - n) : end].numpy()].tolist()

    def search_history(self, user: int, n: int) -> list[SearchRecord]:
        """Return the last ``n`` training searches of the user at this index of :attr:`user_tokens`, oldest first."""
        start, end = int(self._events.search_offsets[user + 1]), int(self._events.train_search_ends[user + 1])
        records = []
        for search in range(max(start, end - n), end):
            clicks = self._events.clicks
            clicked = clicks.values[clicks.offsets[search] : clicks.offsets[search + 1]].numpy()
            records.append(
                SearchRecord(self._queries[int(self._events.queries[search])], self._item_tokens[clicked].tolist())
            )
        return records

    def item_matrix(self) -> sp.csr_matrix:
        """Return training interactions, ``[n_users, n_items]``: 1 for an interaction, rows as :attr:`user_tokens`."""
        events = self._events
        users = events.users_of_interactions()
        training = torch.arange(len(events.items)) < events.train_ends[users]
        rows, columns = (users[training] - 1).numpy(), events.items[training].numpy()
        shape = (len(self.user_tokens), len(self._item_tokens))
        matrix = sp.csr_matrix((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape)
        matrix.data[:] = 1
        return matrix


def query_texts(dataset: SearchDataset) -> list[str]:
    """Return the text of each query id; id 0 is padding."""
    words = dataset.field2id_token["query_words"][dataset.query_words.values.numpy()].astype(object)
    bounds = dataset.query_words.offsets.numpy()
    return [" ".join(part) for part in np.split(words, bounds[1:-1])]
