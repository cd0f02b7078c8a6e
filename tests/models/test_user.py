"""USER against a second computation from its weights, and what must or must not influence what.

Breakages tried, each caught here: candidates paired with the histories of other rows; sessions and positions counted
from the oldest event; histories not merged by time; the current session encoded once; c_l made from the intent instead
of c_s; cosines in another order; types swapped; the user's embedding as the intent of searches; a candidate that does
not attend to itself, or attends to padding; a second layer that does not see the first.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import nn

from recbole_gserec.data.search_rows import JointInteraction, SearchRows
from recbole_gserec.errors import SettingError

pytestmark = pytest.mark.usefixtures("random_dataset")

SMALL = {"embedding_size": 8, "inner_size": 12}


@pytest.fixture
def make_user(make_model):
    """A model whose biases and norms are not those of the start, the training data, and batches of both tasks."""

    def make(n=40, n_searches=30, **settings):
        model, _, _, loaders = make_model("USER", **{**SMALL, **settings})
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            # Scales of norms around 1: around 0 they would make all events alike.
            is_scale = "norm" in name and name.endswith("weight")
            nn.init.normal_(parameter, mean=float(is_scale), std=0.4, generator=generator)
            if name in ("item_embedding.weight", "user_embedding.weight", "query_embedding.embedding.weight"):
                parameter.data[0] = 0
        dataset = loaders[0]._dataset
        rows = SearchRows.of_training(dataset.events)
        search = rows.take(np.random.default_rng(0).choice(len(rows), n_searches, replace=False)).batch(dataset)
        search.update(Interaction({"neg_item_id": torch.randint(1, model.n_items, (n_searches, 4))}))
        batch = next(iter(loaders[0]))[:n]
        return model.eval(), dataset, batch, search

    return make


def query_vector(model, dataset, query):
    start, end = dataset.query_words.offsets[query : query + 2].tolist()
    words = dataset.query_words.values[start:end].long()
    table = model.query_embedding.embedding.weight
    return table[words].mean(0) if len(words) else torch.zeros(table.shape[1])


def behaviours(model, dataset, batch, row):
    """One row's events in time order."""
    items, found = model.item_embedding.weight, []
    types = model.type_embedding.weight
    for place, item in enumerate(batch["item_id_list"][row].tolist()):
        if item:
            found.append((int(batch["item_place_list"][row, place]), items[item] + types[0]))
    for place in range(int(batch["search_length"][row])):
        event = query_vector(model, dataset, int(batch["search_query_id_list"][row, place])) + types[1]
        clicks = [item for item in batch["search_item_ids_list"][row, place].tolist() if item]
        if clicks:
            event = event + items[torch.tensor(clicks)].mean(0)
        found.append((int(batch["search_place_list"][row, place]), event))
    return [event for _, event in sorted(found, key=lambda pair: pair[0])]


def transformer(layers):
    """The same weights in torch's own layers, for one sequence."""
    copies = []
    for layer in layers:
        shape = (layer.linear2.out_features, layer.self_attn.num_heads, layer.linear1.out_features, 0)
        copy = nn.TransformerEncoderLayer(*shape, batch_first=True)
        copy.load_state_dict(layer.state_dict())
        copies.append(copy.eval())

    def encode(vectors, append=None):
        """Encode a list of vectors; with ``append``, the output there, which the others do not attend to."""
        states = torch.stack([*vectors, *([] if append is None else [append])]).unsqueeze(0)
        hidden = torch.zeros(states.shape[1], states.shape[1], dtype=torch.bool)
        if append is not None and len(copies) > 1:
            hidden[:-1, -1] = True
        for copy in copies:
            states = copy(states, src_mask=hidden)
        return states[0] if append is None else states[0, -1]

    return encode


def reference(model, dataset, batch, intents, candidates):
    """Logits of each row, one row and one candidate at a time."""
    session, history = transformer(model.session_layers), transformer(model.history_encoder.layers)
    length, size = model.session_length, model.item_embedding.weight.shape[1]
    nothing = torch.zeros(1000, size)
    in_session, in_history = (
        model.positions[level].weight.flip(0) if level in model.positions else nothing
        for level in ("session", "history")
    )
    logits = []
    for row in range(len(batch)):
        # From the most recent on: that is what sessions and positions are counted from.
        events = behaviours(model, dataset, batch, row)[::-1]
        sessions = [events[start : start + length] for start in range(0, len(events), length)] or [[]]
        sessions = [[event + in_session[age] for age, event in enumerate(part)][::-1] for part in sessions]
        states = [*sessions[0], intents[row] + model.type_embedding.weight[2]]
        for _ in range(model.session_passes):
            states = list(session(states))
        short = states[-1]
        past = [state for part in sessions[1:][::-1] for state in session(part)]
        past = [state + in_history[len(past) - 1 - place] for place, state in enumerate(past)]
        long = history(past, append=short)
        for candidate in candidates[row].tolist():
            item = model.item_embedding.weight[candidate]
            in_light = history(past, append=item)
            pairs = [(short, item), (short, in_light), (long, item), (long, in_light)]
            cosines = torch.stack([torch.cosine_similarity(*pair, dim=0) for pair in pairs])
            logit = cosines @ model.score_layer.weight[0] + model.score_layer.bias[0]
            logits.append(logit.tanh() if model.score_tanh else logit)
    return torch.stack(logits).view(len(batch), -1)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"session_length": 1},
        {"session_length": 3, "n_layers": 2, "session_passes": 1},
        {"session_length": 50},
        {"use_positions": False, "score_tanh": True, "MAX_ITEM_LIST_LENGTH": 7},
    ],
)
def test_scores_equal_a_second_computation(make_user, settings):
    model, dataset, batch, search = make_user(**settings)
    users = model.user_embedding.weight[batch["user_id"]]
    candidates = model.training_candidates(batch)
    found = model.score_candidates(batch, candidates)
    torch.testing.assert_close(found, reference(model, dataset, batch, users, candidates), rtol=1e-4, atol=1e-5)
    queries = torch.stack([query_vector(model, dataset, query) for query in search["query_id"].tolist()])
    candidates = model.training_candidates(search)
    found = model.score(model.encode_intent(search, queries), candidates)
    torch.testing.assert_close(found, reference(model, dataset, search, queries, candidates), rtol=1e-4, atol=1e-5)
    # Rows long and short, with and without searches, are among them.
    lengths = batch["item_length"] + batch["search_length"]
    assert lengths.min() < 5 < 15 <= lengths.max() or "MAX_ITEM_LIST_LENGTH" in settings
    assert (batch["search_length"] == 0).any() and (batch["search_length"] > 0).any()


@pytest.mark.parametrize("loss_type", ["BCE", "sampled_CE"])
def test_losses_equal_a_second_computation(make_user, loss_type):
    model, dataset, batch, search = make_user(loss_type=loss_type, lambda_src=0.3)
    terms = model.calculate_loss(JointInteraction(batch.interaction, search))
    losses = dict(zip(model.loss_names, terms, strict=True))
    queries = torch.stack([query_vector(model, dataset, query) for query in search["query_id"].tolist()])
    for name, weight, rows, intents in (
        ("rec", 1, batch, model.user_embedding.weight[batch["user_id"]]),
        ("src_rank", 0.3, search, queries),
    ):
        candidates = torch.cat([rows["item_id"].unsqueeze(1), rows["neg_item_id"]], dim=1)
        logits = reference(model, dataset, rows, intents, candidates)
        if loss_type == "sampled_CE":
            expected = -logits.log_softmax(1)[:, 0].mean()
        else:
            expected = -(F.logsigmoid(logits[:, 0]).sum() + F.logsigmoid(-logits[:, 1:]).sum()) / logits.numel()
        torch.testing.assert_close(losses.pop(name), weight * expected)
    assert losses == {}


def gradients(model, *losses):
    """Gradient of each parameter, None where there is none."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(sum(losses), parameters, allow_unused=True), strict=True))


def is_zero(gradient):
    return gradient is None or not gradient.abs().max() > 0


def test_the_tasks_differ_in_their_intent_alone(make_user):
    model, dataset, _, search = make_user()
    expected = model.search_losses(search)["rank"]
    intents = model.encode_intent(search, model.query_embedding(search["query_id"]))
    found = model.candidate_loss(intents, model.training_candidates(search), model.score)
    torch.testing.assert_close(found, expected)
    assert abs(model.recommendation_losses(search)["rec"] - expected) > 1e-5
    # Users that are what the queries are.
    search.update(Interaction({"user_id": torch.arange(len(search)) + 1}))
    with torch.no_grad():
        model.user_embedding.weight[1 : len(search) + 1] = model.query_embedding(search["query_id"])
    torch.testing.assert_close(model.recommendation_losses(search)["rec"], expected)


def test_each_task_reaches_its_own_intent_and_all_that_is_shared(make_user):
    model, _, batch, search = make_user(n=200, n_searches=60)
    recommendation = gradients(model, *model.recommendation_losses(batch).values())
    searching = gradients(model, *model.search_losses(search).values())
    assert [name for name, gradient in recommendation.items() if is_zero(gradient)] == []
    assert [name for name, gradient in searching.items() if is_zero(gradient)] == ["user_embedding.weight"]


def test_without_search_loss_nothing_of_a_search_row_is_learnt(make_user):
    model, dataset, batch, search = make_user(lambda_src=0.0)
    # Rows without searches in their histories: words could be learnt from the query of a search row alone.
    batch = batch[batch["search_length"] == 0]
    losses = model.calculate_loss(JointInteraction(batch.interaction, search))
    assert len(losses) == 1 and model.loss_names == ("rec",)
    assert is_zero(gradients(model, *losses)["query_embedding.embedding.weight"])
    model.lambda_src = 0.1
    losses = model.calculate_loss(JointInteraction(batch.interaction, search))
    assert model.loss_names == ("rec", "src_rank")
    assert not is_zero(gradients(model, *losses)["query_embedding.embedding.weight"])


def without_history(batch):
    empty = Interaction(dict(batch.interaction))
    nothing = torch.zeros(len(batch), 1, dtype=torch.long)
    last = torch.full_like(nothing, torch.iinfo(torch.long).max)
    fields = {"item_id_list": nothing, "search_query_id_list": nothing, "search_item_ids_list": nothing.unsqueeze(2)}
    lengths = {"item_length": nothing.squeeze(1), "search_length": nothing.squeeze(1)}
    empty.update(Interaction({**fields, **lengths, "item_place_list": last, "search_place_list": last}))
    return empty


def test_without_history_intent_and_candidate_decide(make_user):
    model, dataset, batch, search = make_user()
    batch, search = without_history(batch), without_history(search)
    unused = {"query_embedding.embedding.weight"}
    unused |= {f"positions.{level}.weight" for level in ("session", "history")}
    given = gradients(model, *model.recommendation_losses(batch).values())
    assert {name for name, gradient in given.items() if is_zero(gradient)} == unused
    given = gradients(model, *model.search_losses(search).values())
    unused = unused - {"query_embedding.embedding.weight"} | {"user_embedding.weight"}
    assert {name for name, gradient in given.items() if is_zero(gradient)} == unused
    # Rows of one user have one score for one candidate.
    state = model.encode(batch[torch.zeros(2, dtype=torch.long)])
    torch.testing.assert_close(*model.score(state, torch.arange(1, 20).unsqueeze(0)))


@pytest.mark.parametrize("settings", [{}, {"use_positions": False}])
def test_a_query_without_words_and_a_history_give_moderate_gradients(make_model, settings):
    """A zero vector would be a token whose norms have derivatives beyond all bounds."""
    model, _, dataset, loaders = make_model("USER", **SMALL, **settings)
    wordless = (dataset.query_words.offsets.diff() == 0).nonzero().max()
    batch = without_history(next(iter(loaders[0]))[:5])
    batch.update(Interaction({"query_id": wordless.expand(5)}))
    losses = model.search_losses(batch)
    assert all(torch.isfinite(loss) for loss in losses.values())
    for gradient in gradients(model, *losses.values()).values():
        assert gradient is None or gradient.abs().max() < 1e6


def test_order_inside_a_session_counts_with_positions_only(make_user):
    for use_positions in (True, False):
        model, _, batch, _ = make_user(use_positions=use_positions, session_length=50)
        batch = batch[(batch["search_length"] > 1) & (batch["item_length"] > 2)]
        expected = model.predict(batch)
        items, places = batch["item_id_list"].clone(), batch["item_place_list"]
        items[:, [0, 1]] = items[:, [1, 0]]
        batch.update(Interaction({"item_id_list": items}))
        assert torch.allclose(model.predict(batch), expected, atol=1e-5) != use_positions
        assert (places[:, 0] < places[:, 1]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"session_length": 0}, "session_length is 0; it must be a whole number of at least 1"),
        ({"loss_type": "BPR"}, "loss_type is 'BPR'; it must be 'BCE' or 'sampled_CE' or 'gBCE' or 'CE'"),
        ({"embedding_size": 7}, "embedding_size 7 is not a multiple of n_heads 2"),
    ],
)
def test_wrong_settings_are_refused(make_model, settings, message):
    with pytest.raises(SettingError, match=message):
        make_model("USER", **settings)


def test_training_lowers_the_loss(make_model):
    from recbole_gserec.plugin.trainer import SearchTrainer

    model, config, _, loaders = make_model("USER", learning_rate=0.02)
    trainer = SearchTrainer(config, model)
    batch = next(iter(loaders[0]))[:100]
    model.eval()
    before = sum(model.calculate_loss(batch)).item()
    for _ in range(25):
        trainer.optimizer.zero_grad()
        sum(model.calculate_loss(batch)).backward()
        trainer.optimizer.step()
    assert sum(model.calculate_loss(batch)).item() < 0.7 * before
