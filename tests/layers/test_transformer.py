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


@pytest.mark.parametrize("training", [True, False])
def test_rows_without_memory_skip_the_cross_attention(batch, training):
    padded, mask, memory, memory_mask = batch
    memory_mask = memory_mask.clone()
    memory_mask[2] = False
    decoder, packing = DecoderLayer(8, 2, 16, 0.0, 0.0).train(training), Packing(mask)
    randomise(decoder)
    result = decoder(packing.pack(padded), packing, memory, memory_mask)
    # An encoder layer with the decoder's self-attention, feed-forward part and the norms of these two.
    state = {
        name.replace("norm3", "norm2"): value for name, value in decoder.state_dict().items() if "norm2" not in name
    }
    encoder = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True).train(training)
    encoder.load_state_dict({name: value for name, value in state.items() if "multihead_attn" not in name})
    torch.testing.assert_close(result[packing.rows == 2], encoder(padded[2:3, : LENGTHS[2]])[0])
    memory_mask[2] = True
    plain = decoder(packing.pack(padded), packing, memory, memory_mask)
    others = packing.rows != 2
    torch.testing.assert_close(result[others], plain[others])
    assert not torch.allclose(result[~others], plain[~others])


def test_activation_of_the_feed_forward_part_equals_torch(batch):
    padded, mask, _, _ = batch
    leaky = torch.nn.functional.leaky_relu
    encoder = HistoryEncoder(8, 6, 1, 2, 16, 0.0, 0.0, activation=leaky)
    (ours,), packing = encoder.layers, Packing(mask)
    torchs = nn.TransformerEncoderLayer(8, 2, 16, 0.0, leaky, batch_first=True)
    randomise(ours)
    torchs.load_state_dict(ours.state_dict())
    expected = torchs(padded + encoder.positions.weight, src_key_padding_mask=~mask)[mask]
    torch.testing.assert_close(encoder(packing.pack(padded), packing), expected)


@pytest.mark.parametrize("training", [True, False])
def test_blocked_pairs_equal_torchs_mask(batch, training):
    padded, mask, _, _ = batch
    kinds = torch.tensor([[0, 1, 0, 1, 1, 0]] * 3 + [[1] * 6])
    blocked = kinds.unsqueeze(2) == kinds.unsqueeze(1)
    # Without dropout one way to attend is taken, with next to none the other.
    layer, packing = EncoderLayer(8, 2, 16, 0.0, 1e-9).train(training), Packing(mask)
    randomise(layer)
    events = packing.pack(padded).requires_grad_()
    result = layer(events, packing, blocked)
    result.sum().backward()
    assert torch.isfinite(events.grad).all()
    torchs = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
    torchs.load_state_dict(layer.state_dict())
    for row, n in ((0, 5), (2, 3)):
        expected = torchs(padded[row : row + 1, :n], src_mask=blocked[row, :n, :n])[0]
        torch.testing.assert_close(result[packing.rows == row], expected)
    # The other rows have nothing of another kind: nothing is attended to, and the rest is as ever.
    for row in (1, 3):
        states = layer.norm1(padded[row, : LENGTHS[row]])
        states = layer.norm2(states + layer.linear2(layer.linear1(states).relu()))
        torch.testing.assert_close(result[packing.rows == row], states)


@pytest.mark.parametrize("lengths", [LENGTHS, [6, 6, 5, 6]])
def test_last_event_alone_equals_the_last_of_all(batch, lengths):
    padded, *_ = batch
    packing = Packing(torch.arange(6) < torch.tensor(lengths).unsqueeze(1))
    for causal in (True, False):
        layer = EncoderLayer(8, 2, 16, 0.0, 0.0, causal=causal)
        randomise(layer)
        events = packing.pack(padded)
        torch.testing.assert_close(layer.last(events, packing), packing.last(layer(events, packing)))
