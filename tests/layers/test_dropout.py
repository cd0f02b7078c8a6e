import pytest
import torch

from recbole_gserec.layers.dropout import Dropout


def test_keeps_the_expected_share_and_scales_it():
    torch.manual_seed(0)
    values = torch.ones(1000, 1001)
    result = Dropout(0.3)(values)
    kept = result != 0
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.003)
    torch.testing.assert_close(result[kept], torch.full_like(result[kept], 256 / (256 - 77)))
    assert result.mean().item() == pytest.approx(1, abs=0.002)
    # Neighbours are independent: both are kept with the product of the odds.
    assert (kept[:, 1:] & kept[:, :-1]).float().mean().item() == pytest.approx(0.49, abs=0.004)


def test_gradient_passes_where_values_pass():
    values = torch.randn(50, 7, requires_grad=True)
    result = Dropout(0.5)(values)
    result.sum().backward()
    torch.testing.assert_close(values.grad, (result != 0) * 2.0)


def test_torch_seed_decides_the_mask():
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(Dropout(0.5)(torch.ones(64)))
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_does_nothing_outside_of_training():
    values = torch.randn(8)
    assert Dropout(0.5).eval()(values) is values and Dropout(0.0)(values) is values


def test_the_highest_probabilities_keep_something():
    dropout = Dropout(0.9999)
    assert 0 < (dropout(torch.ones(1 << 12)) > 0).sum() < 100
