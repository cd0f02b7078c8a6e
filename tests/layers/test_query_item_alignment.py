import math

import pytest
import torch
from torch import nn

from recbole_gserec.layers.query_item_alignment import QueryItemAlignment, _LogSumExp, clicked_pairs
from tests.plain_alignment import plain_alignment


@pytest.fixture
def parts():
    torch.manual_seed(0)
    layer = QueryItemAlignment(4, n_queries=6, n_items=9, n_negatives=7, temperature=0.2)
    return layer, nn.Embedding(6, 4), nn.Embedding(9, 4)


def loss_with_seed(layer, pairs, queries, items):
    torch.manual_seed(5)
    return layer(*torch.tensor(pairs).view(-1, 2).T, queries, items)


def test_is_the_formula_pair_by_pair(parts):
    layer, queries, items = parts
    # A pair that occurs twice, an item of two queries and a query with two items.
    pairs = [(1, 3), (1, 3), (2, 3), (2, 8), (5, 1)]
    result = loss_with_seed(layer, pairs, queries, items)
    torch.manual_seed(5)
    negatives = layer.draw(torch.device("cpu"))
    expected = plain_alignment(layer, pairs, negatives, lambda q: queries.weight[q], lambda i: items.weight[i])
    assert result.item() == pytest.approx(expected, rel=1e-5)


def test_random_ids_are_never_padding(parts):
    layer = parts[0]
    layer.n_negatives = 500
    queries, items = layer.draw(torch.device("cpu"))
    assert set(queries.tolist()) == set(range(1, 6)) and set(items.tolist()) == set(range(1, 9))


def test_equal_similarities_give_the_logarithm_of_the_choices(parts):
    layer, queries, items = parts
    nn.init.zeros_(layer.similarity.weight)
    assert loss_with_seed(layer, [(1, 2), (3, 4)], queries, items).item() == pytest.approx(math.log(8), rel=1e-6)


def test_order_of_pairs_does_not_matter(parts):
    layer, queries, items = parts
    pairs = [(1, 3), (2, 3), (2, 8), (5, 1)]
    first, second = (loss_with_seed(layer, part, queries, items) for part in (pairs, pairs[::-1]))
    torch.testing.assert_close(first, second)


def test_no_pairs_give_no_loss(parts):
    layer, queries, items = parts
    assert loss_with_seed(layer, [], queries, items).item() == 0


def test_everything_learns(parts):
    layer, queries, items = parts
    loss_with_seed(layer, [(1, 3), (2, 8)], queries, items).backward()
    for parameter in (*layer.parameters(), queries.weight, items.weight):
        assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().max() > 0


def test_gradients_equal_those_of_finite_differences(monkeypatch):
    # Several blocks of rows, the last one smaller.
    monkeypatch.setattr("recbole_gserec.layers.query_item_alignment._ROWS", 3)
    torch.manual_seed(1)
    left, right = (torch.randn(n, 3, dtype=torch.double, requires_grad=True) for n in (7, 5))
    scale = torch.tensor(2.0, dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(_LogSumExp.apply(left, right, scale), ((left @ right.T).tanh() * scale).logsumexp(1))
    assert torch.autograd.gradcheck(_LogSumExp.apply, (left, right, scale))


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_mixed_precision_changes_little(parts, device):
    layer, queries, items = (part.to(device) for part in parts)
    found = []
    for enabled in (False, True):
        layer.zero_grad()
        torch.manual_seed(5)
        pairs = torch.tensor([(1, 3), (2, 8), (2, 3)], device=device).T
        with torch.autocast(device, torch.bfloat16, enabled=enabled):
            loss = layer(*pairs, queries, items)
        loss.backward()
        found.append((loss.item(), layer.similarity.weight.grad.clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=0.02)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0.1, atol=0.05)


def test_pairs_are_the_clicks_of_real_searches():
    queries = torch.tensor([[1, 2, 7], [3, 7, 7]])
    clicks = torch.tensor([[[4, 5], [0, 0], [9, 9]], [[6, 0], [9, 0], [0, 0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    found = clicked_pairs(queries, clicks, mask)
    assert list(zip(*(ids.tolist() for ids in found), strict=True)) == [(1, 4), (1, 5), (3, 6)]
