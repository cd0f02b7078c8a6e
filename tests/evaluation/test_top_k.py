"""The best scores of chunks, against sorting all of them."""

import numpy as np
import pytest
import torch

from recbole_gserec.evaluation.top_k import BestSet, TopK


def best_of(scores, k, chunk):
    best = TopK(k)
    for start in range(0, scores.shape[1], chunk):
        best.add(scores[:, start : start + chunk], start)
    return best


def by_sorting(scores, k):
    """Places of the best, of equal scores the first; NaN is last."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    indices = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.lexsort((indices, -scores))[:, :k]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 40, 100])
@pytest.mark.parametrize("k", [1, 5, 40, 60])
def test_against_sorting_with_many_ties(chunk, k):
    scores = torch.from_numpy(np.random.default_rng(k).integers(0, 6, size=(9, 40)).astype(np.float32))
    scores[scores == 5] = -torch.inf
    scores[2, 3] = torch.nan
    best = best_of(scores, k, chunk)
    expected = by_sorting(scores.numpy(), k)
    finite = best.scores.isfinite().numpy()
    np.testing.assert_array_equal(best.indices.numpy()[finite], expected[finite])
    np.testing.assert_array_equal(
        best.scores.numpy(),
        np.take_along_axis(np.where(np.isnan(scores.numpy()), -np.inf, scores.numpy()), expected, axis=1),
    )


def test_equal_scores_come_in_order():
    best = best_of(torch.zeros(2, 1000), 3, 64)
    assert best.indices.tolist() == [[0, 1, 2]] * 2


def test_nan_is_never_better_than_a_number():
    best = best_of(torch.tensor([[torch.nan, 1.0, torch.nan, -5.0]]), 2, 4)
    assert best.indices.tolist() == [[1, 3]]


def test_what_comes_in_stays_as_it_is():
    scores = torch.tensor([[torch.nan, 1.0]])
    best_of(scores, 1, 2)
    assert scores[0, 0].isnan()


@pytest.mark.parametrize("chunk", [1, 3, 16, 50, 64, 200, 2000])
@pytest.mark.parametrize("k", [1, 7, 60, 1500])
@pytest.mark.parametrize("kind", ["random", "ties", "ascending", "uneven"])
def test_the_best_set_is_that_of_sorting_in_the_order_of_candidates(kind, k, chunk):
    rng = np.random.default_rng(k)
    scores = rng.normal(size=(5, 1000)).astype(np.float32)
    if kind == "ties":
        scores = rng.integers(0, 40, size=(5, 1000)).astype(np.float32)
    if kind == "ascending":
        scores.sort(axis=1)
    if kind == "uneven":
        # One row has its best scores last, one first, one has few scores, one none, and one infinite ones.
        scores[0].sort()
        scores[1] = -np.sort(-scores[1])
        scores[2, 4:] = -np.inf
        scores[3] = np.nan
        scores[4, 990:] = np.inf
    scores[rng.random(scores.shape) < 0.05] = np.nan
    scores[rng.random(scores.shape) < 0.05] = -np.inf
    best, copy = BestSet(k), scores.copy()
    for start in range(0, 1000, chunk):
        best.add(torch.from_numpy(scores[:, start : start + chunk]), start)
    found, indices = (part.numpy() for part in best.result())
    np.testing.assert_array_equal(scores, copy)
    assert found.shape == indices.shape == (5, k)
    for row, order in enumerate(by_sorting(scores, k)):
        expected = np.sort(
            order[np.nan_to_num(scores[row, order], nan=-np.inf, posinf=np.inf, neginf=-np.inf) > -np.inf]
        )
        is_found = found[row] > -np.inf
        np.testing.assert_array_equal(indices[row, is_found], expected)
        np.testing.assert_array_equal(found[row, is_found], scores[row, expected])
