import numpy as np
import pytest
import torch

from recbole_gserec.layers.attention import TargetAttention, masked_softmax


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_masked_positions_and_rows_without_events_weigh_nothing(dtype):
    logits = torch.tensor([[-20.0, 3.0, -300.0], [-20.0, -300.0, 500.0]]).to(dtype)
    weights = masked_softmax(logits, torch.tensor([[True, True, False], [False, False, False]]))
    assert weights[1].tolist() == [0, 0, 0] and weights[0, 2] == 0
    torch.testing.assert_close(weights[0].float().sum(), torch.tensor(1.0), rtol=0, atol=0.01)
