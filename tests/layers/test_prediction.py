import numpy as np
import pytest
import torch
from torch import nn

from recbole_gserec.layers.prediction import PredictionMLP, all_items_loss, dot_product


def test_equals_an_mlp_over_the_concatenation():
    torch.manual_seed(0)
    mlp = PredictionMLP(6, 9, [7, 5], dropout=0.5).eval()
    first, second, third = mlp.layers
    plain = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
    user, candidates = torch.randn(4, 6), torch.randn(4, 3, 9)
    joined = torch.cat([user.unsqueeze(1).expand(-1, 3, -1), candidates], dim=-1)
    torch.testing.assert_close(mlp(user, candidates), plain(joined).squeeze(-1))


def test_works_without_a_user_part():
    assert PredictionMLP(0, 4, [3], 0.0)(torch.zeros(2, 0), torch.randn(2, 5, 4)).shape == (2, 5)


def test_dot_product_of_each_pair():
    torch.manual_seed(0)
    users, candidates = torch.randn(3, 4), torch.randn(3, 5, 4)
    expected = [[float(users[row] @ candidate) for candidate in candidates[row]] for row in range(3)]
    torch.testing.assert_close(dot_product(users, candidates), torch.tensor(expected))
    shared = candidates[:1]
    torch.testing.assert_close(dot_product(users, shared), dot_product(users, shared.expand(3, -1, -1)))


@pytest.mark.parametrize("max_logits", [1, 30, 1 << 24])
def test_cross_entropy_over_all_items_leaves_out_padding(monkeypatch, max_logits):
    monkeypatch.setattr("recbole_gserec.layers.prediction.MAX_LOGITS", max_logits)
    rng = np.random.default_rng(0)
    states, items, positives = rng.normal(size=(5, 4)), rng.normal(size=(9, 4)), np.array([1, 8, 3, 3, 5])
    expected = [
        -logits[item] + np.log(np.exp(logits[1:]).sum())
        for logits, item in zip(states @ items.T, positives, strict=True)
    ]
    inputs = [torch.tensor(part, requires_grad=True) for part in (states, items)]
    loss = all_items_loss(inputs[0], torch.tensor(positives), inputs[1])
    assert loss.item() == pytest.approx(np.mean(expected))
    loss.backward()
    assert not inputs[1].grad[0].any() and inputs[1].grad[1:].any(1).all()


def test_cross_entropy_of_nothing_is_0():
    assert all_items_loss(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(3, 4)) == 0
