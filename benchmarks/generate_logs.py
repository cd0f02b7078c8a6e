"""Write a search-extended dataset of a given size: Zipf-like items, users of unequal activity, half with few searches.

Example: python benchmarks/generate_logs.py --output /tmp/data --users 192403 --items 63001 --queries 982 \
    --interactions 1689188 --searches 1280465
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd


def activity(rng: np.random.Generator, n_users: int, total: int, minimum: int) -> np.ndarray:
    """Events per user: ``minimum`` for each, the rest distributed by log-normal weights."""
    weights = rng.lognormal(sigma=1.0, size=n_users)
    return minimum + rng.multinomial(total - minimum * n_users, weights / weights.sum())


def draw(rng: np.random.Generator, n_values: int, size: int) -> np.ndarray:
    """Draw values with a probability that falls with their rank. Every value occurs if there are enough draws."""
    odds = 1 / (10 + np.arange(n_values))
    drawn = np.searchsorted(np.cumsum(odds / odds.sum()), rng.random(max(0, size - n_values)))
    return rng.permutation(np.concatenate([np.arange(n_values), drawn]))[:size]


def write(path: Path, columns: dict[str, np.ndarray]) -> None:
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False)


def write_codes(prefix: Path, users: np.ndarray, rng: np.random.Generator) -> None:
    """Write a ``.code`` file with random codes: four levels of 256 codes for each side and user."""
    sides = {}
    for side, letter in (("search_codes", "s"), ("rec_codes", "r")):
        codes = rng.integers(256, size=(len(users), 4))
        sides[f"{side}:token_seq"] = [
            " ".join(f"{letter}{level}_{code}" for level, code in enumerate(row, 1)) for row in codes
        ]
    write(prefix.with_suffix(".code"), {"code_user_id:token": users, **sides})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of all datasets")
    parser.add_argument("--name", default="generated")
    for count, default in (
        ("users", 20_000),
        ("items", 10_000),
        ("queries", 900),
        ("interactions", 200_000),
        ("searches", 150_000),
    ):
        parser.add_argument(f"--{count}", type=int, default=default)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    folder = args.output / args.name
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / args.name

    users = np.arange(args.users).repeat(activity(rng, args.users, args.interactions, 5))
    times = rng.integers(1_300_000_000, 1_400_000_000, len(users))
    order = np.lexsort((times, users))
    write(
        prefix.with_suffix(".inter"),
        {
            "user_id:token": users,
            "item_id:token": draw(rng, args.items, len(users)),
            "timestamp:float": times[order],
        },
    )
    searchers = np.arange(args.users).repeat(activity(rng, args.users, args.searches, 0))
    times = rng.integers(1_300_000_000, 1_400_000_000, len(searchers))
    order = np.lexsort((times, searchers))
    clicks = draw(rng, args.items, 2 * len(searchers)).astype(str).reshape(-1, 2)
    n_clicks = rng.integers(0, 3, len(searchers))
    clicked = np.where(n_clicks == 0, "", clicks[:, 0])
    clicked = np.where(n_clicks == 2, np.char.add(np.char.add(clicks[:, 0], " "), clicks[:, 1]), clicked)
    write(
        prefix.with_suffix(".search"),
        {
            "search_user_id:token": searchers,
            "search_query_id:token": draw(rng, args.queries, len(searchers)),
            "search_timestamp:float": times[order],
            "search_item_ids:token_seq": clicked,
        },
    )
    words = [" ".join(f"word{word}" for word in rng.integers(800, size=5)) for _ in range(args.queries)]
    write(prefix.with_suffix(".query"), {"query_id:token": np.arange(args.queries), "query_words:token_seq": words})
    write_codes(prefix, np.arange(args.users), rng)


if __name__ == "__main__":
    main()
