"""Finds the best items for users with any trained model, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from recbole_gserec.errors import GSERecError, SettingError
from recbole_gserec.evaluation.top_k import TopK
from recbole_gserec.narrowing import not_none
from recbole_gserec.recommend.new_events import NewEvents
from recbole_gserec.recommend.new_queries import NewQueries
from recbole_gserec.recommend.scores import CandidateScores
from recbole_gserec.recommend.seen import SeenItems
from recbole_gserec.recommend.trained import Trained
from recbole_gserec.recommend.unknown_users import takes_unknown_users
from recbole_gserec.recommend.users import collect_users

USERS_AT_ONCE = 256
"""Default batch size in users; larger batches use more memory but are not faster."""

SCHEMA = pa.schema({"user": pa.string(), "rank": pa.int32(), "item": pa.string(), "score": pa.float32()})


@dataclass(frozen=True)
class Choice:
    """The users of a call.

    Attributes:
        users: ``[n]`` ids of the users.
        left_out: Messages about users without recommendations, one for each reason.
    """

    users: NDArray[np.int64]
    left_out: list[str]


class Recommender:
    """Recommends items to users of a model's dataset and of new events, after each user's last event.

    Args:
        trained: The model.
        new: Events after the training.
        exclude_seen: Leave out items that a user has interacted with or clicked in search.
        all_items: Also recommend items that nobody has interacted with, such as those only clicked in searches.
    """

    def __init__(
        self, trained: Trained, new: NewEvents | None = None, *, exclude_seen: bool = True, all_items: bool = False
    ):
        self._trained = trained
        self._users = collect_users(trained, new)
        self._new_queries = None
        if new is not None and new.queries is not None:
            self._new_queries = NewQueries(trained.model, trained.dataset.query_words, new.queries)
        touched, n_items = self._users.touched, trained.dataset.item_num
        if all_items:
            self._candidates = np.arange(1, n_items)
        else:
            self._candidates = np.flatnonzero(np.bincount(touched.interactions[1], minlength=n_items))
        self._item_names = pa.array(np.asarray(trained.dataset.field2id_token[trained.dataset.iid_field], dtype=str))
        users, items = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        if exclude_seen:
            users, items = (np.concatenate(pair) for pair in zip(touched.interactions, touched.clicks, strict=True))
        self._seen = SeenItems(users, items, len(self._users), self._candidates)

    def choose(self, names: Sequence[str] | None = None) -> Choice:
        """Return the users with these original ids, in this order and without duplicates. By default, return all users.

        Raises:
            SettingError: If a user is unknown, or this model cannot recommend to them.
        """
        users, model = self._users, self._trained.config["model"]
        chosen = np.arange(1, len(users))
        if names is not None:
            # Without duplicates and padding.
            wanted = pd.unique(np.asarray(names, dtype=object))
            chosen = pd.Index(users.names).get_indexer(pd.Index(wanted)).astype(np.int64)
            unknown = wanted[chosen <= 0]
            if len(unknown):
                others = f" (and {len(unknown) - 1:,} others)" if len(unknown) > 1 else ""
                raise SettingError(
                    f"user '{unknown[0]}'{others} is neither in the dataset '{self._trained.config['dataset']}', which "
                    "the model was trained on, nor in new events. Check the id, or give the user's events by "
                    "--new-interactions"
                )
        lacking = [(~users.has_history[chosen], f"have no interaction, and {model} needs one")]
        if (chosen >= users.n_known).any() and not takes_unknown_users(self._trained, users):
            lacking.append((chosen >= users.n_known, f"are unknown to {model}, which knows users only by their ids"))
        left_out, kept = [], np.ones(len(chosen), dtype=bool)
        for is_lacking, why in lacking:
            is_lacking = is_lacking & kept
            kept &= ~is_lacking
            if not is_lacking.any():
                continue
            line = f"{is_lacking.sum():,} users {why} (first: '{users.names[chosen[is_lacking][0]]}')"
            if names is not None:
                raise SettingError(f"{line}. Leave them out, or use another model")
            left_out.append(f"{line}: left out")
        return Choice(chosen[kept], left_out)

    def recommend(
        self, users: NDArray[np.int64], k: int, batch_size: int = USERS_AT_ONCE, max_scores: int | None = None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Return the ``k`` best items of each user, or fewer if there are no more.

        Args:
            users: ``[n]``, see :meth:`choose`.
            k: Number of items.
            batch_size: Users in a batch; fewer if that many cannot be scored in bounded memory.
            max_scores: See :class:`CandidateScores`.

        Yields:
            The number of users of a batch, and a table with the columns of :data:`SCHEMA`, in the order of users, best
            items first.

        Raises:
            GSERecError: If the scores of a user are NaN or infinite.
        """
        if k < 1:
            raise SettingError(f"k is {k}; it takes a whole number of at least 1")
        if len(users) == 0:
            return
        candidates = torch.from_numpy(self._candidates)
        scorer = CandidateScores(self._trained, candidates, max_scores)
        device = self._trained.config["device"]
        for part in torch.as_tensor(users).split(min(batch_size, scorer.max_rows)):
            if self._new_queries is not None:
                # In every call, because the model may have been given other queries since.
                self._new_queries.install()
            seen, best = self._seen.of_users(part, device), TopK(k)
            is_scored = torch.zeros(len(part), dtype=torch.bool, device=device)
            for start, scores in scorer.score(self._users.batch(part)):
                is_scored |= scores.isfinite().any(1)
                best.add(seen.mask_(scores, start), start)
            self._check_scored(part, is_scored.cpu())
            yield len(part), self._table(part.numpy(), best)

    def _check_scored(self, users: torch.Tensor, is_scored: torch.Tensor) -> None:
        if is_scored.all():
            return
        name = self._users.names[users[~is_scored][0]]
        raise GSERecError(
            f"{self._trained.checkpoint}: for user '{name}' the scores of all items are NaN or infinite: the training "
            "diverged. Train again with a smaller learning_rate"
        )

    def _table(self, users: NDArray[np.int64], best: TopK) -> pa.RecordBatch:
        scores, indices = not_none(best.scores).cpu().numpy(), not_none(best.indices).cpu().numpy()
        # Seen items and invalid scores are at the end.
        rows, ranks = np.nonzero(scores > -np.inf)
        items = self._candidates[indices[rows, ranks]]
        return pa.record_batch(
            [
                pa.array(self._users.names[users[rows]], pa.string()),
                pa.array(ranks + 1, pa.int32()),
                self._item_names.take(pa.array(items)),
                pa.array(scores[rows, ranks].astype(np.float32)),
            ],
            schema=SCHEMA,
        )
