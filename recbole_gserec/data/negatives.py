"""Random negatives for training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recbole_gserec.data.events import EventLog

_ROUNDS = 50


class NegativeSampler:
    """Draws items that a user neither interacted with nor clicked in the training part.

    Later events are ignored: excluding a validation or test target from the negatives would reveal it to the model.

    Args:
        events: All events, with the end of their training part.
        n_items: Number of item ids, including padding.
        popularity: Exponent: an item's probability is proportional to this power of its number of training
            interactions. None for equal probabilities.
    """

    def __init__(self, events: EventLog, n_items: int, popularity: float | None = None):
        self._n_items = n_items
        users, items = events.users_of_interactions().numpy(), events.items.numpy()
        in_training = np.arange(len(items)) < events.train_ends.numpy()[users]
        searches = np.arange(len(events.queries)).repeat(np.diff(events.clicks.offsets.numpy()))
        clickers, clicked = events.users_of_clicks().numpy(), events.clicks.values.numpy()
        click_in_training = searches < events.train_search_ends.numpy()[clickers]
        pairs = np.concatenate(
            [
                users[in_training] * n_items + items[in_training],
                clickers[click_in_training] * n_items + clicked[click_in_training],
            ]
        )
        self._known = np.unique(pairs)
        # Only items with an interaction are candidates in evaluation, so other negatives would be useless.
        self._items = np.unique(items).astype(np.int64)
        self._cumulative = None
        if popularity is not None:
            counts = np.bincount(items[in_training], minlength=n_items)[self._items].astype(float) ** popularity
            cumulative = np.cumsum(counts)
            # Divided by its last value, it ends with exactly 1, above every number that is drawn.
            self._cumulative = cumulative / cumulative[-1]

    def sample(self, users: NDArray[np.int64], n_negatives: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw negatives for each row.

        Args:
            users: ``[B]`` user of each row.
            n_negatives: Number of negatives of a row, possibly with duplicates.
            rng: Random generator.

        Returns:
            ``[B, n_negatives]`` item ids. A user who knows (almost) all items may get a known one.
        """
        base = np.repeat(users * self._n_items, n_negatives)
        negatives = self._draw(len(base), rng)
        waiting = np.flatnonzero(self._is_known(base + negatives))
        for _ in range(_ROUNDS):
            if len(waiting) == 0:
                break
            negatives[waiting] = self._draw(len(waiting), rng)
            waiting = waiting[self._is_known(base[waiting] + negatives[waiting])]
        return negatives.reshape(len(users), n_negatives)

    def _draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        if self._cumulative is None:
            return self._items[rng.integers(len(self._items), size=size)]
        return self._items[np.searchsorted(self._cumulative, rng.random(size), side="right")]

    def _is_known(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        indices = np.minimum(np.searchsorted(self._known, pairs), len(self._known) - 1)
        return self._known[indices] == pairs
