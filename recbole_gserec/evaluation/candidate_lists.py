"""Candidate lists for the rows of one evaluation split, in a dataset's own ids."""

from __future__ import annotations

from logging import getLogger
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_gserec.errors import SettingError
from recbole_gserec.evaluation.candidates import draw_candidates, order_of_tokens
from recbole_gserec.evaluation.interacted import collect_interactions, collect_search_clicks

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset


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
        parts = getattr(sampler, "datasets", None) or [sampler.dataset]
        users, items = collect_interactions(parts)
        clickers, clicked = collect_search_clicks(dataset)
        tokens = dataset.field2id_token
        # Only items with an interaction can be targets, so only they are candidates.
        self._items = np.unique(items)
        self._items = self._items[np.argsort(order_of_tokens(tokens[dataset.iid_field][self._items]))]
        self._users = np.unique(users)
        self._users = self._users[np.argsort(order_of_tokens(tokens[dataset.uid_field][self._users]))]
        place_of_item = self._indices(self._items, dataset.item_num)
        self._index_of_user = self._indices(self._users, dataset.user_num)
        user_places = self._index_of_user[np.concatenate([users, clickers])]
        item_places = place_of_item[np.concatenate([items, clicked])]
        known = (user_places >= 0) & (item_places >= 0)
        self._interacted = np.unique(user_places[known] * len(self._items) + item_places[known])
        self._weights = None
        if distribution == "popularity":
            self._weights = np.bincount(place_of_item[items], minlength=len(self._items)).astype(float)
        self._n_candidates, self._seed, self._phase = n_candidates, seed, sampler.phase

    @staticmethod
    def _indices(ids: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        indices = np.full(size, -1, dtype=np.int64)
        indices[ids] = np.arange(len(ids))
        return indices

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
                f"{(indices < 0).sum():,} {self._phase} targets are of users with a single interaction, for whom no "
                'candidates are drawn. Leave them out, --user_inter_num_interval="[2,inf)", or split each user\'s '
                "interactions by time: group_by: user in eval_args"
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
                    f"the catalogue is small, {len(self._items):,} items. Take fewer candidates, for instance "
                    f'--eval_args="{fewer}", or rank all items, --eval_args="{whole}"'
                )
            getLogger().warning(
                f"{short:,} {self._phase} targets have fewer than {self._n_candidates} candidates: {why}"
            )
        return torch.from_numpy(result)
