import pytest
import torch

from recbole_gserec.data.events import Ragged
from recbole_gserec.data.search_rows import QueryItemGraph
from recbole_gserec.layers.token_sequence import QueryTokens, TokenReplacement

# Query 1 led to items 1 and 2, query 2 to items 2 and 3. Items up to 5 and query 3 occur, item 6 and query 4 do not.
EDGES = {1: [1, 2], 2: [2, 3]}
GRAPH = QueryItemGraph(
    items_of_query=Ragged(torch.tensor([1, 2, 2, 3]), torch.tensor([0, 0, 2, 4, 4, 4])),
    queries_of_item=Ragged(torch.tensor([1, 1, 2, 2]), torch.tensor([0, 0, 1, 3, 4, 4, 4, 4])),
    vocabulary=Ragged(torch.tensor([1, 2, 3, 4, 5, 1, 2, 3]), torch.tensor([0, 5, 8])),
)


def replaced(ids, is_query, probability=1.0, graph_probability=1.0, n=4000, training=True):
    """What becomes of ``n`` rows of the same tokens, some padding after them."""
    torch.manual_seed(0)
    ids, is_query = torch.tensor([*ids, 0]).repeat(n, 1), torch.tensor([*is_query, False]).repeat(n, 1)
    mask = torch.arange(ids.shape[1]).repeat(n, 1) < ids.shape[1] - 1
    layer = TokenReplacement(GRAPH, probability, graph_probability).train(training)
    result = layer(QueryTokens(ids, is_query, mask, is_search=is_query))
    assert torch.equal(result.is_query, is_query) and torch.equal(result.mask, mask)
    assert (result.ids[:, -1] == 0).all()
    return result.ids


def shares(values):
    """How often each value occurs."""
    distinct, counts = values.unique(return_counts=True)
    return {int(value): float(count) / len(values) for value, count in zip(distinct, counts, strict=True)}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (1, {1: 1 / 2, 2: 1 / 2}),
        # By way of either query.
        (2, {1: 1 / 4, 2: 1 / 2, 3: 1 / 4}),
        # Nothing was searched that led here: any item that occurs.
        (5, dict.fromkeys(range(1, 6), 1 / 5)),
    ],
)
def test_an_item_becomes_one_that_was_clicked_for_the_same_query(item, expected):
    assert shares(replaced([item], [False])[:, 0]) == pytest.approx(expected, abs=0.04)


def test_a_query_becomes_one_that_led_to_the_item_after_it():
    ids = replaced([3, 2, 1, 1, 5], [True, False, True, False, False])
    assert shares(ids[:, 0]) == pytest.approx({1: 1 / 2, 2: 1 / 2}, abs=0.04)
    assert shares(ids[:, 2]) == {1: 1.0}
    assert shares(replaced([1, 5], [True, False])[:, 0]) == pytest.approx(dict.fromkeys((1, 2, 3), 1 / 3), abs=0.04)


def test_a_query_that_no_item_follows_stays():
    ids = replaced([2, 2], [True, True])
    assert (ids[:, :2] == 2).all()


def test_probabilities():
    ids = replaced([4], [False], probability=0.25, graph_probability=0.0, n=20000)[:, 0]
    # A fifth of the substitutes are the item itself.
    assert float((ids != 4).float().mean()) == pytest.approx(0.25 * 4 / 5, abs=0.01)
    ids = replaced([1], [False], probability=1.0, graph_probability=0.2, n=20000)[:, 0]
    assert shares(ids)[1] == pytest.approx(0.2 / 2 + 0.8 / 5, abs=0.01)


@pytest.mark.parametrize(("probability", "training"), [(0.0, True), (1.0, False)])
def test_nothing_is_replaced_nor_drawn_otherwise(probability, training):
    state = torch.manual_seed(0).get_state()
    assert (replaced([1, 2], [True, False], probability, training=training)[:, :2] == torch.tensor([1, 2])).all()
    assert torch.equal(torch.get_rng_state(), state)


def test_substitutes_follow_from_torchs_generator():
    first, second = (replaced([1, 2, 3], [False] * 3, 0.5, 0.5) for _ in range(2))
    assert torch.equal(first, second)
