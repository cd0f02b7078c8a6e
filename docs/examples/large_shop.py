"""Generate logs of a large shop whose truth is known: python large_shop.py FOLDER.

Every customer has a taste, shared with others. A purchase is of a kind of the taste, of any popular kind, or a
companion of the item bought before, in the same look. Nobody buys an item twice. With the last purchases, customers
turn to new kinds, the same for all of a taste. So what the customers of a taste search for tells what others of that
taste will buy, also those who never search.

Most customers search rarely, some often. A search is about one of four things:

- before: an item that the customer buys within two days;
- after: an item that the customer has bought;
- interest: a kind that customers of the taste turn to, without a purchase;
- noise: any popular kind.

Queries name the object (``lamp``), the kind (``garden lamp``) or the item (``red garden lamp``). Clicks are on items of
the kind that the customer never buys. Otherwise, a clicked candidate would always be the target, because sampled
candidates exclude what a customer clicked.

The folder gets ``interactions.csv``, ``searches.csv`` and ``items.csv``, and the truth in ``truth/``. Nobody's data is
in it. ``large_shop_bounds.py`` computes how much the searches can help. ``shop_logs.py`` is the small shop of the
tutorial.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

USES = (
    "kitchen garden office bedroom bathroom camping beach balcony workshop garage nursery school travel sports music "
    "party picnic hiking cycling fishing sewing painting baking reading winter"
).split()
OBJECTS = (
    "lamp chair table box bag basket rack shelf stool mat clock mirror blanket cushion towel bottle cup bowl knife "
    "brush glove hat apron belt hook tray stand cover tent torch radio fan scale ladder rope tape jar candle frame case"
).split()
LOOKS = (
    "red blue green white black grey yellow orange purple pink brown golden silver wooden steel glass woollen striped "
    "dotted plain"
).split()
ABOUT = ("before", "after", "interest", "noise")
MINUTES_A_DAY = 24 * 60
START = np.datetime64("2024-01-01T00:00", "m")

PURCHASES = (8, 12)  # Fewest and most per customer.
FAVOURITES, FAVOURITE_USES = 12, 4  # Kinds of a taste, and the uses that they are for.
NEW_FAVOURITES, NEW_USES = 8, 2  # The same of the kinds that customers of the taste turn to.
NEW_SHARES = np.array([0.0, 0.3, 0.25, 0.05])  # Purchases of these with 1, 2, 3 purchases left; else none.
COMPANION_SHARE = 0.3  # Purchases of a companion of the item bought before.
COMPANION_SHARES = np.array([0.6, 0.3, 0.1])  # Of these, the first, second and third companion.
POPULAR_SHARE = 0.35  # Of the others: purchases of any popular kind.
QUERY_FORMS = np.array([0.35, 0.45, 0.2])  # Naming the object, the kind, the item.
CLICKS = np.array([0.35, 0.35, 0.2, 0.1])  # Searches with 0, 1, 2, 3 clicks.
RARE_SEARCHES = np.array([0.4, 0.25, 0.2, 0.15])  # Customers with 0, 1, 2, 3 searches, of those who search rarely.
FEWEST_OF_RICH, MEAN_OF_RICH, MOST_OF_RICH = 4, 18, 60  # Searches of the others; a geometric distribution.
BEFORE_MINUTES = (10, 8 * 60, 2 * MINUTES_A_DAY)  # Shortest, mean and longest time to the purchase.
AFTER_MINUTES = (10, 5 * MINUTES_A_DAY, 20 * MINUTES_A_DAY)  # The same since a purchase.


@dataclass(frozen=True)
class Options:
    """What can be chosen on the command line."""

    users: int = 20_000
    items: int = 10_000
    tastes: int = 50
    seed: int = 7
    share_rich: float = 0.25
    share_before: float = 0.35
    share_after: float = 0.2
    share_interest: float = 0.25

    def __post_init__(self) -> None:
        most = len(USES) * len(OBJECTS) * len(LOOKS)
        if self.items % len(LOOKS) or not 20 * len(LOOKS) <= self.items <= most:
            raise ValueError(f"--items must be a multiple of {len(LOOKS)} from {20 * len(LOOKS)} to {most:,}")
        if self.users < 1 or self.tastes < 1:
            raise ValueError("--users and --tastes must be at least 1")
        shares = (self.share_rich, *self.about_shares)
        if not all(-1e-9 <= share <= 1 for share in shares):
            raise ValueError("shares must be from 0 to 1, and those of searches must not exceed 1 together")

    @property
    def about_shares(self) -> np.ndarray:
        """Shares of searches by what they are about, in the order of ``ABOUT``."""
        given = (self.share_before, self.share_after, self.share_interest)
        return np.array([*given, max(0.0, 1 - sum(given)) if sum(given) < 1 + 1e-9 else 1 - sum(given)])


@dataclass(frozen=True)
class Catalogue:
    """The items and what is popular. Item ``20 k + l`` is kind ``k`` in look ``l``.

    Shapes: ``uses`` and ``objects`` (kinds,), ``popular`` (kinds,), ``looks`` (kinds, 20), ``taste_sizes`` (tastes,),
    ``tastes`` and ``new_tastes`` (tastes, kinds), and ``companions`` (kinds, 3). From ``popular`` to ``new_tastes``,
    rows are probabilities. An item's companions are of the companions of its kind, in the same look.
    """

    uses: np.ndarray
    objects: np.ndarray
    popular: np.ndarray
    looks: np.ndarray
    taste_sizes: np.ndarray
    tastes: np.ndarray
    new_tastes: np.ndarray
    companions: np.ndarray

    @property
    def kind_shares(self) -> np.ndarray:
        """Probabilities of kinds for each taste, without new kinds and companions (tastes, kinds)."""
        return (1 - POPULAR_SHARE) * self.tastes + POPULAR_SHARE * self.popular

    def kind_names(self) -> list[str]:
        """``garden lamp`` and so on."""
        return [f"{USES[use]} {OBJECTS[thing]}" for use, thing in zip(self.uses, self.objects, strict=True)]

    def item_names(self) -> list[str]:
        """``red garden lamp`` and so on."""
        return [f"{look} {kind}" for kind in self.kind_names() for look in LOOKS]


@dataclass(frozen=True)
class Users:
    """The customers and what they buy; purchases after a customer's last are -1.

    Shapes: ``tastes``, ``rich`` and ``n_purchases`` (users,); ``items`` and ``times`` (users, 12). Times are
    minutes since ``START``.
    """

    tastes: np.ndarray
    rich: np.ndarray
    n_purchases: np.ndarray
    items: np.ndarray
    times: np.ndarray


@dataclass(frozen=True)
class Searches:
    """The searches in time order, all of shape (searches,) but ``clicks`` (searches, 3), which is filled up with -1.

    ``about`` and ``forms`` number ``ABOUT`` and ``QUERY_FORMS``. ``purchases`` numbers the customer's purchase that the
    search comes before or after; -1 if there is none.
    """

    users: np.ndarray
    times: np.ndarray
    about: np.ndarray
    purchases: np.ndarray
    items: np.ndarray
    forms: np.ndarray
    clicks: np.ndarray


def draw(rng: np.random.Generator, shares: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Draw one column for each of ``rows`` with the probabilities in that row of ``shares``."""
    sums = np.cumsum(shares, axis=1)
    starts = np.arange(len(shares))
    ends = (sums / sums[:, -1:] + starts[:, None]).ravel()
    found = np.searchsorted(ends, rows + rng.random(len(rows)), side="right") - rows * shares.shape[1]
    return np.clip(found, 0, shares.shape[1] - 1)


def draw_minutes(rng: np.random.Generator, spread: tuple[int, int, int], size: int) -> np.ndarray:
    """Draw whole minutes from an exponential distribution between the shortest and the longest of ``spread``."""
    shortest, mean, longest = spread
    kept = 1 - np.exp(-(longest - shortest) / mean)
    return shortest + np.floor(-mean * np.log1p(-kept * rng.random(size))).astype(np.int64)


def make_catalogue(options: Options, rng: np.random.Generator) -> Catalogue:
    """Draw which kinds there are, how popular they and their looks are, tastes, and companions."""
    n_kinds = options.items // len(LOOKS)
    kinds = np.sort(rng.permutation(len(USES) * len(OBJECTS))[:n_kinds])
    uses, objects = np.divmod(kinds, len(OBJECTS))
    popular = 1 / (10 + rng.permutation(n_kinds))
    looks = rng.permuted(np.tile((1 + np.arange(len(LOOKS))) ** -1.3, (n_kinds, 1)), axis=1)
    sizes = 1 / (5 + np.arange(options.tastes))
    order = rng.permuted(np.tile(np.arange(len(USES)), (options.tastes, 1)), axis=1)[:, uses]
    is_new = (order >= FAVOURITE_USES) & (order < FAVOURITE_USES + NEW_USES)
    return Catalogue(
        uses=uses,
        objects=objects,
        popular=popular / popular.sum(),
        looks=looks / looks.sum(axis=1, keepdims=True),
        taste_sizes=sizes / sizes.sum(),
        tastes=make_tastes(order < FAVOURITE_USES, popular, FAVOURITES, rng),
        new_tastes=make_tastes(is_new, popular, NEW_FAVOURITES, rng),
        companions=np.column_stack([rng.permutation(n_kinds) for _ in COMPANION_SHARES]),
    )


def make_tastes(liked: np.ndarray, popular: np.ndarray, n_favourites: int, rng: np.random.Generator) -> np.ndarray:
    """Draw favourites, more often popular ones, among the ``liked`` kinds (tastes, kinds), and their probabilities."""
    scores = np.log(popular) + rng.gumbel(size=liked.shape) + 100 * liked
    favourite = np.argsort(np.argsort(-scores, axis=1), axis=1) < n_favourites
    weights = favourite * rng.gamma(1.0, size=liked.shape)
    return weights / weights.sum(axis=1, keepdims=True)


def new_shares(n_purchases: np.ndarray, places: np.ndarray | int) -> np.ndarray:
    """Probability that the purchase at ``places`` is of a new kind."""
    left = n_purchases - places
    return NEW_SHARES[np.where((left > 0) & (left < len(NEW_SHARES)), left, 0)]


def make_users(options: Options, catalogue: Catalogue, rng: np.random.Generator) -> Users:
    """Draw customers and their purchases, all first ones, then all second ones, and so on."""
    users = np.arange(options.users)
    tastes = draw(rng, catalogue.taste_sizes[None], np.zeros_like(users))
    n_purchases = rng.integers(PURCHASES[0], PURCHASES[1] + 1, size=options.users)
    items = np.full((options.users, PURCHASES[1]), -1)
    for place in range(PURCHASES[1]):
        is_new = rng.random(options.users) < new_shares(n_purchases, place)
        new, old = draw(rng, catalogue.new_tastes, tastes), draw(rng, catalogue.kind_shares, tastes)
        kinds = np.where(is_new, new, old)
        looks = draw(rng, np.where(bought_looks(items, users, kinds), 0, catalogue.looks[kinds]), users)
        items[:, place] = kinds * len(LOOKS) + looks
        if place:
            which = draw(rng, COMPANION_SHARES[None], np.zeros_like(users))
            companions = companion_items(catalogue, items[:, place - 1])[users, which]
            wanted = rng.random(options.users) < COMPANION_SHARE
            wanted &= (items[:, :place] != companions[:, None]).all(axis=1)
            items[:, place] = np.where(wanted, companions, items[:, place])
    waits = 60 + np.floor(rng.exponential(14 * MINUTES_A_DAY, size=items.shape)).astype(np.int64)
    waits[:, 0] = MINUTES_A_DAY * 30 + rng.integers(365 * MINUTES_A_DAY, size=options.users)
    none = np.arange(PURCHASES[1]) >= n_purchases[:, None]
    return Users(
        tastes=tastes,
        rich=rng.random(options.users) < options.share_rich,
        n_purchases=n_purchases,
        items=np.where(none, -1, items),
        times=np.where(none, -1, np.cumsum(waits, axis=1)),
    )


def companion_items(catalogue: Catalogue, items: np.ndarray) -> np.ndarray:
    """The companions of each item (n, 3)."""
    kinds, looks = np.divmod(items, len(LOOKS))
    return catalogue.companions[kinds] * len(LOOKS) + looks[:, None]


def bought_looks(items: np.ndarray, users: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Whether each of ``users`` has, among ``items`` (all users, purchases), that of ``kinds`` in each look (n, 20)."""
    found = np.zeros((len(users), len(LOOKS)), dtype=bool)
    for place in range(items.shape[1]):
        item_kinds, item_looks = np.divmod(items[users, place], len(LOOKS))
        rows = np.flatnonzero((items[users, place] >= 0) & (item_kinds == kinds))
        found[rows, item_looks[rows]] = True
    return found


def make_searches(options: Options, catalogue: Catalogue, users: Users, rng: np.random.Generator) -> Searches:
    """Draw how often each customer searches, then what each search is about, when it is, its words and its clicks."""
    rare = draw(rng, RARE_SEARCHES[None], np.zeros(options.users, dtype=np.int64))
    often = FEWEST_OF_RICH - 1 + rng.geometric(1 / (MEAN_OF_RICH - FEWEST_OF_RICH + 1), size=options.users)
    counts = np.where(users.rich, np.minimum(often, MOST_OF_RICH), rare)
    owners = np.repeat(np.arange(options.users), counts)
    n = len(owners)
    about = draw(rng, options.about_shares[None], np.zeros(n, dtype=np.int64))
    before, after, interest = (about == number for number in range(3))
    purchases = np.where(before | after, rng.integers(users.n_purchases[owners]), -1)
    popular = draw(rng, catalogue.popular[None], np.zeros(n, dtype=np.int64))
    kinds = np.where(interest, draw(rng, catalogue.new_tastes, users.tastes[owners]), popular)
    items = kinds * len(LOOKS) + draw(rng, catalogue.looks, kinds)
    items = np.where(purchases >= 0, users.items[owners, purchases], items)
    first, last = users.times[owners, 0], users.times[owners, users.n_purchases[owners] - 1]
    times = first - 7 * MINUTES_A_DAY + np.floor(rng.random(n) * (last - first + 7 * MINUTES_A_DAY)).astype(np.int64)
    purchase_times = users.times[owners, purchases]
    times = np.where(before, purchase_times - draw_minutes(rng, BEFORE_MINUTES, n), times)
    times = np.where(after, purchase_times + draw_minutes(rng, AFTER_MINUTES, n), times)
    forms = draw(rng, QUERY_FORMS[None], np.zeros(n, dtype=np.int64))
    kinds = items // len(LOOKS)
    order = np.where(bought_looks(users.items, owners, kinds), 2.0, rng.random((n, len(LOOKS)))).argsort(axis=1)[:, :3]
    n_clicks = draw(rng, CLICKS[None], np.zeros(n, dtype=np.int64))
    clicks = np.where(np.arange(3) < n_clicks[:, None], kinds[:, None] * len(LOOKS) + order, -1)
    in_time = np.lexsort((owners, times))
    columns = (owners, times, about, purchases, items, forms, clicks)
    return Searches(*(column[in_time] for column in columns))


def make_shop(options: Options) -> tuple[Catalogue, Users, Searches]:
    """Draw everything from the seed."""
    rng = np.random.default_rng(options.seed)
    catalogue = make_catalogue(options, rng)
    users = make_users(options, catalogue, rng)
    return catalogue, users, make_searches(options, catalogue, users, rng)


def iso_times(minutes: np.ndarray) -> np.ndarray:
    """Minutes since ``START`` in ISO 8601."""
    return np.datetime_as_string(START + minutes.astype("timedelta64[m]"), unit="s")


def write(path: Path, header: str, *columns: Iterable) -> None:
    """Write columns as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split())
        writer.writerows(zip(*columns, strict=True))


def write_shop(folder: Path, options: Options, catalogue: Catalogue, users: Users, searches: Searches) -> dict:
    """Write the logs and the truth; return the shares that ``truth/shares.json`` has."""
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    names, kind_names = np.array(catalogue.item_names()), np.array(catalogue.kind_names())
    skus = np.char.replace(names, " ", "-")
    customers = np.char.add("c", np.char.zfill(np.arange(options.users).astype(str), len(str(options.users - 1))))
    categories = np.repeat([USES[use].capitalize() for use in catalogue.uses], len(LOOKS))
    write(folder / "items.csv", "sku name category", skus, names, categories)

    buyers, places = np.nonzero(users.items >= 0)
    order = np.lexsort((buyers, users.times[buyers, places]))
    buyers, places = buyers[order], places[order]
    bought, moments = users.items[buyers, places], iso_times(users.times[buyers, places])
    write(folder / "interactions.csv", "customer_id sku ts", customers[buyers], skus[bought], moments)

    kinds = searches.items // len(LOOKS)
    words = [np.array(OBJECTS)[catalogue.objects[kinds]], kind_names[kinds], names[searches.items]]
    clicked = [" ".join(skus[row[row >= 0]]) for row in searches.clicks]
    moments = iso_times(searches.times)
    header = "customer_id search_term ts clicked"
    write(
        folder / "searches.csv", header, customers[searches.users], np.choose(searches.forms, words), moments, clicked
    )

    # Row by row the searches above, and what each is about.
    linked = searches.purchases >= 0
    purchase_times = users.times[searches.users, searches.purchases]
    write(
        folder / "truth" / "searches.csv",
        "customer_id ts about kind sku purchase_ts minutes_to_purchase",
        customers[searches.users],
        moments,
        np.array(ABOUT)[searches.about],
        kind_names[kinds],
        np.where(linked, skus[searches.items], ""),
        np.where(linked, iso_times(np.maximum(purchase_times, 0)), ""),
        np.where(linked, (purchase_times - searches.times).astype(str), ""),
    )
    counts = np.bincount(searches.users, minlength=options.users)
    searchers = np.where(users.rich, "rich", "sparse")
    columns = (customers, searchers, users.tastes, users.n_purchases, counts)
    write(folder / "truth" / "users.csv", "customer_id searcher taste purchases searches", *columns)
    both = np.stack([catalogue.tastes, catalogue.new_tastes], axis=1)
    tastes, new, liked = np.nonzero(both)
    columns = (tastes, np.array(["old", "new"])[new], kind_names[liked], np.char.mod("%.6f", both[tastes, new, liked]))
    write(folder / "truth" / "tastes.csv", "taste age kind share", *columns)

    shares = count_shares(options, users, searches)
    (folder / "truth" / "shares.json").write_text(json.dumps(shares, indent=2) + "\n", encoding="utf-8")
    return shares


def count_shares(options: Options, users: Users, searches: Searches) -> dict:
    """Count what was drawn; shares have four decimal places."""
    counts = np.bincount(searches.users, minlength=options.users)
    by_count = np.searchsorted([1, 4, 10, 20], counts, side="right")
    about = np.bincount(searches.about, minlength=len(ABOUT)) / max(1, len(searches.about))
    before = searches.about == ABOUT.index("before")
    searched = np.zeros(users.items.shape, dtype=bool)
    searched[searches.users[before], searches.purchases[before]] = True
    minutes = users.times[searches.users, searches.purchases] - searches.times
    sold = np.sort(np.bincount(users.items[users.items >= 0], minlength=options.items))[::-1]
    clicks = (searches.clicks >= 0).sum(axis=1)
    return {
        "options": asdict(options),
        "purchases": int(users.n_purchases.sum()),
        "searches": len(counts[searches.users]),
        "searches_about": {name: round(float(share), 4) for name, share in zip(ABOUT, about, strict=True)},
        "mean_minutes_before": round(float(minutes[before].mean()), 1) if before.any() else None,
        "searches_without_clicks": round(float((clicks == 0).mean()), 4) if len(clicks) else None,
        "users_rich": round(float(users.rich.mean()), 4),
        "users_by_searches": {
            name: round(float((by_count == group).mean()), 4)
            for group, name in enumerate(("0", "1-3", "4-9", "10-19", "20-"))
        },
        "purchases_searched_before": {
            name: round(float(searched[group][users.items[group] >= 0].mean()), 4)
            for name, group in (("all", slice(None)), ("rich", users.rich), ("sparse", ~users.rich))
            if (users.items[group] >= 0).any()
        },
        "items_never_bought": int((sold == 0).sum()),
        "purchases_of_top_fifth_of_items": round(float(sold[: options.items // 5].sum() / sold.sum()), 4),
    }


def main() -> None:
    """Read the options and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("folder", type=Path)
    helps = {
        "users": "customers",
        "items": f"items, a multiple of {len(LOOKS)}",
        "tastes": "different tastes",
        "seed": "random seed",
        "share_rich": f"share of customers with at least {FEWEST_OF_RICH} searches",
        "share_before": "share of searches that precede the purchase that they are about",
        "share_after": "share of searches about something bought already",
        "share_interest": "share of searches for a new kind of the customer's taste; the rest is noise",
    }
    for field in fields(Options):
        name = f"--{field.name.replace('_', '-')}"
        helps_with_default = f"{helps[field.name]} (default: {field.default})"
        parser.add_argument(name, type=type(field.default), default=field.default, help=helps_with_default)
    given = vars(parser.parse_args())
    folder = given.pop("folder")
    try:
        options = Options(**given)
    except ValueError as error:
        parser.error(str(error))
    print(json.dumps(write_shop(folder, options, *make_shop(options)), indent=2))


if __name__ == "__main__":
    main()
