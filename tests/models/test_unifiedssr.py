"""UnifiedSSR against a second computation from its weights, and what must or must not influence what.

Breakages tried, each caught here: attention to later places; layers that all read the input; attention to the own
stream twice in search; clicks not shifted by one; the row's own query left out; the first state in place of the last;
the user left out; scores without the root of d; branches mixed the wrong way round; branches pushed apart; windows over
the padded length; negatives of other rows where all positions count; predictions where nothing was clicked;
correlations that keep their sign.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import nn

from recbole_gserec.data.search_rows import JointInteraction
from recbole_gserec.data.train_dataloaders import JointTrainDataLoader
from recbole_gserec.errors import SettingError
from recbole_gserec.models.unifiedssr import adjacent_correlation

pytestmark = pytest.mark.usefixtures("random_dataset")

SMALL = {"embedding_size": 8, "inner_size": 12}


@pytest.fixture
def make_unified(make_model):
    """A model with weights far from those of the start, its training data, and a batch of both tasks."""

    def make(n=40, n_searches=30, **settings):
        model, config, _, loaders = make_model("UnifiedSSR", **{**SMALL, **settings})
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            nn.init.normal_(parameter, std=0.4, generator=generator)
            if "embedding" in name:
                parameter.data[0] = 0
        nn.init.constant_(model.windows.width_bias, 0.5)
        dataset = loaders[0]._dataset
        torch.manual_seed(0)
        batch = next(iter(JointTrainDataLoader(config, dataset, None, shuffle=True)))
        return model.eval(), dataset, JointInteraction(batch[:n].interaction, batch.search[:n_searches])

    return make


def events(vectors):
    """Embeddings of one row's events times the root of d, with sinusoidal positions."""
    states = torch.stack(vectors) * math.sqrt(len(vectors[0]))
    for position in range(len(states)):
        for index in range(states.shape[1]):
            angle = position / 10000 ** (index // 2 * 2 / states.shape[1])
            states[position, index] += math.cos(angle) if index % 2 else math.sin(angle)
    return states.unsqueeze(0)


def encoded(model, *streams):
    """Streams of one row through torch's own layers."""
    mask = nn.Transformer.generate_square_subsequent_mask(streams[0].shape[1])
    for layer in model.encoder.layers:
        sizes = layer.linear2.out_features, layer.self_attn.num_heads, layer.linear1.out_features
        plain = nn.TransformerDecoderLayer(*sizes, 0, batch_first=True, norm_first=True).eval()
        plain.load_state_dict(layer.state_dict())
        streams = [plain(own, other, mask, mask) for own, other in zip(streams, streams[::-1], strict=True)]
    return [
        F.layer_norm(states[0], states.shape[2:], model.encoder.norm.weight, model.encoder.norm.bias)
        for states in streams
    ]


def product_states(model, batch, row):
    user = model.user_embedding.weight[batch["user_id"][row]]
    items = [item for item in batch["item_id_list"][row].tolist() if item]
    return encoded(model, events([model.item_embedding.weight[item] + user for item in items]))[0], items


def search_states(model, dataset, batch, row, click=0):
    """States of both branches, and the clicked items."""
    user = model.user_embedding.weight[batch["user_id"][row]]
    queries, clicks = [], []
    for position in range(int(batch["search_length"][row])):
        queries.append(int(batch["search_query_id_list"][row, position]))
        clicks.append(([item for item in batch["search_item_ids_list"][row, position].tolist() if item] or [0])[click])
    queries, clicks = [*queries, int(batch["query_id"][row])], [*clicks, int(batch["item_id"][row])]
    words, vectors = model.query_embedding.embedding.weight, []
    for query in queries:
        start, end = dataset.query_words.offsets[query : query + 2].tolist()
        ids = dataset.query_words.values[start:end].long()
        vectors.append(user + (words[ids].mean(0) if len(ids) else 0))
    products = [user + model.item_embedding.weight[item] for item in [0, *clicks[:-1]]]
    return encoded(model, events(products), events(vectors)), clicks


def cross_entropy(model, pairs):
    """Mean over (state, items), the first of the items being the positive."""
    losses = []
    for state, items in pairs:
        for index, item in enumerate(items):
            score = (math.sqrt(len(state)) * model.item_embedding.weight[item] @ state).item()
            losses.append(math.log1p(math.exp(-score if index == 0 else score)))
    return sum(losses) / len(losses)


def window_means(model, states):
    """Means of one row's states, weighted by soft windows."""
    layer, n, means = model.windows, len(states), []
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    for k in range(layer.n_windows):
        part = states[math.floor(k * n / layer.n_windows) : math.ceil((k + 1) * n / layer.n_windows)]
        shift, width = (layer.offsets.weight @ part.mean(0).relu()).tolist()
        centre = (k + 0.5 + math.tanh(shift)) / layer.n_windows
        half = max(0, math.tanh(width + layer.width_bias.item())) / layer.n_windows
        start, end = (n * min(max(bound, 0), 1) for bound in (centre - half, centre + half))
        weights = [
            sigmoid((t + 0.5 - start) / layer.softness) * sigmoid((end - t - 0.5) / layer.softness) for t in range(n)
        ]
        means.append(sum(w * state for w, state in zip(weights, states, strict=True)) / sum(weights))
    return means


def cosine(a, b):
    return (a @ b / a.norm() / b.norm()).item()


def apart(model, rows):
    """Mean |cos| of neighbouring windows over the rows with enough events."""
    found = []
    for states in rows:
        if len(states) >= model.windows.n_windows:
            means = window_means(model, states)
            found += [abs(cosine(first, second)) for first, second in zip(means, means[1:], strict=False)]
    return sum(found) / len(found)


def together(model, rows):
    found = []
    for streams in rows:
        if len(streams[0]) >= model.windows.n_windows:
            found += [cosine(p, q) for p, q in zip(*(window_means(model, states) for states in streams), strict=True)]
    return sum(found) / len(found)


@pytest.mark.parametrize("n_windows", [2, 3])
@torch.no_grad()
def test_scores_and_losses_equal_a_second_computation(make_unified, n_windows):
    model, dataset, batch = make_unified(n_windows=n_windows, lambda_corr=0.2, lambda_src=0.3)
    candidates = model.training_candidates(batch)
    assert candidates.shape == (40, 5) and 1 in batch["item_length"]
    states = [product_states(model, batch, row)[0] for row in range(40)]
    scores = torch.stack([row[-1] for row in states]).unsqueeze(1) @ model.item_embedding(candidates).mT * math.sqrt(8)
    torch.testing.assert_close(model.score_candidates(batch, candidates), scores.squeeze(1), rtol=1e-4, atol=1e-4)
    recommendation, correlation, click, search_correlation = (loss.item() for loss in model.calculate_loss(batch))
    assert model.loss_names == ("rec", "corr", "src_click", "src_corr")
    pairs = [(row[-1], items) for row, items in zip(states, candidates.tolist(), strict=True)]
    assert recommendation == pytest.approx(cross_entropy(model, pairs), rel=1e-4)
    assert correlation == pytest.approx(0.2 * apart(model, states), rel=1e-4)

    search = batch.search
    branches = [search_states(model, dataset, search, row)[0] for row in range(30)]
    weight = 0.1 + 0.8 / (1 + math.exp(-model.mix.item()))
    expected = 0
    for branch, share in ((0, weight), (1, 1 - weight)):
        pairs = [
            (row[branch][-1], items.tolist())
            for row, items in zip(branches, model.training_candidates(search), strict=True)
        ]
        expected += share * cross_entropy(model, pairs)
    assert click == pytest.approx(0.3 * expected, rel=1e-4)
    expected = sum(apart(model, [row[branch] for row in branches]) for branch in (0, 1)) - together(model, branches)
    assert search_correlation == pytest.approx(0.3 * 0.2 * expected, rel=1e-3, abs=1e-5)


@torch.no_grad()
def test_all_positions_count_where_asked(make_unified):
    model, dataset, batch = make_unified(loss_positions="all", lambda_src=0.3, lambda_corr=0)
    recommendation, click = (loss.item() for loss in model.calculate_loss(batch))
    pairs = []
    for row in range(40):
        states, items = product_states(model, batch, row)
        following = [*items[1:], int(batch["item_id"][row])]
        negatives = batch["neg_item_id"][row].tolist()
        pairs += [(state, [item, *negatives]) for state, item in zip(states, following, strict=True)]
    assert recommendation == pytest.approx(cross_entropy(model, pairs), rel=1e-4)
    pairs = [], []
    for row in range(30):
        branches, clicks = search_states(model, dataset, batch.search, row)
        negatives = batch.search["neg_item_id"][row].tolist()
        for found, states in zip(pairs, branches, strict=True):
            found += [(state, [item, *negatives]) for state, item in zip(states, clicks, strict=True) if item]
    weight = 0.1 + 0.8 / (1 + math.exp(-model.mix.item()))
    expected = weight * cross_entropy(model, pairs[0]) + (1 - weight) * cross_entropy(model, pairs[1])
    assert click == pytest.approx(0.3 * expected, rel=1e-4)


@torch.no_grad()
def test_which_click_stands_for_a_search(make_unified):
    for session_click, position in (("first", 0), ("last", -1)):
        model, dataset, batch = make_unified(session_click=session_click)
        clicks, queries, packing = model.search_history(batch.search)
        branches = model.encode_branches(batch.search["user_id"], clicks, queries, packing)
        several = (batch.search["search_item_ids_list"] > 0).sum(2) > 1
        assert several.any()
        for row in range(30):
            expected, _ = search_states(model, dataset, batch.search, row, position)
            n_events = int(batch.search["search_length"][row]) + 1
            for states, plain in zip(branches, expected, strict=True):
                torch.testing.assert_close(packing.unpack(states)[row, :n_events], plain, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_recommendation_reads_no_field_of_searches(make_unified):
    model, _, batch = make_unified()
    fields = ("user_id", "item_id", "item_id_list", "item_length")
    without = Interaction({name: batch[name] for name in fields})
    assert torch.equal(model.predict(without), model.predict(batch))
    assert torch.equal(model.full_sort_predict(without), model.full_sort_predict(batch))


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_states_depend_on_later_items_only_where_asked(make_unified, causal):
    model, _, batch = make_unified(causal=causal)
    rows = batch[batch["item_length"] > 3]
    items = rows["item_id_list"].clone()
    items[:, 3:] = (items[:, 3:] % 7 + 1) * (items[:, 3:] > 0)
    later = Interaction({**rows.interaction, "item_id_list": items})
    first, second = (packing.unpack(states)[:, :3] for states, packing in map(model.encode_products, (rows, later)))
    assert torch.allclose(first, second, atol=1e-5) == causal
    assert not torch.allclose(model.encode(rows), model.encode(later), atol=1e-3)


@torch.no_grad()
def test_a_click_is_predicted_from_its_query_and_what_came_before(make_unified):
    model, _, batch = make_unified()
    rows = batch.search[batch.search["search_length"] > 2]
    clicks, queries, packing = model.search_history(rows)

    def states(clicks, queries):
        parts = model.encode_branches(rows["user_id"], clicks, queries, packing)
        return torch.stack([packing.unpack(part) for part in parts])

    before, position = states(clicks, queries), torch.arange(clicks.shape[1])
    changed = states(clicks.where(position != 1, 5), queries)
    torch.testing.assert_close(changed[:, :, :2], before[:, :, :2])
    assert not torch.allclose(changed[:, :, 2], before[:, :, 2], atol=1e-3)
    changed = states(clicks, queries.where(position != 1, 5))
    torch.testing.assert_close(changed[:, :, :1], before[:, :, :1])
    differs = (changed[:, :, 1] - before[:, :, 1]).abs().amax(-1) > 1e-3
    assert (differs == (queries[:, 1] != 5)).all()


def test_opposed_windows_count_as_much_as_equal_ones():
    windows = torch.tensor([[[1.0, 0], [-2, 0], [0, 3]], [[1, 1], [2, 2], [1, 0]]])
    assert adjacent_correlation(windows).item() == pytest.approx((1 + 0 + 1 + math.sqrt(0.5)) / 4)
    assert adjacent_correlation(windows[:0]) == adjacent_correlation(windows[:, :1]) == 0


def gradients(model, loss):
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()}


def test_what_each_loss_teaches(make_unified):
    model, _, batch = make_unified(n=200, n_searches=200)
    losses = model.calculate_loss(batch)
    recommendation, correlation, click, search_correlation = (gradients(model, loss) for loss in losses)
    every = {name for name, _ in model.named_parameters()}
    windows = {name for name in every if name.startswith("windows")}
    words = "query_embedding.embedding.weight"
    assert recommendation == every - windows - {words, "mix"}
    assert correlation == recommendation | windows
    assert click == every - windows
    assert search_correlation == every - {"mix"}


@pytest.mark.parametrize("stacked", [True, False])
def test_the_first_layer_learns_where_layers_are_stacked(make_unified, stacked):
    model, _, batch = make_unified(stacked=stacked)
    sum(model.calculate_loss(batch)).backward()
    given = [parameter.grad for parameter in model.encoder.layers[0].parameters()]
    assert all((gradient is not None) == stacked for gradient in given)
    assert all(parameter.grad is not None for parameter in model.encoder.layers[1].parameters())
    if not stacked:
        state = model.encode(batch)
        del model.encoder.layers[0]
        assert torch.equal(model.encode(batch), state)


def test_without_search_and_sessions_it_is_a_recommender(make_unified):
    given = []
    for settings in ({"lambda_src": 0, "lambda_corr": 0}, {}):
        model, _, batch = make_unified(**settings)
        torch.manual_seed(0)
        losses = model.train().calculate_loss(batch)
        given.append(losses[0].item())
        if settings:
            assert model.loss_names == ("rec",)
            taught = gradients(model, losses[0])
            assert not any(name.startswith(("windows", "query_embedding", "mix")) for name in taught)
    assert given[0] == given[1]


@pytest.mark.parametrize(("settings", "n_joint"), [({}, 3), ({"pretrain_epochs": 2}, 2)])
def test_pre_training_on_both_tasks_comes_before_recommendation_alone(make_model, settings, n_joint):
    from recbole_gserec.plugin.trainer import SearchTrainer

    model, config, _, loaders = make_model("UnifiedSSR", **SMALL, epochs=3, **settings)
    batches = JointTrainDataLoader(config, loaders[0]._dataset, None, shuffle=True)
    trainer, learnt = SearchTrainer(config, model), {}
    encode_branches, words = model.encode_branches, model.query_embedding.embedding.weight

    def counted(*inputs):
        learnt[model.epoch] += 1
        return encode_branches(*inputs)

    model.encode_branches = counted
    for epoch in range(3):
        learnt[epoch], before = 0, words.detach().clone()
        trainer._train_epoch(batches, epoch)
        trains_search = epoch < n_joint
        assert (learnt[epoch] == len(batches)) == trains_search and (learnt[epoch] == 0) != trains_search
        assert torch.equal(words, before) != trains_search
        assert model.loss_names == ("rec", "corr", "src_click", "src_corr")[: 4 if trains_search else 2]


def test_new_windows_and_weights(make_model):
    model, *_ = make_model("UnifiedSSR")
    assert model.windows.width_bias.tanh().item() == pytest.approx(0.25)
    assert not model.windows.offsets.weight.any() and model.mix.item() == 0


@pytest.mark.parametrize("loss_positions", ["last", "all"])
def test_nothing_to_learn_from(make_unified, loss_positions):
    model, _, batch = make_unified(loss_positions=loss_positions)
    empty = {"item_id_list": torch.zeros(40, 1, dtype=torch.long), "item_length": torch.zeros(40, dtype=torch.long)}
    batch.update(Interaction(empty))
    batch.search.update(Interaction({"search_length": torch.zeros(30, dtype=torch.long)}))
    losses = model.train().calculate_loss(batch)
    sum(losses).backward()
    assert all(torch.isfinite(loss) for loss in losses)
    # A single event has no two windows.
    assert losses[1].item() == losses[3].item() == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_training_lowers_the_loss(make_model):
    from recbole_gserec.plugin.trainer import SearchTrainer

    model, config, _, loaders = make_model("UnifiedSSR", learning_rate=0.01, lambda_src=1, lambda_corr=1)
    batch = next(iter(JointTrainDataLoader(config, loaders[0]._dataset, None, shuffle=True)))
    trainer = SearchTrainer(config, model.eval())
    before = np.array([loss.item() for loss in model.calculate_loss(batch)])
    for _ in range(30):
        trainer.optimizer.zero_grad()
        sum(model.calculate_loss(batch)).backward()
        trainer.optimizer.step()
    after = np.array([loss.item() for loss in model.calculate_loss(batch)])
    assert (after < before - 0.2).all()
    assert model.windows.offsets.weight.abs().max() > 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_positions": "first"}, "loss_positions is 'first'; it must be 'last' or 'all'"),
        ({"session_click": "all"}, "session_click is 'all'; it must be 'first' or 'last'"),
        ({"embedding_size": 6}, "embedding_size 6 is not a multiple of n_heads 4"),
        ({"window_softness": 0}, "window_softness is 0; it must be a number above 0"),
    ],
)
def test_wrong_settings_are_refused(make_model, settings, message):
    with pytest.raises(SettingError, match=message):
        make_model("UnifiedSSR", **settings)


def test_correlations_need_neighbours(make_unified):
    with pytest.raises(SettingError, match="n_windows is 1; it must be at least 2: lambda_corr weights"):
        make_unified(n_windows=1)
    make_unified(n_windows=1, lambda_corr=0)
