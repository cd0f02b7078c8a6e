import torch
from torch import nn

from recbole_gserec.layers.prediction import PredictionMLP, dot_product


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
