"""Which candidates users have seen, against sets."""

import numpy as np
import pytest
import torch

from recbole_gserec.recommend.recommender import SeenItems


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_against_sets(chunk):
    rng = np.random.default_rng(0)
    users, items = rng.integers(1, 7, size=200), rng.integers(1, 60, size=200)
    candidates = np.sort(rng.choice(np.arange(1, 60), size=30, replace=False))
    seen = SeenItems(users, items, 9, candidates)
    chosen = torch.tensor([3, 8, 1, 3])
    of_batch = seen.of_users(chosen)
    masked = []
    for start in range(0, len(candidates), chunk):
        part = torch.zeros(4, min(chunk, len(candidates) - start))
        masked.append(of_batch.mask_(part, start))
    masked = torch.cat(masked, dim=1).numpy()
    for row, user in enumerate(chosen.tolist()):
        touched = {item for owner, item in zip(users, items, strict=True) if owner == user}
        np.testing.assert_array_equal(masked[row] == -np.inf, [item in touched for item in candidates])


def test_nothing_seen():
    nothing = np.zeros(0, dtype=np.int64)
    scores = SeenItems(nothing, nothing, 4, np.array([2, 3])).of_users(torch.tensor([1, 2])).mask_(torch.ones(2, 2), 0)
    assert scores.tolist() == [[1, 1], [1, 1]]
