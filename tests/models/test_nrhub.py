"""NRHUB against a second computation from its weights, and what must or must not influence what.

Breakages tried, each caught here: an empty view counted among the views; queries without words counted; the raw events
pooled instead of their projections; clicks of padded searches counted; the candidate without its projection.
"""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_gserec.errors import SettingError

pytestmark = pytest.mark.usefixtures("random_dataset")

SEQUENCES = ("item_id_list", "search_query_id_list", "search_item_ids_list")


@pytest.fixture
def make_nrhub(make_model):
    """A model whose weights and biases are not those of the start, its dataset, and a batch."""

    def make(n=60, **settings):
        model, _, _, loaders = make_model("NRHUB", **{"embedding_size": 8, "hidden_size": 6, **settings})
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
        for table in (model.item_embedding, model.query_embedding.embedding):
            nn.init.zeros_(table.weight[0])
        return model.eval(), loaders[0]._dataset, next(iter(loaders[0]))[:n]

    return make


def pooled(attention, events):
    """Additive attention over a list of vectors."""
    weight, bias, query = (
        part.detach().numpy() for part in (attention.projection.weight, attention.projection.bias, attention.query)
    )
    projected = [np.tanh(weight @ event + bias) for event in events]
    shares = np.array([np.exp(query @ vector) for vector in projected])
    return sum(share * vector for share, vector in zip(shares / shares.sum(), projected, strict=True))


def reference(model, dataset, batch, candidates):
    """Logits one row at a time, in NumPy."""
    items = model.item_embedding.weight.detach().numpy()
    words = model.query_embedding.embedding.weight.detach().numpy()
    weight, bias = (part.detach().numpy() for part in model.candidate_projection.parameters())
    logits = np.zeros(candidates.shape)
    for row in range(len(batch)):
        views = {"interactions": [items[item] for item in batch["item_id_list"][row].tolist() if item]}
        views |= {"queries": [], "clicks": []}
        for index in range(int(batch["search_length"][row])):
            query = int(batch["search_query_id_list"][row, index])
            start, end = dataset.query_words.offsets[query : query + 2].tolist()
            if end > start:
                views["queries"].append(words[dataset.query_words.values[start:end].numpy()].mean(0))
            clicks = batch["search_item_ids_list"][row, index].tolist()
            views["clicks"] += [items[item] for item in clicks if item]
        kept = [pooled(model.view_attention[view], events) for view, events in views.items() if events]
        user = pooled(model.user_attention, kept)
        for column, candidate in enumerate(candidates[row].tolist()):
            logits[row, column] = user @ np.tanh(weight @ items[candidate] + bias)
    return logits


def test_scores_and_losses_equal_a_second_computation(make_nrhub):
    model, dataset, batch = make_nrhub()
    searches = batch["search_length"]
    assert (searches == 0).any() and (searches > 1).any()
    candidates = model.training_candidates(batch)
    logits = reference(model, dataset, batch, candidates)
    with torch.no_grad():
        scores = model.score_candidates(batch, candidates)
        np.testing.assert_allclose(scores.numpy(), logits, rtol=1e-4, atol=1e-5)
        (loss,) = model.calculate_loss(batch)
        chance = 1 / (1 + np.exp(-logits))
        expected = -np.mean(np.concatenate([np.log(chance[:, :1]), np.log(1 - chance[:, 1:])], axis=1))
        assert loss.item() == pytest.approx(expected, rel=1e-4) and model.loss_names == ("rec",)
        model.objective.loss_type = "sampled_CE"
        (loss,) = model.calculate_loss(batch)
        expected = -np.mean(np.log(np.exp(logits[:, 0]) / np.exp(logits).sum(1)))
        assert loss.item() == pytest.approx(expected, rel=1e-4)


def changed(batch, **fields):
    return Interaction({**batch.interaction, **fields})


def test_order_tells_nothing(make_nrhub):
    model, _, batch = make_nrhub()
    items, queries, clicks = (batch[name].clone() for name in SEQUENCES)
    for row in range(len(batch)):
        n_items, n_searches = int(batch["item_length"][row]), int(batch["search_length"][row])
        items[row, :n_items] = items[row, :n_items].flip(0)
        order = torch.randperm(n_searches)
        queries[row, :n_searches] = queries[row, order]
        clicks[row, :n_searches] = clicks[row, order].flip(-1)
    mixed = changed(batch, **dict(zip(SEQUENCES, (items, queries, clicks), strict=True)))
    torch.testing.assert_close(model.predict(mixed), model.predict(batch))


def test_without_searches_it_is_the_model_of_one_view(make_nrhub):
    model, _, batch = make_nrhub()
    scores = model.predict(changed(batch, search_length=torch.zeros(len(batch), dtype=torch.long)))
    for row in range(len(batch)):
        events = model.item_embedding.weight[batch["item_id_list"][row]][: int(batch["item_length"][row])]
        projected = torch.tanh(model.view_attention["interactions"].projection(events))
        view = (projected @ model.view_attention["interactions"].query).softmax(0) @ projected
        user = torch.tanh(model.user_attention.projection(view))
        item = torch.tanh(model.candidate_projection(model.item_embedding.weight[batch["item_id"][row]]))
        torch.testing.assert_close(scores[row], user @ item, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["item_id_list", "search_item_ids_list"])
def test_everything_twice_is_as_everything_once(make_nrhub, name):
    model, _, batch = make_nrhub()
    doubled = changed(batch, **{name: torch.cat([batch[name]] * 2, dim=-1)})
    torch.testing.assert_close(model.predict(doubled), model.predict(batch))


def with_wordless_queries(batch, dataset):
    """Every row's searches without words."""
    wordless = int((dataset.query_words.offsets.diff() == 0).nonzero()[-1])
    assert wordless > 0
    return changed(batch, search_query_id_list=torch.full_like(batch["search_query_id_list"], wordless))


def test_words_learn_where_a_query_has_some(make_nrhub):
    model, dataset, batch = make_nrhub()
    assert (batch["search_length"] > 0).any()
    for rows, learns in ((batch, True), (with_wordless_queries(batch, dataset), False)):
        model.zero_grad()
        sum(model.train().calculate_loss(rows)).backward()
        gradient = model.query_embedding.embedding.weight.grad
        assert bool((gradient != 0).any()) == learns
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_query_without_words_is_no_record(make_nrhub):
    model, dataset, batch = make_nrhub()
    batch = with_wordless_queries(batch, dataset)
    users = model.encode(batch)
    for parameter in model.view_attention["queries"].parameters():
        nn.init.normal_(parameter)
    torch.testing.assert_close(model.encode(batch), users)


def test_rows_without_any_record_score_0(make_nrhub):
    model, _, batch = make_nrhub(n=10)
    nothing = torch.zeros(10, dtype=torch.long)
    empty = changed(batch, item_id_list=torch.zeros(10, 1, dtype=torch.long), search_length=nothing)
    assert (model.predict(empty) == 0).all()
    sum(model.train().calculate_loss(empty)).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_everything_learns(make_nrhub):
    model, _, batch = make_nrhub(n=600)
    sum(model.train().calculate_loss(batch)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_wrong_loss_is_refused(make_nrhub):
    with pytest.raises(SettingError, match="loss_type is 'BPR'; it must be 'BCE' or 'sampled_CE' or 'gBCE' or 'CE'"):
        make_nrhub(loss_type="BPR")
