import pytest
import torch
from torch import nn

from recbole_gserec.layers.packing import Packing
from recbole_gserec.layers.siamese import SiameseEncoder, SiameseLayer

SPARSE = torch.tensor([[True] * 5, [True] + [False] * 4, [False] * 5, [True] * 2 + [False] * 3])
DENSE = torch.tensor([[True] * 5, [True] * 4 + [False], [True] * 5, [True] * 5])


@pytest.mark.parametrize("mask", [SPARSE, DENSE])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dropout", [0, 0.3])
def test_it_is_torchs_decoder_layer(mask, causal, dropout):
    torch.manual_seed(0)
    layer = SiameseLayer(8, 2, 12, dropout, dropout).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    plain = nn.TransformerDecoderLayer(8, 2, 12, 0, batch_first=True, norm_first=True)
    plain.load_state_dict(layer.state_dict())
    packing, (own, other) = Packing(mask), torch.randn(2, *mask.shape, 8)
    blocked = torch.ones(1, 5, 5, dtype=torch.bool).triu(1) if causal else None
    for second in (other, own):
        packed = packing.pack(own)
        result = packing.unpack(layer(packed, packed if second is own else packing.pack(second), packing, blocked))
        for row in range(len(mask)):
            length = int(mask[row].sum())
            if length == 0:
                continue
            later = blocked[0, :length, :length] if causal else None
            expected = plain(own[row : row + 1, :length], second[row : row + 1, :length], later, later)[0]
            torch.testing.assert_close(result[row, :length], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask", [SPARSE, DENSE])
def test_two_equal_streams_are_one(mask):
    torch.manual_seed(0)
    encoder, packing = SiameseEncoder(8, 2, 2, 12, 0, 0), Packing(mask)
    events = packing.pack(torch.randn(*mask.shape, 8))
    (alone,) = encoder(events, packing=packing)
    for states in encoder(events, events.clone(), packing=packing):
        torch.testing.assert_close(states, alone)


def test_without_layers_it_is_positions_and_a_norm():
    encoder = SiameseEncoder(4, 0, 2, 12, 0, 0)
    (states,) = encoder(torch.zeros(3, 4), packing=Packing(torch.ones(1, 3, dtype=torch.bool)))
    index = torch.arange(3.0)
    expected = torch.stack([index.sin(), index.cos(), (index / 100).sin(), (index / 100).cos()], dim=1)
    torch.testing.assert_close(states, nn.LayerNorm(4)(expected))


def test_gradients_are_finite_for_empty_rows():
    encoder, packing = SiameseEncoder(8, 2, 2, 12, 0.1, 0.1), Packing(SPARSE)
    sum(states.sum() for states in encoder(*torch.randn(2, int(SPARSE.sum()), 8), packing=packing)).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())
