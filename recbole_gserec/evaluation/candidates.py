"""The sampled candidates of the evaluation protocol, and lists of them for the rows of a split.

They depend on the dataset, the split and a seed alone. Users and items are numbered by the order of their original ids,
whatever ids a model's dataset gives them, so all models rank the same candidates.

"""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_gserec.data import SearchDataset, evaluates_searches, read_search_file
from recbole_gserec.errors import SettingError
from recbole_gserec.files import has_no_rows

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


USERS_PER_BLOCK = 4096
"""Users per generator. Changing this number changes all lists of a seed."""

ROUNDS = 16
"""Rounds of drawing for all users together; the few who then lack items are finished one by one, with the same odds.
Part of what a seed means, too."""

PHASES = ("valid", "test")


def draw_candidates(
    interacted: NDArray[np.int64],
    n_users: int,
    n_items: int,
    n_candidates: int,
    *,
    seed: int,
    phase: str,
    round_: int = 0,
    weights: NDArray[np.float64] | None = None,
    wanted: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Draw, for every user, distinct items that the user never interacted with or clicked.

    Args:
        interacted: Sorted, distinct ``user * n_items + item`` of every pair to exclude, ``[n_pairs]``.
        n_users: Number of users, counted from 0.
        n_items: Number of items, counted from 0.
        n_candidates: Number of items to draw for each user.
        seed: Seed of the lists.
        phase: ``valid`` or ``test``.
        round_: 0 for a user's first target in the phase, 1 for a second one, ...
        weights: ``[n_items]`` non-negative weights of the items; equal by default. Items are drawn one by one without
            replacement.
        wanted: ``[n_users]``, whether the user's list is needed; blocks without such users remain -1.

    Returns:
        ``[n_users, n_candidates]``; rows end with -1 if a user has fewer items left.
    """
    result = np.full((n_users, n_candidates), -1, dtype=np.int64)
    cumulative = None if weights is None else np.cumsum(weights) / np.sum(weights)
    for block, start in enumerate(range(0, n_users, USERS_PER_BLOCK)):
        rng = np.random.default_rng([seed, PHASES.index(phase), round_, block])
        users = np.arange(start, min(start + USERS_PER_BLOCK, n_users))
        if wanted is not None and not wanted[users].any():
            continue
        low, high = np.searchsorted(interacted, [users[0] * n_items, (users[-1] + 1) * n_items])
        pairs = interacted[low:high]
        touched = np.bincount(pairs // n_items - start, minlength=len(users))
        crowded = n_items - touched < 4 * n_candidates
        if weights is not None:
            # Rejection would take too long to find rare items; if few items are likely, users are drawn exactly.
            crowded |= np.count_nonzero(weights) - touched < 4 * n_candidates
        open_users = users[~crowded]
        result[open_users] = _draw_by_rejection(rng, open_users, pairs, n_items, n_candidates, cumulative)
        for user in users[(result[users] < 0).any(axis=1)]:
            result[user] = _draw_exactly(rng, user, result[user], pairs, n_items, weights)
    return result


def _draw_by_rejection(
    rng: np.random.Generator,
    users: NDArray[np.int64],
    pairs: NDArray[np.int64],
    n_items: int,
    n_candidates: int,
    cumulative: NDArray[np.float64] | None,
) -> NDArray[np.int64]:
    """Draw items in order and keep the first new ones of each user, filled up with -1 if there are too few."""
    chosen = np.full((len(users), n_candidates), -1, dtype=np.int64)
    waiting = np.arange(len(users))
    drawn = np.empty((len(users), 0), dtype=np.int64)
    for _ in range(ROUNDS):
        if len(waiting) == 0:
            break
        shape = (len(waiting), n_candidates + n_candidates // 4 + 8)
        if cumulative is None:
            more = rng.integers(n_items, size=shape)
        else:
            more = np.minimum(np.searchsorted(cumulative, rng.random(shape), side="right"), n_items - 1)
        drawn = np.concatenate([drawn, more], axis=1)
        good = ~_contains(pairs, users[waiting, None] * n_items + drawn) & _first_of_its_kind(drawn)
        position = good.cumsum(axis=1)
        rows, columns = np.nonzero(good & (position <= n_candidates))
        chosen[waiting[rows], position[rows, columns] - 1] = drawn[rows, columns]
        lacking = position[:, -1] < n_candidates
        waiting, drawn = waiting[lacking], drawn[lacking]
    return chosen


def _draw_exactly(
    rng: np.random.Generator,
    user: int,
    begun: NDArray[np.int64],
    pairs: NDArray[np.int64],
    n_items: int,
    weights: NDArray[np.float64] | None,
) -> NDArray[np.int64]:
    """Complete a user's list from all remaining items; the probabilities of the next item are the same."""
    low, high = np.searchsorted(pairs, [user * n_items, (user + 1) * n_items])
    begun, n_candidates = begun[begun >= 0], len(begun)
    left = np.delete(np.arange(n_items), np.concatenate([pairs[low:high] - user * n_items, begun]))
    odds = None
    if weights is not None:
        left = left[weights[left] > 0]
        odds = weights[left] / weights[left].sum() if len(left) else None
    size = min(n_candidates - len(begun), len(left))
    drawn = rng.choice(left, size=size, replace=False, p=odds) if size else left[:0]
    return np.concatenate([begun, drawn, np.full(n_candidates - len(begun) - size, -1)])


def _contains(sorted_values: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.bool_]:
    if len(sorted_values) == 0:
        return np.zeros(values.shape, dtype=bool)
    indices = np.minimum(np.searchsorted(sorted_values, values), len(sorted_values) - 1)
    return sorted_values[indices] == values


def _first_of_its_kind(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether an element is the first of its value in its row."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    first = np.ones(rows.shape, dtype=bool)
    np.put_along_axis(first, order[:, 1:], ordered[:, 1:] != ordered[:, :-1], axis=1)
    return first


def order_of_tokens(tokens: Sequence[str] | np.ndarray) -> NDArray[np.int64]:
    """Return the rank of each original id among all, which is the same for every model."""
    return np.argsort(np.argsort(np.asarray(tokens, dtype=str), kind="stable"), kind="stable")


_FEW = 2
"""A catalogue smaller than this many lists is small; then it, not the users, is the cause of short lists."""


class CandidateLists:
    """Draws the negatives of every row of an evaluation split.

    Args:
        dataset: The split.
        sampler: RecBole's sampler of the split, which knows the other splits.
        n_candidates: Number of items to draw for each row.
        distribution: ``uniform``, or ``popularity`` for probabilities proportional to the number of interactions.
        seed: Seed of the lists.
    """

    def __init__(self, dataset: Dataset, sampler: Any, n_candidates: int, distribution: str, seed: int):
        clickers, clicked = collect_search_clicks(dataset)
        of_searches = evaluates_searches(dataset.config)
        if of_searches:
            # Users with a single interaction may have searches to evaluate.
            events = dataset.events
            users, items = events.users_of_interactions().numpy(), events.items.numpy().astype(np.int64)
        else:
            users, items = collect_interactions(getattr(sampler, "datasets", None) or [sampler.dataset])
        tokens = dataset.field2id_token
        # Only items with an interaction can be targets, so only they are candidates.
        self._items = np.unique(items)
        self._items = self._items[np.argsort(order_of_tokens(tokens[dataset.iid_field][self._items]))]
        self._users = np.unique(np.concatenate([users, clickers]) if of_searches else users)
        self._users = self._users[np.argsort(order_of_tokens(tokens[dataset.uid_field][self._users]))]
        index_of_item = self._indices(self._items, dataset.item_num)
        self._index_of_user = self._indices(self._users, dataset.user_num)
        user_indices = self._index_of_user[np.concatenate([users, clickers])]
        item_indices = index_of_item[np.concatenate([items, clicked])]
        known = (user_indices >= 0) & (item_indices >= 0)
        self._interacted = np.unique(user_indices[known] * len(self._items) + item_indices[known])
        self._weights = None
        if distribution == "popularity":
            self._weights = np.bincount(index_of_item[items], minlength=len(self._items)).astype(float)
        self._n_candidates, self._seed, self._phase = n_candidates, seed, sampler.phase

    @staticmethod
    def _indices(ids: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        indices = np.full(size, -1, dtype=np.int64)
        indices[ids] = np.arange(len(ids))
        return indices

    def known_items(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return the items that are left out of the lists of users ``[n_rows]``: rows and items, ``[n]`` each."""
        starts = self._index_of_user[users.numpy()] * len(self._items)
        low = np.searchsorted(self._interacted, starts)
        counts = np.searchsorted(self._interacted, starts + len(self._items)) - low
        rows = np.repeat(np.arange(len(counts)), counts)
        places = np.arange(len(rows)) + (low - (counts.cumsum() - counts))[rows]
        items = self._items[self._interacted[places] - starts[rows]]
        return torch.from_numpy(rows), torch.from_numpy(items)

    def sample_of_users(self, users: Tensor, size: int) -> NDArray[np.int64]:
        """Draw rows with distinct users from the rows of users ``[n_rows]``, the same users for every model.

        Returns:
            Indices of at most ``size`` rows, in the order of the users' original ids.
        """
        indices = self._index_of_user[users.numpy()]
        distinct, rows = np.unique(indices, return_index=True)
        # Not the seed of the lists: with several trainings, the users are to be the same.
        rng = np.random.default_rng(PHASES.index(self._phase))
        chosen = np.sort(rng.permutation(len(distinct))[:size])
        return rows[chosen]

    @property
    def items(self) -> NDArray[np.int64]:
        """Internal ids of all items that can be in a list."""
        return self._items

    def for_rows(self, users: Tensor) -> Tensor:
        """Return negatives for rows of these users.

        Args:
            users: ``[n_rows]`` internal user ids; a user may have several rows.

        Returns:
            ``[n_rows, n_candidates]`` internal item ids, 0 if a user has too few items left.

        Raises:
            SettingError: For a user with a single interaction.
        """
        indices = self._index_of_user[users.numpy()]
        if (indices < 0).any():
            raise SettingError(
                f"{(indices < 0).sum():,} {self._phase} targets belong to users with a single interaction, for whom no "
                'candidates are drawn. Leave these users out with --user_inter_num_interval="[2,inf)", or split the '
                "interactions of each user by time (group_by: user in eval_args)"
            )
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        rounds = np.empty(len(indices), dtype=np.int64)
        rounds[order] = np.arange(len(indices)) - np.searchsorted(ordered, ordered)
        result = np.zeros((len(indices), self._n_candidates), dtype=np.int64)
        # Item 0 is padding: index -1 selects it at the end.
        ids = np.append(self._items, 0)
        for round_ in range(int(rounds.max(initial=-1)) + 1):
            rows = rounds == round_
            wanted = np.zeros(len(self._users), dtype=bool)
            wanted[indices[rows]] = True
            drawn = draw_candidates(
                self._interacted,
                len(self._users),
                len(self._items),
                self._n_candidates,
                seed=self._seed,
                phase=self._phase,
                round_=round_,
                weights=self._weights,
                wanted=wanted,
            )
            result[rows] = ids[drawn[indices[rows]]]
        short = int((result[:, -1] == 0).sum()) if self._n_candidates else 0
        if short:
            why = "their users interacted with almost all items"
            if len(self._items) < _FEW * self._n_candidates:
                fewer = {"mode": f"uni{max(1, len(self._items) // _FEW)}"}
                whole = {"mode": "full"}
                why = (
                    f"the catalogue has only {len(self._items):,} items. Use fewer candidates, for instance "
                    f'--eval_args="{fewer}", or rank all items with --eval_args="{whole}"'
                )
            getLogger().warning(
                f"{short:,} {self._phase} targets have fewer than {self._n_candidates} candidates: {why}"
            )
        return torch.from_numpy(result)
