import pytest
import torch
from torch import nn

from recbole_gserec.layers.history import CodeFusion, HistoryEncoder
from recbole_gserec.layers.packing import Packing
from recbole_gserec.layers.transformer import DecoderLayer, EncoderLayer

LENGTHS = [5, 1, 3, 6]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    mask = torch.arange(6) < torch.tensor(LENGTHS).unsqueeze(1)
    return (
        torch.randn(4, 6, 8),
        mask,
        torch.randn(4, 3, 8),
        torch.tensor([[True] * 3, [True] * 3, [True, False, True], [True] * 3]),
    )


def randomise(layer):
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize("training", [True, False])
def test_encoder_layer_equals_torch(batch, training):
    padded, mask, _, _ = batch
    ours, torchs = EncoderLayer(8, 2, 16, 0.0, 0.0), nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
    randomise(ours)
    torchs.load_state_dict(ours.state_dict())
    ours.train(training), torchs.train(training)
    packing = Packing(mask)
    result = ours(packing.pack(padded), packing)
    expected = torchs(padded, src_key_padding_mask=~mask)[mask]
    torch.testing.assert_close(result, expected)
    grads = [
        torch.autograd.grad(output.square().sum(), list(layer.parameters()))
        for output, layer in ((result, ours), (torchs(padded, src_key_padding_mask=~mask)[mask], torchs))
    ]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_decoder_layer_equals_torch(batch):
    padded, mask, memory, memory_mask = batch
    ours, torchs = DecoderLayer(8, 2, 16, 0.0, 0.0), nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True)
    randomise(ours)
    torchs.load_state_dict(ours.state_dict())
    packing = Packing(mask)
    result = ours(packing.pack(padded), packing, memory, memory_mask)
    expected = torchs(padded, memory, tgt_key_padding_mask=~mask, memory_key_padding_mask=~memory_mask)[mask]
    torch.testing.assert_close(result, expected)


def test_padding_and_empty_rows_change_nothing(batch):
    padded, mask, memory, memory_mask = batch
    encoder, fusion = HistoryEncoder(8, 10, 2, 2, 8, 0.1, 0.1).eval(), CodeFusion(8, 2, 2, 8, 0.1, 0.1).eval()
    packing = Packing(mask)
    plain = fusion(encoder(packing.pack(padded), packing), packing, memory, memory_mask)
    wide_mask = torch.cat([torch.nn.functional.pad(mask, (0, 3)), torch.zeros(1, 9, dtype=torch.bool)])
    wide = torch.full((5, 9, 8), 1e6)
    wide[:4, :6] = padded
    wide_packing = Packing(wide_mask)
    memory = torch.cat([memory, memory[:1]])
    memory_mask = torch.cat([memory_mask, memory_mask[:1]])
    result = fusion(encoder(wide_packing.pack(wide), wide_packing), wide_packing, memory, memory_mask)
    torch.testing.assert_close(result, plain)


@pytest.mark.parametrize("training", [True, False])
def test_rows_without_codes_stay_as_they_are_and_finite(batch, training):
    padded, mask, memory, memory_mask = batch
    memory_mask = memory_mask.clone()
    memory_mask[2] = False
    fusion, packing = CodeFusion(8, 1, 2, 8, 0.1, 0.1).train(training), Packing(mask)
    history = packing.pack(padded).requires_grad_()
    fused = fusion(history, packing, memory, memory_mask)
    torch.testing.assert_close(fused[packing.rows == 2], history[packing.rows == 2])
    fused.sum().backward()
    assert torch.isfinite(fused).all() and torch.isfinite(history.grad).all()
    assert not torch.equal(fused[packing.rows == 0], history[packing.rows == 0])


def test_encoder_reads_positions(batch):
    padded, mask, _, _ = batch
    encoder, packing = HistoryEncoder(8, 6, 1, 2, 8, 0.0, 0.0), Packing(mask)
    events = packing.pack(padded)
    reversed_first = events.clone()
    reversed_first[: LENGTHS[0]] = events[: LENGTHS[0]].flip(0)
    plain, reordered = encoder(events, packing), encoder(reversed_first, packing)
    assert not torch.allclose(plain[: LENGTHS[0]].mean(0), reordered[: LENGTHS[0]].mean(0), atol=1e-4)


def test_both_ways_to_attend_agree(batch):
    padded, mask, memory, memory_mask = batch
    packing = Packing(mask)
    # So little dropout that nothing is dropped: the way taken in training, with the result of the other.
    layer = DecoderLayer(8, 2, 16, 0.0, 1e-9)
    trained, evaluated = (
        layer.train(mode)(packing.pack(padded), packing, memory, memory_mask) for mode in (True, False)
    )
    torch.testing.assert_close(trained, evaluated)


def test_attention_weights_are_dropped_in_training(batch):
    padded, mask, _, _ = batch
    packing, layer = Packing(mask), EncoderLayer(8, 2, 16, 0.0, 0.5)
    first, second = (layer(packing.pack(padded), packing) for _ in range(2))
    assert not torch.allclose(first, second)
