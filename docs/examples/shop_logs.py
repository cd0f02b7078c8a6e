"""Made-up logs of a shop, for the tutorial: python shop_logs.py FOLDER writes interactions, searches and items as CSV.

Customers have a few favourite kinds of things. Before some purchases they search for the kind; how often is a matter of
the customer, and a few search nearly always. Nobody's data is in it.
"""

from __future__ import annotations

import csv
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

SEED, N_CUSTOMERS = 7, 400
KINDS = {
    "Kitchen": "kettle teapot toaster pan",
    "Lighting": "lamp lantern bulb candle",
    "Garden": "spade hose planter rake",
    "Office": "notebook pen stapler folder",
}
LOOKS = "red blue green white black wooden steel glass".split()


def make_items() -> list[tuple[str, str, str]]:
    """Id, name and category of every thing for sale: each kind in each look."""
    kinds = [(kind, category) for category, names in KINDS.items() for kind in names.split()]
    return [(f"{kind}-{look}", f"{look} {kind}", category) for kind, category in kinds for look in LOOKS]


def make_logs(items: list[tuple[str, str, str]], rng: np.random.Generator) -> tuple[list[tuple], list[tuple]]:
    """Purchases (customer, item, time) and searches (customer, words, time, clicked items), in time order."""
    by_kind = np.array([item for item, _, _ in items]).reshape(-1, len(LOOKS))
    purchases, searches = [], []
    for number in range(N_CUSTOMERS):
        customer, searchiness = f"c{number:03d}", rng.beta(0.5, 1.0)
        favourites = rng.choice(len(by_kind), size=3, replace=False)
        moment = datetime(2024, 1, 1) + timedelta(days=rng.uniform(0, 60))
        for _ in range(rng.integers(6, 16)):
            moment += timedelta(days=rng.exponential(6))
            kind = rng.choice(favourites) if rng.random() < 0.6 else rng.integers(len(by_kind))
            item = by_kind[kind, min(rng.geometric(0.3), len(LOOKS)) - 1]
            if rng.random() < searchiness:
                # Most look around first, and some of them click other things as well.
                before = timedelta(minutes=rng.uniform(1, 60 * 48))
                other = rng.choice(by_kind[kind])
                clicked = sorted({item, other}) if rng.random() < 0.5 else [other]
                words = item.split("-")[0] if rng.random() < 0.5 else " ".join(reversed(item.split("-")))
                searches.append((customer, words, moment - before, " ".join(clicked)))
            purchases.append((customer, item, moment))
    return sorted(purchases, key=lambda row: row[2]), sorted(searches, key=lambda row: row[2])


def write(path: Path, header: str, rows: list[tuple]) -> None:
    """Write rows as CSV, times in ISO 8601."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split())
        writer.writerows([c.isoformat(timespec="seconds") if isinstance(c, datetime) else c for c in r] for r in rows)


def main(folder: Path) -> None:
    """Write the three files."""
    folder.mkdir(parents=True, exist_ok=True)
    items = make_items()
    purchases, searches = make_logs(items, np.random.default_rng(SEED))
    write(folder / "items.csv", "sku name category", items)
    write(folder / "interactions.csv", "customer_id sku ts", purchases)
    write(folder / "searches.csv", "customer_id search_term ts clicked", searches)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
