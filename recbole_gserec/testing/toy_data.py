"""Random datasets and changed batches for checking models."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_gserec.data import PADDED

ITEM_FIELDS = ("item_id_list", "item_place_list", "item_length")
SEARCH_FIELDS = ("search_query_id_list", "search_item_ids_list", "search_place_list", "search_length")

Rows = list[tuple[Any, ...]]
_N_USERS, _N_ITEMS, _N_ONLY_SEARCHED, _N_QUERIES, LAST_MOMENT = 24, 50, 6, 10, 60
_FIRST = ("first", "second")
_HEADERS = {
    "inter": "user_id:token\titem_id:token\ttimestamp:float",
    "search": "search_user_id:token\tsearch_query_id:token\tsearch_timestamp:float\tsearch_item_ids:token_seq",
    "query": "query_id:token\tquery_words:token_seq",
    "code": "code_user_id:token\tsearch_codes:token_seq\trec_codes:token_seq",
    "item": "item_id:token\ttitle:token_seq",
}


def random_files() -> dict[str, Rows]:
    """Make the rows of all files of a dataset.

    Validation and test targets come with a search at their very moment that clicks them. Some users do not search at
    all, some items have no text, and the last query has no words. Two first users take all items between them, and one
    searches for all queries and clicks all items, so that ids do not depend on what the others do.
    """
    generator = np.random.default_rng(0)
    inter: Rows = [(_FIRST[2 * item // _N_ITEMS], f"i{item}", item) for item in range(_N_ITEMS)]
    everything = " ".join(f"i{item}" for item in range(_N_ITEMS + _N_ONLY_SEARCHED))
    search: Rows = [("searcher", f"q{query}", query, everything if query == 0 else "") for query in range(_N_QUERIES)]
    users = [f"u{user}" for user in range(_N_USERS)]
    for number, user in enumerate(users):
        n = int(generator.integers(3, 16))
        times = np.sort(generator.integers(0, LAST_MOMENT, size=n)).tolist()
        items = generator.choice(_N_ITEMS, size=n, replace=False)
        inter += [(user, f"i{item}", time) for item, time in zip(items, times, strict=True)]
        n_searches = 0 if number % 5 == 0 else int(generator.integers(1, 10))
        moments = generator.integers(0, LAST_MOMENT, size=n_searches).tolist()
        rows = [_search(generator, user, time) for time in moments]
        if number % 10:
            rows += [(user, f"q{index % _N_QUERIES}", times[index], f"i{items[index]}") for index in (n - 2, n - 1)]
        search += sorted(rows, key=lambda row: row[2])
    words = [" ".join(f"w{word}" for word in generator.integers(20, size=3)) for _ in range(_N_QUERIES - 1)]
    sides = ("s", "r")
    code = [
        (user, *(" ".join(f"{side}{level}_{generator.integers(5)}" for level in (1, 2, 3)) for side in sides))
        for user in (*_FIRST, *users, "searcher")
    ]
    item = [(f"i{number}", f"{('red', 'blue', 'green')[number % 3]} w{number % 11}") for number in range(_N_ITEMS)]
    return {
        "inter": inter,
        "search": search,
        "query": [(f"q{number}", text) for number, text in enumerate([*words, ""])],
        "code": code,
        "item": [row for number, row in enumerate(item) if number % 7],
    }


def _search(generator: np.random.Generator, user: str, time: int) -> tuple[Any, ...]:
    clicks = generator.choice(_N_ITEMS + _N_ONLY_SEARCHED, size=generator.integers(0, 4), replace=False)
    return (user, f"q{generator.integers(_N_QUERIES)}", time, " ".join(f"i{item}" for item in clicks))


def moments_of_valid(inter: Sequence[tuple[Any, ...]]) -> dict[str, int]:
    """Return the time of each user's validation target, except for the users whose events define the ids."""
    times: dict[str, list[int]] = {}
    for user, _, time in inter:
        times.setdefault(user, []).append(time)
    return {user: moments[-2] for user, moments in times.items() if user not in _FIRST}


def with_other_searches(files: dict[str, Rows], is_changed: Callable[[str, int], bool]) -> dict[str, Rows]:
    """Replace queries and clicks of some searches, chosen by user and time."""
    generator = np.random.default_rng(1)
    search: Rows = []
    for user, query, time, clicks in files["search"]:
        if user != "searcher" and is_changed(user, time):
            query = f"q{(int(query[1:]) + generator.integers(1, _N_QUERIES)) % _N_QUERIES}"
            chosen = generator.choice(_N_ITEMS, size=generator.integers(1, 4), replace=False)
            clicks = " ".join(f"i{item}" for item in chosen)
        search.append((user, query, time, clicks))
    return {**files, "search": search}


def with_other_targets(files: dict[str, Rows]) -> dict[str, Rows]:
    """Replace each test target by another item."""
    taken: dict[str, set[str]] = {}
    last: dict[str, int] = {}
    for index, (user, item, _) in enumerate(files["inter"]):
        taken.setdefault(user, set()).add(item)
        last[user] = index
    inter = list(files["inter"])
    for user in taken.keys() - set(_FIRST):
        others = (f"i{item}" for item in range(_N_ITEMS) if f"i{item}" not in taken[user])
        inter[last[user]] = (user, next(others), inter[last[user]][2])
    return {**files, "inter": inter}


def write_files(folder: Path, files: Mapping[str, Rows]) -> None:
    """Write a dataset named like its new folder."""
    folder.mkdir(parents=True)
    for suffix, rows in files.items():
        lines = [_HEADERS[suffix], *("\t".join(map(str, row)) for row in rows)]
        (folder / f"{folder.name}.{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")


# ---- batches ------------------------------------------------------------------------------------------------------


def widened(batch: Interaction, n: int = 3) -> Interaction:
    """Return the batch with more padding, as if another row had longer histories."""

    def pad(values: Tensor, dim: int = 1, fill: int = 0) -> Tensor:
        shape = [n if d == dim else size for d, size in enumerate(values.shape)]
        return torch.cat([values, values.new_full(shape, fill)], dim=dim)

    return changed(
        batch,
        item_id_list=pad(batch["item_id_list"]),
        item_place_list=pad(batch["item_place_list"], fill=PADDED),
        search_query_id_list=pad(batch["search_query_id_list"]),
        search_item_ids_list=pad(pad(batch["search_item_ids_list"]), dim=2),
        search_place_list=pad(batch["search_place_list"], fill=PADDED),
    )


def without_histories(batch: Interaction, *sides: str) -> Interaction:
    """Return the batch with empty histories."""
    nothing = torch.zeros(len(batch), 1, dtype=torch.long)
    items = dict(zip(ITEM_FIELDS, (nothing, nothing + PADDED, nothing[:, 0]), strict=True))
    no_searches = (nothing, nothing.unsqueeze(2), nothing + PADDED, nothing[:, 0])
    empty = {"items": items, "searches": dict(zip(SEARCH_FIELDS, no_searches, strict=True))}
    return changed(batch, **{field: values for side in sides for field, values in empty[side].items()})


def changed(batch: Interaction, **fields: Tensor) -> Interaction:
    """Return a copy of a batch with other values in some fields."""
    return Interaction({**batch.interaction, **fields})
