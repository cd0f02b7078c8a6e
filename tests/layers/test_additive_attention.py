import numpy as np
import pytest
import torch
from torch import nn

from recbole_gserec.layers.attention import AdditiveAttention
from recbole_gserec.layers.packing import Packing


@pytest.mark.parametrize("lengths", [[5, 2, 0], [5, 5, 4]])
def test_is_the_formula_row_by_row(lengths):
    torch.manual_seed(0)
    layer = AdditiveAttention(4, 6)
    nn.init.normal_(layer.projection.bias)
    padded = torch.randn(3, 5, 4)
    packing = Packing(torch.arange(5) < torch.tensor(lengths).unsqueeze(1))
    result = layer(packing.pack(padded), packing).detach().numpy()
    weight, bias, query = (part.detach().numpy() for part in (*layer.projection.parameters(), layer.query))
    for row, length in enumerate(lengths):
        projected = np.tanh(padded[row, :length].numpy() @ weight.T + bias)
        attention = np.exp(projected @ query) / np.exp(projected @ query).sum()
        np.testing.assert_allclose(result[row], attention @ projected, atol=1e-6)


def test_gradients_are_finite_where_there_is_nothing():
    layer, packing = AdditiveAttention(4, 6), Packing(torch.zeros(2, 3, dtype=torch.bool))
    result = layer(torch.zeros(0, 4), packing)
    result.sum().backward()
    assert (result == 0).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())
