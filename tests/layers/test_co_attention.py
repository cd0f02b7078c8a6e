import numpy as np
import pytest
import torch

from recbole_gserec.layers.attention import CoAttention, Split, split_by_weight, triplet_loss

LENGTHS, SEARCH_LENGTHS = [4, 2, 3, 0], [3, 5, 0, 2]


def mask_of(lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


@pytest.fixture
def histories():
    torch.manual_seed(0)
    return torch.randn(4, 4, 6), mask_of(LENGTHS), torch.randn(4, 5, 6), mask_of(SEARCH_LENGTHS)


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum()


def test_is_the_formula_event_by_event(histories):
    layer = CoAttention(6)
    weights, search_weights = (part.detach().numpy() for part in layer(*histories))
    matrix, to_search, to_recommendation = (
        part.detach().numpy() for part in (layer.weight, layer.search_weight, layer.recommendation_weight)
    )
    for row, (n, m) in enumerate(zip(LENGTHS, SEARCH_LENGTHS, strict=True)):
        first, second = histories[0][row, :n].numpy(), histories[2][row, :m].numpy()
        affinity = np.array([[np.tanh(x @ matrix @ y) for y in second] for x in first]).reshape(n, m)
        scores = np.array([sum(affinity[i, j] * (second[j] @ to_search) for j in range(m)) for i in range(n)])
        search = np.array([sum(affinity[i, j] * (first[i] @ to_recommendation) for i in range(n)) for j in range(m)])
        np.testing.assert_allclose(weights[row, :n], softmax(scores), rtol=1e-4)
        np.testing.assert_allclose(search_weights[row, :m], softmax(search), rtol=1e-4)
        assert (weights[row, n:] == 0).all() and (search_weights[row, m:] == 0).all()


def test_padding_of_either_history_changes_nothing(histories):
    layer = CoAttention(6)
    plain = layer(*histories)
    history, mask, search, search_mask = histories
    other = layer(
        history.where(mask.unsqueeze(-1), 100.0), mask, search.where(search_mask.unsqueeze(-1), -70.0), search_mask
    )
    for first, second in zip(plain, other, strict=True):
        torch.testing.assert_close(first, second)


def test_split_at_even_weight():
    weights = torch.tensor([[0.5, 0.2, 0.3, 0.0], [0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    mask = mask_of([3, 4, 1])
    split = split_by_weight(weights, mask)
    assert split.similar.int().tolist() == [[1, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert split.dissimilar.int().tolist() == [[0, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


@pytest.mark.parametrize("n", [2, 3, 7, 20, 150])
def test_rounding_errors_do_not_split_events_that_weigh_the_same(n):
    generator = torch.Generator().manual_seed(n)
    weights, mask = torch.full((200, n), 1 / n), torch.ones(200, n, dtype=torch.bool)
    weights = weights * (1 + 1e-5 * torch.randn(200, n, generator=generator))
    assert all(part.all() for part in split_by_weight(weights, mask))
    # One that does weigh less, by half a percent, is told from the others.
    weights[:, 0] *= 0.995
    split = split_by_weight(weights, mask)
    assert not split.similar[:, 0].any() and split.similar[:, 1:].all()
    assert split.dissimilar[:, 0].all() and not split.dissimilar[:, 1:].any()


@pytest.mark.parametrize("n", range(1, 33))
def test_without_another_history_all_events_are_of_both_kinds(n):
    layer, mask = CoAttention(6), mask_of([n, 40])[:1]
    weights, _ = layer(torch.randn(1, 40, 6), mask, torch.randn(1, 2, 6), torch.zeros(1, 2, dtype=torch.bool))
    assert all(torch.equal(part, mask) for part in split_by_weight(weights, mask))


def test_a_row_without_events_has_none_of_either_kind():
    mask = torch.zeros(1, 3, dtype=torch.bool)
    split = split_by_weight(torch.zeros(1, 3), mask)
    assert not split.similar.any() and not split.dissimilar.any()


def test_triplet_loss_by_hand():
    # The anchor is 0.75 x (1, 0) + 0.25 x (0, 1); the sides are single events, at distances of r and 3 r.
    history = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [50.0, 50.0]]])
    weights, near = torch.tensor([[0.75, 0.25, 0.0]]), torch.tensor([[True, False, False]])
    far, r = torch.tensor([[False, True, False]]), 0.25 * 2**0.5
    assert triplet_loss(history, weights, Split(near, far), 0.1).item() == 0
    assert triplet_loss(history, weights, Split(near, far), 1.0).item() == pytest.approx(1 - 2 * r, abs=1e-5)
    assert triplet_loss(history, weights, Split(far, near), 0.1).item() == pytest.approx(0.1 + 2 * r, abs=1e-5)
    both = torch.tensor([[True, True, False]])
    assert triplet_loss(history, weights, Split(both, both), 0.1).item() == pytest.approx(0.1)
    assert triplet_loss(history[:0], weights[:0], Split(both[:0], both[:0]), 0.1).item() == 0


def test_everything_is_finite_backwards(histories):
    layer = CoAttention(6)
    history, mask, search, search_mask = (part.clone() for part in histories)
    weights = layer(history.requires_grad_(), mask, search.requires_grad_(), search_mask)
    sum(part.square().sum() for part in weights).backward()
    for part in (*layer.parameters(), history, search):
        assert torch.isfinite(part.grad).all() and part.grad.abs().max() > 0
