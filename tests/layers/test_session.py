import torch
from torch import nn

from recbole_gserec.data.events import Ragged
from recbole_gserec.layers.session import QueryEmbedding, SessionEmbedding

# Query 0 is padding, 1 has words 3 and 1, 2 has none, 3 has word 2 twice and 1.
WORDS = Ragged(torch.tensor([3, 1, 2, 2, 1], dtype=torch.int32), torch.tensor([0, 0, 2, 2, 5]))


def make():
    torch.manual_seed(0)
    items = nn.Embedding(6, 4, padding_idx=0)
    return SessionEmbedding(QueryEmbedding(WORDS, 4, 4), items), items


def test_query_is_the_mean_of_its_words():
    session, _ = make()
    words = session.query_embedding.embedding.weight
    result = session.query_embedding(torch.tensor([3, 1, 2, 3, 0]))
    torch.testing.assert_close(result[0], (2 * words[2] + words[1]) / 3)
    torch.testing.assert_close(result[1], (words[3] + words[1]) / 2)
    assert (result[2] == 0).all() and (result[4] == 0).all()
    torch.testing.assert_close(result[3], result[0])


def test_session_is_query_plus_mean_of_clicks():
    session, items = make()
    queries, clicks = torch.tensor([1, 3, 2]), torch.tensor([[4, 5, 0], [0, 0, 0], [2, 0, 0]])
    result, query = session(queries, clicks), session.query_embedding(queries)
    torch.testing.assert_close(result[0], query[0] + (items.weight[4] + items.weight[5]) / 2)
    torch.testing.assert_close(result[1], query[1])
    torch.testing.assert_close(result[2], items.weight[2])


def test_no_search_at_all():
    session, _ = make()
    assert session(torch.zeros(0, dtype=torch.long), torch.zeros(0, 1, dtype=torch.long)).shape == (0, 4)


def test_words_move_with_the_module_but_stay_out_of_checkpoints():
    session, _ = make()
    assert set(session.state_dict()) == {"query_embedding.embedding.weight", "item_embedding.weight"}
