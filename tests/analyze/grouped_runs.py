"""Stored runs on the toy dataset, with the users and files that its own dataset has."""

from zlib import crc32

import numpy as np

from recbole_gserec.runs.prepare import dataset_digest
from tests.conftest import random_files, write_dataset
from tests.runs.stored_runs import random_ranks, store_run

USERS = sorted(f"u{user}" for user in range(40))


def make_data(folder):
    return write_dataset(folder, "toy", **random_files())


def store(output, data, model, seed, ranks=None, **changes):
    """Store a run of all users of the toy dataset."""
    ranks = random_ranks(crc32(f"{model} {seed}".encode()), n=len(USERS), skill=4) if ranks is None else ranks
    digest = dataset_digest({"benchmark_filename": None, "data_path": data / "toy", "dataset": "toy"})
    changes = {"dataset_digest": digest, **changes}
    store_run(output, "toy", model, seed, list(ranks), users=USERS, items=[f"i{n}" for n in range(40)], **changes)
    return np.asarray(ranks)


def training_searches():
    """By plain loops: searches before the time of each user's last interaction but one."""
    files = random_files()
    counts = []
    for user in USERS:
        time = sorted(time for own, _, time in files["inter"] if own == user)[-2]
        counts.append(sum(own == user and when < time for own, _, when, _ in files["search"]))
    return np.array(counts)
