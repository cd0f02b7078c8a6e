"""The sampled candidates of the evaluation protocol.

They depend only on the dataset, the split and a seed. Users and items are numbered by the order of their original ids,
whatever ids a model's dataset assigns. Every user has a list, even if a model does not evaluate the user.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
        place = good.cumsum(axis=1)
        rows, columns = np.nonzero(good & (place <= n_candidates))
        chosen[waiting[rows], place[rows, columns] - 1] = drawn[rows, columns]
        lacking = place[:, -1] < n_candidates
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
