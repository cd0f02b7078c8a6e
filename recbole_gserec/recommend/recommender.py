"""The best items for users, by any trained model, in bounded memory; seen items and unknown users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor

from recbole_gserec.data import Ragged
from recbole_gserec.errors import GSERecError, SettingError, not_none
from recbole_gserec.evaluation import MAX_SCORES, TopK, has_full_ranking, predict_pairs
from recbole_gserec.models import MAX_PAIRS
from recbole_gserec.recommend.new_events import NewEvents, NewQueries
from recbole_gserec.recommend.retrieval import Retrieval, check_retrieval
from recbole_gserec.recommend.trained import Trained
from recbole_gserec.recommend.users import Users, collect_users


class CandidateScores:
    """Scores candidates in the way that the model supports.

    Search-aware models encode a batch once and score chunks of candidates against it. RecBole's own models score all
    items at once (``full_sort_predict``) or, if they cannot, pair by pair (``predict``).

    Args:
        trained: The model.
        candidates: ``[n_candidates]`` item ids, ascending.
        max_scores: Maximum number of scores in memory. By default, models that score chunks or pairs have a smaller
            limit.
    """

    def __init__(self, trained: Trained, candidates: Tensor, max_scores: int | None = None):
        self._model, self._dataset = trained.model, trained.dataset
        self._device = trained.config["device"]
        self._candidates = candidates.to(self._device)
        self._encodes = trained.is_ours
        self._ranks_all = not self._encodes and has_full_ranking(self._model)
        if self._ranks_all:
            default, width = MAX_SCORES, trained.dataset.item_num
        elif self._encodes:
            default, width = MAX_PAIRS, 1
        else:
            # The cost of a pair differs between models by orders of magnitude; this is the number of users that they
            # score at once.
            default, width = min(MAX_PAIRS, max(1, trained.config["eval_batch_size"])), 1
        self._max_scores = max_scores or default
        self.max_rows = max(1, self._max_scores // width)
        """Largest batch within the bound."""

    @torch.no_grad()
    def score(self, batch: Interaction) -> Iterator[tuple[int, Tensor]]:
        """Score all candidates for a batch.

        Args:
            batch: B rows, at most :attr:`max_rows`.

        Yields:
            The index of the first candidate of a chunk, and its scores ``[B, C]``, which may be modified.
        """
        batch = batch.to(self._device)
        if self._ranks_all:
            # Some models return all rows flattened into one.
            scores = self._model.full_sort_predict(batch).reshape(len(batch), -1)
            yield 0, scores.index_select(1, self._candidates)
            return
        state = self._model.encode(batch) if self._encodes else None
        start = 0
        for part in self._candidates.split(max(1, self._max_scores // len(batch))):
            if self._encodes:
                yield start, self._model.logits(state, part.unsqueeze(0))
            else:
                items = part.expand(len(batch), -1)
                yield start, predict_pairs(self._model, self._dataset, batch, items, self._device)
            start += len(part)


class SeenItems:
    """The candidates that users have seen.

    Args:
        users: ``[n]`` user of each event.
        items: ``[n]`` item of each event.
        n_users: Number of users.
        candidates: ``[n_candidates]`` item ids in ascending order; other items are ignored.
    """

    def __init__(self, users: NDArray[np.int64], items: NDArray[np.int64], n_users: int, candidates: NDArray[np.int64]):
        indices = np.searchsorted(candidates, items)
        known = indices < len(candidates)
        known[known] = candidates[indices[known]] == items[known]
        n_candidates = max(1, len(candidates))
        pairs = np.unique(users[known] * n_candidates + indices[known])
        counts = np.bincount(pairs // n_candidates, minlength=n_users)
        self._indices = Ragged(
            torch.from_numpy(pairs % n_candidates), torch.from_numpy(np.concatenate([[0], counts.cumsum()]))
        )

    def of_users(self, users: Tensor, device: torch.device | str = "cpu") -> SeenOfBatch:
        """Return what the users ``[B]`` of a batch have seen."""
        indices = self._indices.take(users)
        rows = torch.arange(len(users)).repeat_interleave(indices.offsets.diff())
        order = indices.values.argsort(stable=True)
        return SeenOfBatch(rows[order].to(device), indices.values[order].to(device))


class SeenOfBatch:
    """The (row, index of candidate) pairs of a batch, sorted by candidate.

    Args:
        rows: ``[n]``.
        indices: ``[n]``, ascending.
    """

    def __init__(self, rows: Tensor, indices: Tensor):
        self._rows, self._indices = rows, indices

    def mask_(self, scores: Tensor, start: int) -> Tensor:
        """Set the scores of seen items to ``-inf``, in place.

        Args:
            scores: ``[B, C]`` of the candidates from index ``start`` on.
            start: Index of the first candidate.
        """
        bounds = self._indices.new_tensor([start, start + scores.shape[1]])
        low, high = torch.searchsorted(self._indices, bounds).tolist()
        scores[self._rows[low:high], self._indices[low:high] - start] = -torch.inf
        return scores


_N_ITEMS = 64


def takes_unknown_users(trained: Trained, users: Users) -> bool:
    """Return whether a user without an embedding or features can be scored by history alone.

    Search-aware models can: their user tables hold zeros for the padding user, who has no codes and no text. RecBole's
    sequential models can if scores do not depend on the user, which is tested with one history of two users. All other
    models know users only by id.
    """
    if trained.is_ours:
        return True
    with_history = users.has_history[1 : users.n_known].nonzero()[0] + 1
    if trained.config["MODEL_TYPE"] != ModelType.SEQUENTIAL or len(with_history) < 2:
        return False
    scorer = CandidateScores(trained, torch.arange(1, min(trained.dataset.item_num, 1 + _N_ITEMS)))
    one = users.batch(torch.as_tensor(with_history[:1]))
    other = users.batch(torch.as_tensor(with_history[1:2]))
    of_user = [trained.dataset.uid_field]
    if trained.dataset.user_feat is not None:
        of_user += list(trained.dataset.user_feat.columns)
    scores = []
    for stranger in (one, other):
        batch = one[[0]]
        for field in of_user:
            batch.interaction[field] = stranger[field]
        scores.append(next(iter(scorer.score(batch)))[1])
    own, others = scores
    return torch.allclose(own, others, rtol=1e-5, atol=1e-6)


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
                    f"user '{unknown[0]}'{others} is neither in the dataset '{self._trained.config['dataset']}' of the "
                    "training nor in the new events. Check the id, or give the user's events with --new-interactions"
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
        self,
        users: NDArray[np.int64],
        k: int,
        batch_size: int = USERS_AT_ONCE,
        max_scores: int | None = None,
        retrieve: int = 0,
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Return the ``k`` best items of each user, or fewer if there are no more.

        Args:
            users: ``[n]``, see :meth:`choose`.
            k: Number of items.
            batch_size: Users in a batch; fewer if that many cannot be scored in bounded memory.
            max_scores: See :class:`CandidateScores` and :class:`Retrieval`.
            retrieve: Number of items that are retrieved for each user by the model's next-item head. Only these are
                scored by the whole model. 0 scores all items, and so do at least as many as there are. Users for whom
                fewer than ``k`` retrieved items have a score are scored with all items.

        Yields:
            The number of users of a batch, and a table with the columns of :data:`SCHEMA`, in the order of users, best
            items first.

        Raises:
            GSERecError: If the scores of a user are NaN or infinite.
            SettingError: If ``k`` is below 1, ``retrieve`` is below ``k``, or the model has no next-item head.
        """
        if k < 1:
            raise SettingError(f"k is {k}; it must be a whole number of at least 1")
        check_retrieval(self._trained, k, retrieve)
        if len(users) == 0:
            return
        candidates = torch.from_numpy(self._candidates)
        scorer, retrieval = CandidateScores(self._trained, candidates, max_scores), None
        max_rows = scorer.max_rows
        if 0 < retrieve < len(candidates):
            retrieval = Retrieval(self._trained, candidates, retrieve, max_scores)
            max_rows = retrieval.max_rows
        for part in torch.as_tensor(users).split(min(batch_size, max_rows)):
            self._install_queries()
            if retrieval is None:
                best = self._best_of_all(scorer, part, k)
            else:
                best = self._best_of_retrieved(retrieval, scorer, part, k)
            yield len(part), self._table(part.numpy(), *best)

    def is_retrieval_exact(self, retrieve: int) -> bool:
        """Return whether a retrieval cannot miss an item: all are retrieved, or by the model's own score."""
        return retrieve >= len(self._candidates) or self._trained.model.is_dot_product

    def retrieval_recall(
        self, users: NDArray[np.int64], k: int, retrieve: int, max_scores: int | None = None
    ) -> NDArray[np.float64]:
        """Compute how many of each user's ``k`` best items by the whole model are among those retrieved.

        All items are scored for each user, however many are retrieved.

        Args:
            users: ``[n]``, see :meth:`choose`.
            k: Number of items.
            retrieve: Number of items to retrieve; see :meth:`recommend`.
            max_scores: See :meth:`recommend`.

        Returns:
            ``[n]``, from 0 to 1; NaN for users to whom nothing can be recommended.

        Raises:
            GSERecError: See :meth:`recommend`.
            SettingError: See :meth:`recommend`.
        """
        check_retrieval(self._trained, k, retrieve)
        candidates, device = torch.from_numpy(self._candidates), self._trained.config["device"]
        scorer = CandidateScores(self._trained, candidates, max_scores)
        retrieval = Retrieval(self._trained, candidates, max(1, retrieve), max_scores)
        recalls = [np.zeros(0)]
        for part in torch.as_tensor(users).split(min(USERS_AT_ONCE, scorer.max_rows, retrieval.max_rows)):
            self._install_queries()
            scores, indices = self._best_of_all(scorer, part, k)
            products, retrieved = retrieval.retrieve(self._users.batch(part), self._seen.of_users(part, device).mask_)
            # Numbers that tell the pairs of row and candidate apart.
            first = torch.arange(len(part), device=device).unsqueeze(1) * len(candidates)
            is_item = scores > -torch.inf
            pairs = (retrieved + first)[products > -torch.inf]
            hits = torch.isin(indices + first, pairs) & is_item
            recalls.append((hits.sum(1).double() / is_item.sum(1)).cpu().numpy())
        return np.concatenate(recalls)

    def _install_queries(self) -> None:
        if self._new_queries is not None:
            # In every call, because the model may have been given other queries since.
            self._new_queries.install()

    def _best_of_all(self, scorer: CandidateScores, users: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the best scores ``[B, k']`` of users and the indices of their candidates."""
        device = self._trained.config["device"]
        seen, best = self._seen.of_users(users, device), TopK(k)
        is_scored = torch.zeros(len(users), dtype=torch.bool, device=device)
        for start, scores in scorer.score(self._users.batch(users)):
            is_scored |= scores.isfinite().any(1)
            best.add(seen.mask_(scores, start), start)
        self._check_scored(users, is_scored.cpu())
        return not_none(best.scores), not_none(best.indices)

    def _best_of_retrieved(
        self, retrieval: Retrieval, scorer: CandidateScores, users: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        """Return the same as :meth:`_best_of_all`, of the retrieved items."""
        mask = self._seen.of_users(users, self._trained.config["device"]).mask_
        scores, indices = retrieval.best(self._users.batch(users), mask, k)
        # Users who have seen nearly all items, and invalid scores.
        is_short = (scores[:, -1] == -torch.inf) | ~scores.isfinite().any(1)
        if is_short.any():
            scores[is_short], indices[is_short] = self._best_of_all(scorer, users[is_short.cpu()], k)
        return scores, indices

    def _check_scored(self, users: torch.Tensor, is_scored: torch.Tensor) -> None:
        if is_scored.all():
            return
        name = self._users.names[users[~is_scored][0]]
        raise GSERecError(
            f"{self._trained.checkpoint}: for user '{name}' the scores of all items are NaN or infinite: the training "
            "diverged. Train again with a smaller learning_rate"
        )

    def _table(self, users: NDArray[np.int64], best_scores: Tensor, best_indices: Tensor) -> pa.RecordBatch:
        scores, indices = best_scores.cpu().numpy(), best_indices.cpu().numpy()
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
