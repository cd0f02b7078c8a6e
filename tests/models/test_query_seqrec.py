"""Query-SeqRec against a second computation from its weights and against RecBole's SASRec, and what influences what.

Breakages tried, each caught here: attention to later tokens; types swapped; the first tokens kept instead of the last;
replacement while evaluating; labels read from replaced tokens; the padding among the classes of cross entropy; all of
its logits at once.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import nn

from recbole_gserec.errors import SettingError
from recbole_gserec.layers.packing import Packing

pytestmark = pytest.mark.usefixtures("random_dataset")

SMALL = {"embedding_size": 8, "inner_size": 12, "max_tokens": 15, "replace_prob": 0.0}


@pytest.fixture
def make_query_seqrec(make_model):
    """A model whose weights, biases and norms are not those of the start, its dataset, and a batch."""

    def make(n=60, **settings):
        model, _, _, loaders = make_model("QuerySeqRec", **{**SMALL, **settings})
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.4, generator=generator)
        for table in (model.item_embedding, model.query_embedding.embedding):
            nn.init.zeros_(table.weight[0])
        return model.eval(), loaders[0]._dataset, next(iter(loaders[0]))[:n]

    return make


def changed(batch, **fields):
    return Interaction({**batch.interaction, **fields})


def without_searches(batch):
    """The same rows of users who never searched."""
    return changed(batch, search_length=torch.zeros(len(batch), dtype=torch.long))


def tokens_by_hand(model, batch, row):
    """The tokens of a row as (kind, id), by sorting all events."""
    events = []
    for index, item in zip(batch["item_place_list"][row].tolist(), batch["item_id_list"][row].tolist(), strict=True):
        if item:
            events.append((index, [("item", item)]))
    for search in range(int(batch["search_length"][row])):
        clicks = [("item", item) for item in batch["search_item_ids_list"][row, search].tolist() if item]
        query = ("query", int(batch["search_query_id_list"][row, search]))
        index = int(batch["search_place_list"][row, search])
        events.append((index, [query, *(clicks if model.include_clicks else [])]))
    return [token for _, part in sorted(events) for token in part][-model.max_tokens :]


def states_by_hand(model, dataset, tokens):
    """States of all tokens of a row, with torch's own layers or the formulas of the authors' block."""
    words = model.query_embedding.embedding.weight
    events = []
    for index, (kind, token) in enumerate(tokens):
        event = model.item_embedding.weight[token]
        if kind == "query":
            start, end = dataset.query_words.offsets[token : token + 2].tolist()
            ids = dataset.query_words.values[start:end].long()
            event = words[ids].mean(0) if len(ids) else torch.zeros(words.shape[1])
        events.append(event + model.positions.weight[index] + model.type_embedding.weight[int(kind == "query")])
    states, later = torch.stack(events), torch.ones(len(events), len(events)).triu(1).bool()

    def norm(values, layer):
        centred = values - values.mean(-1, keepdim=True)
        scaled = centred / (values.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return scaled * layer.weight + layer.bias

    if model.official_block:
        for layer in model.layers:
            size, heads = states.shape[1], layer.attention.num_heads
            parts = zip(
                layer.attention.in_proj_weight.split(size), layer.attention.in_proj_bias.split(size), strict=True
            )
            sources = (norm(states, layer.attention_norm), states, states)
            query, key, value = (
                (source @ weight.T + bias).view(-1, heads, size // heads).transpose(0, 1)
                for source, (weight, bias) in zip(sources, parts, strict=True)
            )
            logits = query @ key.transpose(1, 2) / (size // heads) ** 0.5
            mixed = logits.masked_fill(later, -torch.inf).softmax(-1) @ value
            attended = norm(layer.attention.out_proj(mixed.transpose(0, 1).reshape(-1, size)), layer.forward_norm)
            states = layer.outer(layer.inner(attended).relu()) + attended + attended
        return norm(states, model.norm)
    states = norm(states, model.norm).unsqueeze(0)
    for layer in model.layers:
        copy = nn.TransformerEncoderLayer(8, layer.self_attn.num_heads, 12, 0.0, batch_first=True).eval()
        copy.load_state_dict(layer.state_dict())
        states = copy(states, src_mask=later)
    return states[0]


def cross_entropy(logits, right):
    return -np.mean([row[index] - np.log(np.exp(row).sum()) for row, index in zip(logits, right, strict=True)])


@pytest.mark.parametrize("settings", [{}, {"official_block": True}, {"include_clicks": False}, {"n_layers": 1}])
def test_scores_and_losses_equal_a_second_computation(make_query_seqrec, settings):
    model, dataset, batch = make_query_seqrec(**settings)
    candidates = model.training_candidates(batch)
    tokens = [tokens_by_hand(model, batch, row) for row in range(len(batch))]
    # Rows with and without queries, cut ones, and such that end with a query.
    assert {len(row) == 15 for row in tokens} == {row[-1][0] == "query" for row in tokens} == {True, False}
    items = model.item_embedding.weight
    with torch.no_grad():
        last = torch.stack([states_by_hand(model, dataset, row)[-1] for row in tokens])
        logits = (last.unsqueeze(1) * items[candidates]).sum(-1)
        torch.testing.assert_close(model.score_candidates(batch, candidates), logits, rtol=1e-4, atol=1e-4)
        logits, right = logits.double().numpy(), batch["item_id"].numpy()
        every = (last @ items.T).double().numpy()[:, 1:]
        chance = 1 / (1 + np.exp(-logits))
        expected = {
            "CE": cross_entropy(every, right - 1),
            "sampled_CE": cross_entropy(logits, np.zeros(len(batch), dtype=int)),
            "BCE": -np.mean(np.concatenate([np.log(chance[:, :1]), np.log(1 - chance[:, 1:])], axis=1)),
        }
        for model.objective.loss_type, value in expected.items():
            (loss,) = model.calculate_loss(batch)
            assert loss.item() == pytest.approx(value, rel=1e-4) and model.loss_names == ("rec",)


@pytest.mark.parametrize("replace_prob", [0.0, 1.0])
def test_all_items_that_follow_a_token(make_query_seqrec, monkeypatch, replace_prob):
    model, dataset, batch = make_query_seqrec(n=25, train_positions="all", replace_prob=replace_prob)
    model.dropout.p = 0
    states_of, seen = model.states, []
    monkeypatch.setattr(model, "states", lambda tokens, packing: seen.append(tokens) or states_of(tokens, packing))
    model.replacement.train()
    torch.manual_seed(1)
    with torch.no_grad():
        every, sampled = [], []
        candidates = model.training_candidates(batch)
        (loss,) = model.calculate_loss(batch)
        model.objective.loss_type = "sampled_CE"
        torch.manual_seed(1)
        (sampled_loss,) = model.calculate_loss(batch)
        for row in range(len(batch)):
            original = tokens_by_hand(model, batch, row)
            ids = seen[0].ids[row].tolist()
            replaced = [(kind, token) for (kind, _), token in zip(original, ids, strict=False)]
            assert (replaced == original) or replace_prob
            states = states_by_hand(model, dataset, replaced)
            for state, (kind, item) in zip(states, [*original[1:], ("item", int(batch["item_id"][row]))], strict=True):
                if kind == "item":
                    every.append((state @ model.item_embedding.weight[1:].T, item - 1))
                    some = torch.tensor([item, *candidates[row, 1:].tolist()])
                    sampled.append(model.item_embedding.weight[some] @ state)
        assert len(every) > 3 * len(batch)
        logits, right = zip(*every, strict=True)
        expected = cross_entropy(torch.stack(logits).double().numpy(), right)
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        expected = cross_entropy(torch.stack(sampled).double().numpy(), [0] * len(sampled))
        assert sampled_loss.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("train_positions", ["last", "all"])
def test_memory_of_cross_entropy_is_bounded_without_a_trace(make_query_seqrec, monkeypatch, train_positions):
    model, _, batch = make_query_seqrec(train_positions=train_positions)
    sizes, cross_entropy_of = [], F.cross_entropy

    def counted(logits, *arguments, **options):
        sizes.append(len(logits))
        return cross_entropy_of(logits, *arguments, **options)

    monkeypatch.setattr("torch.nn.functional.cross_entropy", counted)
    found = []
    for n_rows in (10_000, 16, 1):
        most = n_rows * (model.n_items - 1)
        sizes.clear()
        monkeypatch.setattr("recbole_gserec.layers.prediction.MAX_LOGITS", most)
        model.zero_grad()
        (loss,) = model.calculate_loss(batch)
        loss.backward()
        found.append((loss.detach(), [parameter.grad.clone() for parameter in model.parameters()]))
        assert max(sizes) <= n_rows and (len(sizes) > 2) == (n_rows < len(batch))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-5)


def test_without_searches_it_is_sasrec(make_query_seqrec, prepare):
    from recbole.model.sequential_recommender import SASRec

    model, _, batch = make_query_seqrec(max_tokens=20)
    nn.init.zeros_(model.type_embedding.weight)
    config, dataset, _ = prepare("QuerySeqRec")
    shape = {"hidden_size": 8, "inner_size": 12, "n_layers": 2, "n_heads": 2, "hidden_act": "relu"}
    for name, value in {**shape, "layer_norm_eps": 1e-5, "initializer_range": 0.02, "loss_type": "CE"}.items():
        config[name] = value
    sasrec = SASRec(config, dataset).eval()
    state = {
        "item_embedding.weight": model.item_embedding.weight,
        "position_embedding.weight": model.positions.weight,
        "LayerNorm.weight": model.norm.weight,
        "LayerNorm.bias": model.norm.bias,
    }
    for number, layer in enumerate(model.layers):
        attention, forward = (f"trm_encoder.layer.{number}.{part}" for part in ("multi_head_attention", "feed_forward"))
        for name, weight, bias in zip(
            ("query", "key", "value"),
            layer.self_attn.in_proj_weight.split(8),
            layer.self_attn.in_proj_bias.split(8),
            strict=True,
        ):
            state |= {f"{attention}.{name}.weight": weight, f"{attention}.{name}.bias": bias}
        for name, part in (
            (f"{attention}.dense", layer.self_attn.out_proj),
            (f"{attention}.LayerNorm", layer.norm1),
            (f"{forward}.dense_1", layer.linear1),
            (f"{forward}.dense_2", layer.linear2),
            (f"{forward}.LayerNorm", layer.norm2),
        ):
            state |= {f"{name}.weight": part.weight, f"{name}.bias": part.bias}
    sasrec.load_state_dict(state)
    batch = without_searches(batch)
    torch.testing.assert_close(model.full_sort_predict(batch), sasrec.full_sort_predict(batch), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(
        model.full_sort_predict(batch), model.full_sort_predict(batch[torch.randperm(len(batch))]), atol=1e-2
    )


@pytest.mark.parametrize("train_positions", ["last", "all"])
def test_words_learn_where_there_are_queries(make_query_seqrec, train_positions):
    model, _, batch = make_query_seqrec(train_positions=train_positions, replace_prob=0.25)
    for rows, learns in ((batch, True), (without_searches(batch), False)):
        model.zero_grad()
        sum(model.train().calculate_loss(rows)).backward()
        gradient = model.query_embedding.embedding.weight.grad
        assert bool((gradient != 0).any()) == learns


@pytest.mark.parametrize("official_block", [False, True])
def test_a_state_knows_nothing_of_later_tokens(make_query_seqrec, official_block):
    model, _, batch = make_query_seqrec(official_block=official_block)
    tokens = model.tokens(batch)
    packing = Packing(tokens.mask)
    states = packing.unpack(model.states(tokens, packing))
    for index in (1, 4):
        later = torch.arange(tokens.mask.shape[1]) > index
        other = tokens._replace(ids=torch.where(later & tokens.mask, tokens.ids % 11 + 1, tokens.ids))
        found = packing.unpack(model.states(other, packing))
        kept = tokens.mask & ~later
        torch.testing.assert_close(found[kept], states[kept])
        assert not torch.allclose(found[tokens.mask & later], states[tokens.mask & later])


def test_order_of_words_does_not_matter(make_query_seqrec):
    model, dataset, batch = make_query_seqrec()
    scores = model.predict(batch)
    values, offsets = dataset.query_words.values, dataset.query_words.offsets.tolist()
    parts = [values[start:end].flip(0) for start, end in zip(offsets, offsets[1:], strict=False)]
    assert not torch.equal(torch.cat(parts), values)
    model.query_embedding.word_values = torch.cat(parts)
    torch.testing.assert_close(model.predict(batch), scores)


def test_tokens_are_replaced_while_training_alone(make_query_seqrec):
    off = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
    model, _, batch = make_query_seqrec(**off, replace_prob=0.25)
    plain = model.encode(batch)
    torch.testing.assert_close(model.encode(batch), plain, rtol=0, atol=0)
    model.train()
    torch.manual_seed(3)
    first, second = model.encode(batch), model.encode(batch)
    assert not torch.allclose(first, plain) and not torch.allclose(first, second)
    torch.manual_seed(3)
    torch.testing.assert_close(model.encode(batch), first)
    model.replacement.probability = 0
    torch.testing.assert_close(model.encode(batch), plain)


@pytest.mark.parametrize(
    "settings", [{}, {"official_block": True}, {"train_positions": "all"}, {"loss_type": "BCE"}, {"n_layers": 0}]
)
def test_everything_learns(make_query_seqrec, settings):
    model, _, batch = make_query_seqrec(n=600, replace_prob=0.25, **settings)
    sum(model.train().calculate_loss(batch)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("official_block", [False, True])
@pytest.mark.parametrize("train_positions", ["last", "all"])
def test_rows_without_tokens_score_0(make_query_seqrec, official_block, train_positions):
    model, _, batch = make_query_seqrec(n=10, official_block=official_block, train_positions=train_positions)
    empty = changed(without_searches(batch), item_id_list=torch.zeros(10, 1, dtype=torch.long))
    empty = changed(empty, item_place_list=torch.zeros(10, 1, dtype=torch.long))
    assert (model.predict(empty) == 0).all()
    mixed = changed(batch, item_id_list=batch["item_id_list"] * (torch.arange(10) > 3).unsqueeze(1))
    mixed = changed(mixed, search_length=batch["search_length"] * (torch.arange(10) > 3))
    loss = sum(model.train().calculate_loss(mixed))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_only_the_last_tokens_are_read(make_query_seqrec):
    model, _, batch = make_query_seqrec(max_tokens=3)
    assert model.tokens(batch).mask.shape[1] == 3
    # Whatever stands in padded places.
    wide = changed(batch, **{name: F.pad(batch[name], (0, 2)) for name in ("item_id_list", "item_place_list")})
    torch.testing.assert_close(model.predict(wide), model.predict(batch))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "BPR"}, "loss_type is 'BPR'; it must be 'BCE' or 'sampled_CE' or 'gBCE' or 'CE'"),
        ({"train_positions": "first"}, "train_positions is 'first'; it must be 'last' or 'all'"),
        ({"embedding_size": 7}, "embedding_size 7 is not a multiple of n_heads 2"),
        ({"max_tokens": 0}, "max_tokens is 0; it must be a whole number of at least 1"),
        ({"replace_prob": 1.5}, "replace_prob is 1.5; it must be a number from 0 to 1"),
        ({"graph_replace_prob": 2.0}, "graph_replace_prob is 2.0; it must be a number from 0 to 1"),
    ],
)
def test_wrong_settings_are_refused(make_query_seqrec, settings, message):
    with pytest.raises(SettingError, match=message):
        make_query_seqrec(**settings)
