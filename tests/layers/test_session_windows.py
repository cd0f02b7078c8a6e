import pytest
import torch
from torch import nn

from recbole_gserec.layers.packing import Packing
from recbole_gserec.layers.session import SessionWindows


def mask_of(*lengths, width):
    return torch.arange(width) < torch.tensor(lengths).unsqueeze(1)


def test_sharp_new_windows_cover_half_of_each_part():
    states = torch.randn(1, 16, 4)
    layer = SessionWindows(4, 2, 0.01)
    windows = layer(states[0], Packing(torch.ones(1, 16, dtype=torch.bool)))
    # [1/8, 3/8] and [5/8, 7/8] of 16 events.
    torch.testing.assert_close(windows[0], torch.stack([states[0, 2:6].mean(0), states[0, 10:14].mean(0)]))


@pytest.mark.parametrize("softness", [0.001, 0.5, 100])
def test_padding_and_other_rows_change_nothing(softness):
    torch.manual_seed(0)
    layer = SessionWindows(4, 3, softness)
    nn.init.normal_(layer.offsets.weight)
    lengths, padded = [7, 1, 0, 3, 2], torch.randn(5, 7, 4)
    windows = layer((packing := Packing(mask_of(*lengths, width=7))).pack(padded), packing)
    assert torch.isfinite(windows).all() and not windows[2].any()
    for row, length in enumerate(lengths):
        if length:
            alone = layer(padded[row, :length], Packing(torch.ones(1, length, dtype=torch.bool)))
            torch.testing.assert_close(windows[row], alone[0])
    wide = Packing(mask_of(*lengths, width=40))
    padded = nn.functional.pad(padded, (0, 0, 0, 33), value=9)
    torch.testing.assert_close(layer(wide.pack(padded), wide), windows)


def test_endlessly_soft_windows_are_the_mean():
    states, packing = torch.randn(2, 5, 4), Packing(mask_of(5, 4, width=5))
    windows = SessionWindows(4, 2, 1e6)(packing.pack(states), packing)
    torch.testing.assert_close(windows, packing.mean(packing.pack(states)).unsqueeze(1).expand(-1, 2, -1))


def test_centres_and_widths_are_learnt():
    torch.manual_seed(0)
    layer, packing = SessionWindows(4, 2, 0.5), Packing(mask_of(9, 5, 1, 0, width=9))
    states = packing.pack(torch.randn(4, 9, 4)).requires_grad_()
    layer(states, packing).square().sum().backward()
    for gradient in (layer.offsets.weight.grad, layer.width_bias.grad, states.grad):
        assert torch.isfinite(gradient).all() and gradient.any()
    assert layer.offsets.weight.grad.abs().sum(1).min() > 0
