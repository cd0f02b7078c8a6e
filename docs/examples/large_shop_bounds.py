"""Compute how much searches can help in a large shop: python large_shop_bounds.py FOLDER.

FOLDER is made by ``large_shop.py``. Each customer's target is ranked among 99 other items by its exact probability,
which only the generator knows. The rankers differ in what they know of the customer: the earlier purchases; also the
earlier searches; or the taste, without and with the searches. No ranker with the same knowledge is better. For
validation targets, searches about the purchase after the target are taken for other ones.

Others know the taste and the earlier purchases, but not what customers of the taste like. They count it in the training
part: in purchases; in purchases, each customer's last with more weight; in purchases and in what searches are about.
The last difference is what the searches of others tell about a customer, also about one who never searches. All rankers
but popularity know when the target is bought.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from large_shop import (
    AFTER_MINUTES,
    BEFORE_MINUTES,
    COMPANION_SHARE,
    COMPANION_SHARES,
    LOOKS,
    MINUTES_A_DAY,
    Catalogue,
    Options,
    Searches,
    Users,
    bought_looks,
    companion_items,
    make_shop,
    new_shares,
)

GROUPS = {"0": (0, 0), "1-3": (1, 3), "4-9": (4, 9), "10-": (10, 10**9)}
USERS_AT_ONCE = 100
COUNTS_OF_POPULAR = 50.0
"""Weight of popular kinds in counted tastes, in counted events."""


@dataclass(frozen=True)
class Task:
    """One target per user, and what may be seen: the purchases before ``places`` and the searches before ``times``.

    Shapes: ``places`` and ``times`` (users,); ``candidates`` (users, 1 + negatives), the target first; ``past`` (users,
    12), earlier items, else -1; ``n_searches`` (users,), those before the validation target.
    """

    places: np.ndarray
    times: np.ndarray
    candidates: np.ndarray
    past: np.ndarray
    n_searches: np.ndarray


def make_task(options: Options, users: Users, searches: Searches, target: str, n_negatives: int) -> Task:
    """Choose targets and draw candidates that the customer never bought or clicked."""
    rows = np.arange(options.users)
    places = users.n_purchases - (1 if target == "test" else 2)
    validation_times = users.times[rows, users.n_purchases - 2]
    in_training = searches.times < validation_times[searches.users]
    clickers, clicks = np.repeat(searches.users, 3), searches.clicks.ravel()
    buyers = np.repeat(rows, users.items.shape[1])
    known = np.concatenate([buyers * options.items + users.items.ravel(), clickers * options.items + clicks])
    known = known[np.concatenate([users.items.ravel(), clicks]) >= 0]
    negatives = draw_negatives(options, np.unique(users.items[users.items >= 0]), known, n_negatives)
    return Task(
        places=places,
        times=users.times[rows, places],
        candidates=np.column_stack([users.items[rows, places], negatives]),
        past=np.where(np.arange(users.items.shape[1]) < places[:, None], users.items, -1),
        n_searches=np.bincount(searches.users[in_training], minlength=options.users),
    )


def draw_negatives(options: Options, sold: np.ndarray, known: np.ndarray, n_negatives: int) -> np.ndarray:
    """Draw different sold items for each user, none of ``known`` = user * items + item (users, negatives)."""
    rng = np.random.default_rng([options.seed, 1])
    starts = np.arange(options.users)[:, None] * options.items
    drawn = np.empty((options.users, 0), dtype=np.int64)
    while True:
        drawn = np.concatenate([drawn, starts + rng.choice(sold, size=(options.users, 2 * n_negatives))], axis=1)
        first = np.zeros(drawn.size, dtype=bool)
        first[np.unique(drawn, return_index=True)[1]] = True
        good = first.reshape(drawn.shape) & ~np.isin(drawn, known)
        if (good.sum(axis=1) >= n_negatives).all():
            chosen = good & (good.cumsum(axis=1) <= n_negatives)
            return (drawn - starts)[chosen].reshape(options.users, n_negatives)


class Purchase:
    """Probability of buying an item next, after the items ``past`` (n, places), of which the last is ``previous`` (n,).

    It is ``own`` times the share of the item's kind in the taste, plus ``companion``; both (n, width), as ``items``.
    """

    def __init__(self, catalogue: Catalogue, past: np.ndarray, previous: np.ndarray | None, items: np.ndarray) -> None:
        n, width = items.shape
        users, (kinds, looks) = np.repeat(np.arange(n), width), np.divmod(items.ravel(), len(LOOKS))
        self.own = np.empty(n * width)
        for part in np.array_split(np.arange(n * width), 1 + n * width // 100_000):
            shares = catalogue.looks[kinds[part]]
            left = np.where(bought_looks(past, users[part], kinds[part]), 0, shares).sum(axis=1)
            self.own[part] = shares[np.arange(len(part)), looks[part]] / left
        self.own, self.companion = self.own.reshape(n, width), np.zeros((n, width))
        if previous is None:
            return
        # Who wants a companion and has it buys something else.
        companions = companion_items(catalogue, previous)
        shares = np.where((past[:, :, None] == companions[:, None]).any(axis=1), 0, COMPANION_SHARE * COMPANION_SHARES)
        self.own *= 1 - shares.sum(axis=1, keepdims=True)
        self.companion = ((items[:, :, None] == companions[:, None]) * shares[:, None]).sum(axis=2)


def taste_odds(catalogue: Catalogue, users: Users, past: np.ndarray) -> np.ndarray:
    """Log probability of each user's earlier items for each taste (users, tastes)."""
    odds = np.tile(np.log(catalogue.taste_sizes), (len(past), 1))
    for place in range(past.shape[1]):
        rows = np.flatnonzero(past[:, place] >= 0)
        items = past[rows, place][:, None]
        purchase = Purchase(catalogue, past[rows, :place], past[rows, place - 1] if place else None, items)
        is_new, kinds = new_shares(users.n_purchases[rows], place)[:, None], items[:, 0] // len(LOOKS)
        shares = (1 - is_new) * catalogue.kind_shares.T[kinds] + is_new * catalogue.new_tastes.T[kinds]
        odds[rows] += np.log(purchase.own * shares + purchase.companion)
    return odds


def to_probabilities(odds: np.ndarray) -> np.ndarray:
    """Softmax of the rows."""
    weights = np.exp(odds - odds.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def minute_shares(minutes: np.ndarray, spread: tuple[int, int, int]) -> np.ndarray:
    """Probability of each number of minutes by ``draw_minutes``."""
    shortest, mean, longest = spread
    kept = 1 - np.exp(-(longest - shortest) / mean)
    shares = np.exp(-np.maximum(minutes - shortest, 0) / mean) * (1 - np.exp(-1 / mean)) / kept
    return np.where((minutes >= shortest) & (minutes < longest), shares, 0)


class Evidence:
    """What each visible search says: its probability by what it may be about.

    The form of a query and the number of clicks have the same probability for all, so they are left out. A search
    matches items by the most that is known of it: the item, the kind (by the words or a click), or the object.

    Args:
        options: Those of the shop.
        catalogue: The items.
        users: The customers.
        searches: All searches.
        task: Tells which are visible.
    """

    def __init__(self, options: Options, catalogue: Catalogue, users: Users, searches: Searches, task: Task) -> None:
        seen = np.flatnonzero(searches.times < task.times[searches.users])
        # Slots number the visible searches of each user.
        seen = seen[np.argsort(searches.users[seen], kind="stable")]
        self.users = searches.users[seen]
        self.slots = np.arange(len(seen)) - np.searchsorted(self.users, self.users)
        self.items, self.catalogue = searches.items[seen], catalogue
        self.kinds = self.items // len(LOOKS)
        times, n_purchases = searches.times[seen], users.n_purchases[self.users]
        self.n_clicks = (searches.clicks[seen] >= 0).sum(axis=1)
        self.by_item = searches.forms[seen] == 2
        self.by_object = (searches.forms[seen] == 0) & (self.n_clicks == 0)
        before, after, interest, noise = options.about_shares
        first, last = users.times[self.users, 0], users.times[self.users, n_purchases - 1]
        within = (times >= first - 7 * MINUTES_A_DAY) & (times < last)
        any_time = within / (last - first + 7 * MINUTES_A_DAY)
        self.interest = interest * any_time * self._look_share()
        popular = catalogue.popular[None]
        self.other = noise * any_time * self._look_share() * self.match_kinds(popular, np.arange(len(seen)))[:, 0]
        for place in range(users.items.shape[1]):
            earlier, since = task.past[self.users, place], times - users.times[self.users, place]
            shares = before * minute_shares(-since, BEFORE_MINUTES) + after * minute_shares(since, AFTER_MINUTES)
            self.other += np.where(earlier >= 0, shares / n_purchases * self.matches(earlier), 0)
        # Of being about the target; what matches the candidate comes in later.
        self.target = before * minute_shares(task.times[self.users] - times, BEFORE_MINUTES) / n_purchases

    def _look_share(self) -> np.ndarray:
        looks = self.catalogue.looks[self.kinds, self.items % len(LOOKS)]
        return np.where(self.by_item, looks, 1.0)

    def matches(self, items: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Whether searches ``rows`` (n,) may be about ``items`` (n, ...)."""
        shape = (-1,) + (1,) * (items.ndim - 1)
        own, kinds, objects = self.items[rows].reshape(shape), items // len(LOOKS), self.catalogue.objects
        own_kinds = own // len(LOOKS)
        by_kind = np.where(
            self.by_object[rows].reshape(shape), objects[own_kinds] == objects[kinds], own_kinds == kinds
        )
        return np.where(self.by_item[rows].reshape(shape), own == items, by_kind)

    def match_kinds(self, shares: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Sum ``shares`` (tastes, kinds) over the kinds that searches ``rows`` match (n, tastes)."""
        sums = np.zeros((self.catalogue.objects.max() + 1, len(shares)))
        np.add.at(sums, self.catalogue.objects, shares.T)
        by_object = self.by_object[rows, None]
        return np.where(by_object, sums[self.catalogue.objects[self.kinds[rows]]], shares.T[self.kinds[rows]])

    def by_taste(self, rows: np.ndarray) -> np.ndarray:
        """Probability of searches ``rows`` for each taste, unless they are about the target (n, tastes)."""
        interest = self.interest[rows, None] * self.match_kinds(self.catalogue.new_tastes, rows)
        return self.other[rows, None] + interest

    def of_clicks(self, task: Task) -> np.ndarray:
        """How much likelier the clicks are if the candidate is bought, by a factor (users, candidates).

        Clicks are never on items that the customer buys, so fewer items of the kind remain for them.
        """
        kinds = task.candidates // len(LOOKS)
        bought = sum((past[:, None] == kinds).astype(np.int64) for past in (task.past // len(LOOKS)).T)
        factors = np.ones(kinds.shape)
        for slot in range(self.slots.max(initial=-1) + 1):
            rows = np.flatnonzero((self.slots == slot) & (self.n_clicks > 0))
            users = self.users[rows]
            left = len(LOOKS) - bought[users]
            odds = left / (left - self.n_clicks[rows, None])
            factors[users] *= np.where(kinds[users] == self.kinds[rows, None], odds, 1)
        return factors

    def add_to(self, odds: np.ndarray) -> None:
        """Add the log probabilities of searches too old to be about the target to ``odds`` (users, tastes)."""
        old = np.flatnonzero(self.target == 0)
        order = np.searchsorted(self.users[old], self.users[old])
        slots = np.arange(len(old)) - order
        for slot in range(slots.max(initial=-1) + 1):
            rows = old[slots == slot]
            # If none is noise, no taste explains a search about the purchase after a validation target.
            odds[self.users[rows]] += np.log(np.maximum(self.by_taste(rows), 1e-12))


def item_scores(
    purchase: Purchase, kind_shares: np.ndarray, task: Task, tastes: np.ndarray, evidence: Evidence | None = None
) -> np.ndarray:
    """Probability of each candidate, up to a factor per user (users, candidates).

    Args:
        purchase: Of the candidates.
        kind_shares: Shares of kinds at the target for each taste (tastes, kinds).
        task: Targets and candidates.
        tastes: Probabilities of each user's taste (users, tastes).
        evidence: Searches of the last two days are multiplied in, with what the taste explains of them, and the clicks.
    """
    kinds = task.candidates // len(LOOKS)
    scores = purchase.own * np.take_along_axis(tastes @ kind_shares, kinds, axis=1) + purchase.companion
    if evidence is None:
        return scores
    recent = np.flatnonzero(evidence.target > 0)
    searchers = np.unique(evidence.users[recent])
    for part in np.array_split(searchers, 1 + len(searchers) // USERS_AT_ONCE):
        shares = purchase.own[part][..., None] * kind_shares.T[kinds[part]] + purchase.companion[part][..., None]
        weights = shares * tastes[part][:, None, :]
        for row in recent[np.isin(evidence.users[recent], part)][:, None]:
            user = evidence.users[row]
            about_target = evidence.target[row, None] * evidence.matches(task.candidates[user], row)
            others = evidence.by_taste(row)
            weights[np.searchsorted(part, user)] *= about_target[..., None] + others[:, None, :]
        scores[part] = weights.sum(axis=2)
    return scores * evidence.of_clicks(task)


def ndcg(scores: np.ndarray, k: int = 5) -> np.ndarray:
    """NDCG@k of the first column; a tie counts against it (users,)."""
    ranks = 1 + (scores[:, 1:] >= scores[:, :1]).sum(axis=1)
    return np.where(ranks <= k, 1 / np.log2(ranks + 1), 0)


def counted_shares(catalogue: Catalogue, tastes: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Shares of kinds for each taste (tastes, kinds), from ``items`` and the ``tastes`` of their customers (n,)."""
    counts = np.tile(COUNTS_OF_POPULAR * catalogue.popular, (len(catalogue.tastes), 1))
    np.add.at(counts, (tastes, items // len(LOOKS)), 1)
    return counts / counts.sum(axis=1, keepdims=True)


def candidate_scores(
    options: Options, catalogue: Catalogue, users: Users, searches: Searches, task: Task
) -> dict[str, np.ndarray]:
    """Score the candidates (users, candidates) by each ranker."""
    evidence = Evidence(options, catalogue, users, searches, task)
    # The same for all users: a target has as many purchases left.
    is_new = new_shares(users.n_purchases, task.places)[0]
    shares = (1 - is_new) * catalogue.kind_shares + is_new * catalogue.new_tastes
    odds = taste_odds(catalogue, users, task.past)
    purchases = to_probabilities(odds)
    evidence.add_to(odds)
    both = to_probabilities(odds)
    known = np.eye(options.tastes)[users.tastes]
    previous = task.past[np.arange(options.users), task.places - 1]
    purchase = Purchase(catalogue, task.past, previous, task.candidates)

    left = users.n_purchases[:, None] - np.arange(users.items.shape[1])
    training = left > 2
    # The last purchase of the training part is the only one there that may be of a new kind.
    bought, lately = (
        counted_shares(catalogue, users.tastes[chosen.nonzero()[0]], users.items[chosen])
        for chosen in (training, left == 3)
    )
    in_training = searches.times < users.times[np.arange(options.users), users.n_purchases - 2][searches.users]
    searched = counted_shares(catalogue, users.tastes[searches.users[in_training]], searches.items[in_training])
    with_late, with_searches = ((1 - is_new) * bought + is_new * more for more in (lately, searched))
    sold = np.bincount(users.items[training], minlength=options.items)
    return {
        "popularity": sold[task.candidates],
        "purchases": item_scores(purchase, shares, task, purchases),
        "purchases + searches": item_scores(purchase, shares, task, both, evidence),
        "taste": item_scores(purchase, shares, task, known),
        "taste + searches": item_scores(purchase, shares, task, known, evidence),
        "counted purchases": item_scores(purchase, bought, task, known),
        "counted late purchases": item_scores(purchase, with_late, task, known),
        "counted purchases + searches": item_scores(purchase, with_searches, task, known),
    }


def bounds(options: Options, target: str = "test", n_negatives: int = 99) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """NDCG@5 of each user by each ranker, and each user's number of searches before the validation target."""
    shop = make_shop(options)
    task = make_task(options, *shop[1:], target, n_negatives)
    scores = candidate_scores(options, *shop, task)
    return {name: ndcg(own) for name, own in scores.items()}, task.n_searches


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", choices=("validation", "test"), default="test")
    given = parser.parse_args()
    options = Options(**json.loads((given.folder / "truth" / "shares.json").read_text(encoding="utf-8"))["options"])
    values, n_searches = bounds(options, given.target)
    print("| searches | users | " + " | ".join(values) + " |")
    print("| --- |" + " --- |" * (1 + len(values)))
    for name, (least, most) in {"all": (0, 10**9), **GROUPS}.items():
        users = (least <= n_searches) & (n_searches <= most)
        cells = [f"{own[users].mean():.3f}"[1:] for own in values.values()]
        print(f"| {name} | {users.sum():,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
