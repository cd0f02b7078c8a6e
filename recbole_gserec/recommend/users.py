"""Users at the end of their events, whatever part of the split these belong to."""

import copy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from recbole.utils import ModelType
from torch import Tensor

from recbole_gserec.data import build_event_log, last_window
from recbole_gserec.errors import not_none
from recbole_gserec.evaluation import collect_search_clicks
from recbole_gserec.recommend.new_events import NewEvents
from recbole_gserec.recommend.trained import RawEvents, Trained

Pair = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Touched:
    """Users and items of interactions and of clicks in searches, ``[n]`` each."""

    interactions: Pair
    clicks: Pair


class Users:
    """All users of a dataset and of new events, with the rows for which a model scores candidates.

    Users have the ids of the dataset. Unknown users have the ids after these, and are the padding user 0 in a batch.

    Attributes:
        names: Original id of each user; index 0 is padding.
        n_known: Number of users that the model knows, including padding.
        touched: Items that they have interacted with or clicked.
        has_history: ``[n_users]`` bool, whether the user has any history to score by.
    """

    touched: Touched
    has_history: NDArray[np.bool_]

    def __init__(self, trained: Trained, new: NewEvents | None):
        known = trained.dataset.field2id_token[trained.dataset.uid_field]
        self.names = np.concatenate(
            [np.asarray(known, dtype=object), np.asarray(new.users if new else [], dtype=object)]
        )
        self.n_known = len(known)

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, users: Tensor) -> Interaction:
        """Return rows for the users ``[B]`` as in the evaluation of a test target, which is item 0 here."""
        raise NotImplementedError

    def _model_ids(self, users: Tensor) -> Tensor:
        return users.where(users < self.n_known, 0)


class SearchUsers(Users):
    """Users of a search-aware model. Histories come from an :class:`EventLog` of known and new events."""

    def __init__(self, trained: Trained, new: NewEvents | None):
        super().__init__(trained, new)
        raw = _joined(trained.raw, new.raw) if new else trained.raw
        self._events, _ = build_event_log(len(self), raw.interactions, raw.searches, raw.clicks)
        self._dataset = copy.copy(trained.dataset)
        self._dataset.events = self._events
        events = self._events
        users, items, _ = raw.interactions
        self.touched = Touched(
            (users, items), (events.users_of_clicks().numpy(), events.clicks.values.numpy().astype(np.int64))
        )
        # Each of these models can score any history.
        self.has_history = np.ones(len(self), dtype=bool)

    def batch(self, users: Tensor) -> Interaction:
        dataset, events = self._dataset, self._events
        ids = self._model_ids(users)
        batch = Interaction({dataset.uid_field: ids, dataset.iid_field: torch.zeros_like(ids)})
        batch.update(dataset.histories(users, events.item_offsets[users + 1], events.search_offsets[users + 1]))
        return batch


class StockUsers(Users):
    """Users of one of RecBole's own models.

    Rows have all columns of the user's last interaction except its item. For sequential models, they also have lists of
    all columns, ``MAX_ITEM_LIST_LENGTH`` wide.
    """

    def __init__(self, trained: Trained, new: NewEvents | None):
        super().__init__(trained, new)
        dataset, config = trained.dataset, trained.config
        raw = trained.raw
        table, (users, items, times) = raw.table, raw.interactions
        clicks = collect_search_clicks(dataset)
        if new:
            raw = _joined(raw, new.raw)
            users, items, times = raw.interactions
            if table is not None and new.raw.table is not None:
                table = pd.concat([table, new.raw.table], ignore_index=True)
            searchers = new.raw.searches[0].repeat(np.diff(new.raw.clicks[1]))
            clicks = (np.concatenate([clicks[0], searchers]), np.concatenate([clicks[1], new.raw.clicks[0]]))
        self.touched = Touched((users, items), clicks)
        # RecBole's order: times are 32-bit floats, and equal times keep the order of the file.
        order = np.lexsort((times.astype(np.float32), users))
        self._offsets = torch.from_numpy(np.concatenate([[0], np.bincount(users, minlength=len(self)).cumsum()]))
        self._table = dataset._dataframe_to_interaction(not_none(table).iloc[order])
        self._dataset, self._config = dataset, config
        self._transform = construct_transform(config)
        self._is_sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
        self.has_history = np.ones(len(self), dtype=bool)
        if self._is_sequential:
            # These models index the last item of a history, which must exist.
            self.has_history = (self._offsets.diff() > 0).numpy()

    def batch(self, users: Tensor) -> Interaction:
        dataset, ends = self._dataset, self._offsets[users + 1]
        ids, has_any = self._model_ids(users), ends > self._offsets[users]
        last = (ends - 1).clamp_min(0)
        fields = {field: _masked(self._table[field][last], has_any) for field in self._table.columns}
        fields |= {dataset.uid_field: ids, dataset.iid_field: torch.zeros_like(ids)}
        batch = Interaction(fields)
        if self._is_sequential:
            batch.update(self._lists(users, ends))
        batch = dataset.join(batch)
        return self._transform(dataset, batch)

    def _lists(self, users: Tensor, ends: Tensor) -> Interaction:
        config, size = self._config, self._config["MAX_ITEM_LIST_LENGTH"]
        indices, mask, lengths = last_window(self._offsets[users], ends, size)
        # Some models require this width.
        missing = size - indices.shape[1]
        indices, mask = F.pad(indices, (0, missing)), F.pad(mask, (0, missing))
        suffix = config["LIST_SUFFIX"]
        lists = {
            field + suffix: _masked(self._table[field][indices], mask)
            for field in self._table.columns
            if field != self._dataset.uid_field
        }
        lists[config["ITEM_LIST_LENGTH_FIELD"]] = lengths
        # DIEN trains on a list of negatives, and also needs one when it scores.
        negatives = getattr(self._dataset, "neg_item_list_field", None)
        if negatives is not None:
            lists[negatives] = torch.zeros_like(lists[self._dataset.iid_field + suffix])
        return Interaction(lists)


def collect_users(trained: Trained, new: NewEvents | None = None) -> Users:
    """Return the users of a model's dataset and of new events."""
    return (SearchUsers if trained.is_ours else StockUsers)(trained, new)


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    """Set values to 0 where the mask, over the leading dimensions, is False."""
    return values * mask.view(*mask.shape, *[1] * (values.dim() - mask.dim()))


def _joined(first: RawEvents, second: RawEvents) -> RawEvents:
    """Merge two sets of events; at equal times, those of the first come first."""
    (clicks, offsets), (more, more_offsets) = first.clicks, second.clicks
    return RawEvents(
        tuple(np.concatenate(pair) for pair in zip(first.interactions, second.interactions, strict=True)),
        tuple(np.concatenate(pair) for pair in zip(first.searches, second.searches, strict=True)),
        (np.concatenate([clicks, more]), np.concatenate([offsets, offsets[-1] + more_offsets[1:]])),
    )
