import pytest
import torch
from torch import nn

from recbole_gserec.data.events import Ragged
from recbole_gserec.layers import session
from recbole_gserec.layers.session import QueryEmbedding, UnigramText


@pytest.fixture
def layer():
    torch.manual_seed(0)
    # Text 0 is padding, text 2 has no words.
    words = Ragged(torch.tensor([3, 1, 1, 2]), torch.tensor([0, 0, 3, 3, 4]))
    return UnigramText(QueryEmbedding(words, 5, 4), 4), nn.Embedding(6, 4, padding_idx=0)


def test_it_is_the_cross_entropy_of_each_word(layer):
    text, items = layer
    item_ids, text_ids = torch.tensor([4, 5, 4, 1]), torch.tensor([1, 3, 3, 2])
    log_chances = (text.projection(items(item_ids)) @ text.texts.embedding.weight[1:].T).log_softmax(1)
    expected = -(log_chances[0, [2, 0, 0]].mean() + log_chances[1, 1] + log_chances[2, 1]) / 3
    torch.testing.assert_close(text(item_ids, text_ids, items), expected)


def test_it_is_the_same_in_many_parts(layer, monkeypatch):
    text, items = layer
    item_ids, text_ids = torch.tensor([4, 5, 4, 1, 2]), torch.tensor([1, 3, 3, 1, 1])
    results = []
    for most in (1 << 20, 5):
        monkeypatch.setattr(session, "MAX_LOGITS", most)
        loss = text(item_ids, text_ids, items)
        results.append([loss, *torch.autograd.grad(loss, [*text.parameters(), items.weight])])
    torch.testing.assert_close(*results)


def test_no_texts(layer):
    text, items = layer
    loss = text(torch.tensor([1]), torch.tensor([2]), items)
    assert loss.item() == 0
    loss.backward()
