"""Makes stored runs of a benchmark, in the form that its training leaves them in."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recbole_gserec.settings.defaults import for_train_rows, model_settings

MIB = 1 << 20


def plain_metrics(ranks, depths=(1, 5, 10), decimals=4):
    """Hit and NDCG by plain loops, rounded as RecBole rounds them."""
    result = {}
    for depth in depths:
        hits = [1.0 if rank <= depth else 0.0 for rank in ranks]
        gains = [1 / np.log2(rank + 1) if rank <= depth else 0.0 for rank in ranks]
        result[f"hit@{depth}"] = round(sum(hits) / len(hits), decimals)
        result[f"ndcg@{depth}"] = round(sum(gains) / len(gains), decimals)
    return result


def record_of(dataset, model, seed, ranks=None, **changes):
    """The content of a ``run.json``; failed without ranks."""
    record = {
        "format": 1,
        "dataset": dataset,
        "dataset_digest": f"files of {dataset}",
        "model": model,
        "seed": seed,
        "given": {"epochs": 100, "eval_candidate_seed": 2020},
        "derived": {},
        "settings": {**for_train_rows(model_settings(model), {}), "metric_decimal_place": 4},
        "status": "failed",
        "error": "ValueError: boom",
        "traceback": "Traceback (most recent call last):\n  File 'x.py'\nValueError: boom",
        "epochs": None,
        "started": f"2026-11-01T00:00:{seed % 60:02d}+00:00",
        "wall_seconds": 10.5,
        "versions": {"recbole": "1.2.0"},
        "python": "3.11.7",
        "git": {"commit": "a" * 40, "dirty": False},
        "machine": {"cpu": "Any CPU", "cores": 2, "memory_bytes": 24 << 30},
    }
    if ranks is not None:
        record |= {
            "status": "finished",
            "error": None,
            "traceback": None,
            "epochs": {
                "trained": 3,
                "best": 1,
                "seconds": [3.0, 1.0, 2.0],
                "cpu_seconds": [2.5, 0.5, 1.5],
                "valid_score": [0.1, 0.3, 0.2],
            },
            "test_seconds": 0.5,
            "samples_per_epoch": 1000,
            "parameters": 12345,
            "peak_memory_bytes": 512 * MIB,
            "peak_gpu_memory_bytes": None,
            "device": "cpu",
            "threads": 1,
            "valid": {},
            "test": plain_metrics(ranks),
            "candidates": {"valid": "v", "test": f"lists of {dataset}", "mode": "uni99"},
        }
    return record | changes


def store_run(
    output, dataset, model, seed, ranks=None, *, key=None, users=None, items=None, order=None, among_all=(), **changes
):
    """Store a run; one without ranks failed. Returns its folder.

    ``order`` permutes the rows of its Parquet file; ``among_all`` has ranks among all items of the users by number;
    other keywords replace parts of its record.
    """
    folder = Path(output) / "runs" / dataset / model / f"{seed}-{key or f'{seed:010x}'}"
    folder.mkdir(parents=True)
    if ranks is not None:
        write_ranks(folder / "ranks.parquet", ranks, users, items, order, dict(among_all))
        if among_all:
            changes = {"all_items": {"users": len(among_all), "seconds": 1.0}, **changes}
    (folder / "run.json").write_text(json.dumps(record_of(dataset, model, seed, ranks, **changes)))
    return folder


def write_ranks(path, ranks, users=None, items=None, order=None, among_all=None):
    """Write test ranks, and validation ranks of 1 that nothing may take for test ranks."""
    n = len(ranks)
    users = [f"u{user}" for user in range(n)] if users is None else users
    items = [f"i{user}" for user in range(n)] if items is None else items
    order = np.arange(n) if order is None else order
    rows = [("valid", user, "i", 1) for user in users]
    rows += [("test", users[row], items[row], None if ranks[row] is None else int(ranks[row])) for row in order]
    rows += [("test among all items", users[row], items[row], rank) for row, rank in (among_all or {}).items()]
    part, user, item, rank = zip(*rows, strict=True)
    table = pa.table(
        {
            "part": pa.array(part).dictionary_encode(),
            "user": pa.array(user, pa.string()),
            "item": pa.array(item, pa.string()),
            "rank": pa.array(rank, pa.int32()),
        }
    )
    pq.write_table(table, path)


def random_ranks(seed, n=200, skill=1.0):
    """Ranks among 100; a larger ``skill`` gives better ones."""
    return np.ceil(100 * np.random.default_rng(seed).random(n) ** skill).astype(int)
