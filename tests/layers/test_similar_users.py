import numpy as np
import pytest
import torch

from recbole_gserec.layers import dual_view
from recbole_gserec.layers.dual_view import most_similar


def plain(vectors, is_candidate, n_similar):
    vectors, result = vectors.numpy(), np.zeros((len(vectors), n_similar), dtype=int)
    users = [user for user in range(len(vectors)) if is_candidate[user] and vectors[user].any()]
    for user in users:
        cosines = {
            other: vectors[user] @ vectors[other] / np.linalg.norm(vectors[user]) / np.linalg.norm(vectors[other])
            for other in users
            if other != user
        }
        named = sorted(cosines, key=cosines.get, reverse=True)[:n_similar]
        result[user, : len(named)] = named
    return result


@pytest.fixture
def users():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(40, 5, generator=generator) * torch.rand(40, 1, generator=generator)
    vectors[[0, 7]] = 0
    is_candidate = torch.ones(40, dtype=torch.bool)
    is_candidate[[0, 11]] = False
    return vectors, is_candidate


@pytest.mark.parametrize("n_at_once", [1, 5 * 37, 1 << 24])
@pytest.mark.parametrize("n_similar", [1, 10, 60])
def test_neighbours_by_cosine(users, n_similar, n_at_once, monkeypatch):
    monkeypatch.setattr(dual_view, "MAX_SIMILARITIES", n_at_once)
    np.testing.assert_array_equal(most_similar(*users, n_similar).numpy(), plain(*users, n_similar))


def test_nobody_is_similar_to_himself_nor_to_who_has_nothing(users):
    found = most_similar(*users, 60)
    assert not (found == torch.arange(40).unsqueeze(1))[1:].any()
    assert not found[[0, 7, 11]].any() and not np.isin(found.numpy(), [7, 11]).any()


def test_equal_vectors_name_each_other(users):
    vectors, is_candidate = users
    vectors[[3, 20, 30]] = vectors[5].clone()
    found = most_similar(vectors, is_candidate, 3)
    for user in (3, 5, 20, 30):
        assert set(found[user].tolist()) == {3, 5, 20, 30} - {user}


@pytest.mark.parametrize("n_at_once", [1, 1 << 24])
def test_equal_vectors_are_named_in_the_order_of_users(monkeypatch, n_at_once):
    monkeypatch.setattr(dual_view, "MAX_SIMILARITIES", n_at_once)
    # Three kinds of users, of whom the first are nearer to the second than to the third.
    kinds = torch.nn.functional.normalize(torch.randn(3, 64, generator=torch.Generator().manual_seed(1)), dim=1)
    kinds[1] = kinds[0] + 0.5 * kinds[1]
    of_user = torch.tensor([0, 0, 2, 1, 0, 1, 2, 0, 1, 0, 0, 2, 1])
    found = most_similar(kinds[of_user], torch.ones(13, dtype=torch.bool), 8)
    first, second, third = ([user for user in range(13) if of_user[user] == kind] for kind in range(3))
    for user in first:
        assert found[user].tolist() == [*(other for other in first if other != user), *second, *third][:8]
    for user in second:
        assert found[user].tolist() == [*(other for other in second if other != user), *first, *third][:8]


@pytest.mark.parametrize("n_candidates", [0, 1])
def test_too_few_users(n_candidates):
    found = most_similar(torch.ones(4, 2), torch.arange(4) < n_candidates, 2)
    assert found.shape == (4, 2) and not found.any()


def test_none_asked_for():
    assert most_similar(torch.ones(4, 2), torch.ones(4, dtype=torch.bool), 0).shape == (4, 0)
