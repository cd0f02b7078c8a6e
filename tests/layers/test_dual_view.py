"""LLM-ESR's encoder against one put together from torch's own attention, row by row."""

from collections import Counter

import pytest
import torch
from torch import nn

from recbole_gserec.layers.dropout import Dropout
from recbole_gserec.layers.dual_view import DualViewEncoder
from recbole_gserec.layers.packing import Packing

SIZE, LENGTHS = 8, [4, 1, 6, 0, 2]


@pytest.fixture(params=[0, 1, 2])
def encoder(request):
    encoder = DualViewEncoder(SIZE, 6, request.param, 2, 4, dropout=0.5, attention_dropout=0.5)
    generator = torch.Generator().manual_seed(0)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    return encoder.eval()


def torchs(attention):
    """Torch's own attention with the same weights."""
    other = nn.MultiheadAttention(SIZE, attention.num_heads, batch_first=True)
    other.load_state_dict(attention.state_dict())
    return other.eval()


def attended(attention, queries, keys):
    n = len(queries)
    later = torch.ones(n, n, dtype=torch.bool).triu(1)
    result, _ = torchs(attention)(queries[None], keys[None], keys[None], attn_mask=later)
    return result[0]


def plain(encoder, collaborative, semantic):
    """One history ``[n, d]`` without padding."""
    a, b = (SIZE**0.5 * view + encoder.positions.weight[: len(view)] for view in (collaborative, semantic))
    states = []
    for x in (attended(encoder.to_collaborative, b, a), attended(encoder.to_semantic, a, b)):
        for block in encoder.backbone.blocks:
            normed = block.norm1(x)
            x = block.norm2(normed + attended(block.attention, normed, x))
            x = x + block.linear2(torch.relu(block.linear1(x)))
        states.append(encoder.backbone.norm(x))
    return torch.cat(states, dim=-1)


def inputs(n_padded=0):
    torch.manual_seed(1)
    views = torch.randn(2, len(LENGTHS), max(LENGTHS), SIZE)
    mask = torch.arange(max(LENGTHS) + n_padded) < torch.tensor(LENGTHS).unsqueeze(1)
    views = nn.functional.pad(views, (0, 0, 0, n_padded), value=9.0)
    return views[0], views[1], Packing(mask)


@pytest.mark.parametrize("n_padded", [0, 3])
def test_states(encoder, n_padded):
    first, second, packing = inputs(n_padded)
    states = packing.unpack(encoder(packing.pack(first), packing.pack(second), packing))
    last = encoder.last(packing.pack(first), packing.pack(second), packing)
    for row, length in enumerate(LENGTHS):
        if length == 0:
            assert not last[row].any()
            continue
        expected = plain(encoder, first[row, :length], second[row, :length])
        torch.testing.assert_close(states[row, :length], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(last[row], expected[-1], rtol=1e-4, atol=1e-5)


def test_states_where_most_places_are_real(encoder):
    first, second, packing = inputs()
    rows = [0, 2]
    dense = Packing(packing.mask[rows])
    assert dense.is_dense and not packing.is_dense
    found = dense.unpack(encoder(dense.pack(first[rows]), dense.pack(second[rows]), dense))
    for index, row in enumerate(rows):
        expected = plain(encoder, first[row, : LENGTHS[row]], second[row, : LENGTHS[row]])
        torch.testing.assert_close(found[index, : LENGTHS[row]], expected, rtol=1e-4, atol=1e-5)


def test_padding_beyond_the_longest_history_where_most_places_are_real(encoder):
    first, second, packing = inputs(1)
    dense = Packing(packing.mask[[2, 2]])
    assert dense.is_dense and dense.mask.shape[1] == 1 + encoder.positions.num_embeddings
    last = encoder.last(dense.pack(first[[2, 2]]), dense.pack(second[[2, 2]]), dense)
    torch.testing.assert_close(last[0], plain(encoder, first[2, :6], second[2, :6])[-1], rtol=1e-4, atol=1e-5)


def test_later_events_change_no_state(encoder):
    first, second, packing = inputs()
    expected = packing.unpack(encoder(packing.pack(first), packing.pack(second), packing))
    for view in (first, second):
        view[2, 3:] += 1
    found = packing.unpack(encoder(packing.pack(first), packing.pack(second), packing))
    torch.testing.assert_close(found[2, :3], expected[2, :3])
    assert ((found[2, 3:] - expected[2, 3:]).abs().amax(1) > 1e-3).all()


def test_one_view_twice_gives_one_state_twice(encoder):
    first, _, packing = inputs()
    encoder.to_semantic.load_state_dict(encoder.to_collaborative.state_dict())
    one, other = encoder(packing.pack(first), packing.pack(first), packing).chunk(2, dim=-1)
    assert torch.equal(one, other)


def test_both_views_go_through_one_backbone(encoder):
    first, second, packing = inputs()
    names = {name.split(".")[0] for name, _ in encoder.named_parameters()}
    assert names == {"positions", "to_collaborative", "to_semantic", "backbone"}
    for half in (0, 1):
        encoder.zero_grad()
        encoder(packing.pack(first), packing.pack(second), packing).chunk(2, dim=-1)[half].square().sum().backward()
        assert all(parameter.grad.any() for parameter in encoder.backbone.parameters())


def test_dropout_in_training_alone(encoder):
    first, second, packing = inputs()
    given = packing.pack(first), packing.pack(second), packing
    assert torch.equal(encoder.last(*given), encoder.last(*given))
    encoder.train()
    assert not torch.equal(encoder.last(*given), encoder.last(*given))


def test_places_of_dropout(encoder):
    """Of both views at the start, then in each block's attention and twice in its feed-forward part."""
    first, second, packing = inputs()
    calls = Counter()
    for name, module in encoder.named_modules():
        if isinstance(module, Dropout):
            module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    encoder.train()
    encoder(packing.pack(first), packing.pack(second), packing)
    expected = {"dropout": 2}
    for block in range(len(encoder.backbone.blocks)):
        expected |= {
            f"backbone.blocks.{block}.{part}": n for part, n in (("attention.attention_dropout", 2), ("dropout", 4))
        }
    assert calls == expected


def test_positions_start_small():
    torch.manual_seed(0)
    positions = DualViewEncoder(64, 50, 1, 1, 2, 0.5, 0.5).positions.weight
    assert positions.std().item() == pytest.approx((2 / 114) ** 0.5, rel=0.05)
