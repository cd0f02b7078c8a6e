import numpy as np
import torch

from recbole_gserec.layers.attention import TargetAttention


def test_is_the_formula_row_by_row():
    torch.manual_seed(0)
    layer = TargetAttention(4)
    history, candidates = torch.randn(3, 5, 4), torch.randn(3, 2, 4)
    lengths = [5, 2, 0]
    mask = torch.arange(5) < torch.tensor(lengths).unsqueeze(1)
    result = layer(history, mask, candidates).detach().numpy()
    matrix = layer.weight.detach().numpy()
    for row, length in enumerate(lengths):
        for column in range(2):
            events, target = history[row, :length].numpy(), candidates[row, column].numpy()
            logits = events @ matrix @ target
            weights = np.exp(logits) / np.exp(logits).sum() if length else logits
            np.testing.assert_allclose(result[row, column], weights @ events, atol=1e-5)
    assert (result[2] == 0).all()


def test_shared_candidates_equal_repeated_ones():
    torch.manual_seed(0)
    layer, history, mask = TargetAttention(4), torch.randn(3, 5, 4), torch.ones(3, 5, dtype=torch.bool)
    shared = torch.randn(1, 6, 4)
    torch.testing.assert_close(layer(history, mask, shared), layer(history, mask, shared.expand(3, -1, -1)))
