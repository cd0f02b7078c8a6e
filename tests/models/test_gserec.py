"""GSERec against a second computation from its weights, and what must or must not influence what."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import nn
from torch_geometric.nn import LGConv

from recbole_gserec.errors import CheckpointError, SettingError
from recbole_gserec.layers.graph import LGConvUserCodeGraph, UserCodeGraph
from recbole_gserec.models.gserec import SIDES

pytestmark = pytest.mark.usefixtures("random_dataset")


def batch_of(loaders, n=60):
    return next(iter(loaders[0]))[:n]


def propagated(model, side):
    """Users and codes after message passing, by PyG's layer on the joint graph."""
    graph = model.graph[side]
    codes, n_users = graph.codes, len(graph.codes)
    users = torch.arange(n_users).unsqueeze(1).expand_as(codes)
    forward = torch.stack([users[codes > 0], codes[codes > 0] + n_users])
    edges = torch.cat([forward, forward.flip(0)], dim=1)
    layers = [torch.cat([model.user_embedding.weight, model.code_embedding[side].weight])]
    for _ in range(graph.n_layers):
        layers.append(LGConv()(layers[-1], edges))
    mean = torch.stack(layers).mean(0)
    return mean[:n_users], mean[n_users:]


def events_of(model, dataset, batch, row, side):
    """Embedded events of one row, by plain loops."""
    items = model.item_embedding.weight
    if side == "recommendation":
        return [items[item] for item in batch["item_id_list"][row].tolist() if item]
    words = model.session_embedding.query_embedding.embedding.weight
    events = []
    for position in range(int(batch["search_length"][row])):
        query = int(batch["search_query_id_list"][row, position])
        start, end = dataset.query_words.offsets[query : query + 2].tolist()
        ids = dataset.query_words.values[start:end].long()
        event = words[ids].mean(0) if len(ids) else torch.zeros(words.shape[1])
        clicks = [item for item in batch["search_item_ids_list"][row, position].tolist() if item]
        if clicks:
            event = event + items[torch.tensor(clicks)].mean(0)
        events.append(event)
    return events


def torch_layers(layers, kind, model):
    """The same weights in torch's own layers."""
    result = []
    for layer in layers:
        copy = kind(
            layer.linear2.out_features, layer.self_attn.num_heads, layer.linear1.out_features, 0, batch_first=True
        )
        copy.load_state_dict(layer.state_dict())
        result.append(copy.eval())
    return result


def reference(model, dataset, batch, candidates):
    """Logits, pooled histories and pooled codes of each row, one row at a time."""
    tables = {side: propagated(model, side) for side in SIDES}
    encoders = {s: torch_layers(model.encoder[s].layers, nn.TransformerEncoderLayer, model) for s in SIDES}
    decoders = {s: torch_layers(model.fusion[s].layers, nn.TransformerDecoderLayer, model) for s in SIDES}
    logits, means = [], {side: [] for side in SIDES}
    for row in range(len(batch)):
        user = int(batch["user_id"][row])
        pooled, users = {}, {}
        for side in SIDES:
            own = model.graph[side].codes[user]
            codes = tables[side][1][own[own > 0]].unsqueeze(0)
            users[side] = tables[side][0][user]
            events = events_of(model, dataset, batch, row, side)
            if not events:
                pooled[side] = None
                continue
            states = torch.stack(events).unsqueeze(0)
            states = states + model.encoder[side].positions.weight[: states.shape[1]]
            for layer in encoders[side]:
                states = layer(states)
            means[side].append((user, states[0].mean(0), codes[0].mean(0)))
            for layer in decoders[side]:
                states = layer(states, codes)
            pooled[side] = states[0]
        for candidate in candidates[row].tolist():
            target = model.item_embedding.weight[candidate]
            parts = [users[side] for side in SIDES]
            for side in SIDES:
                if pooled[side] is None:
                    parts.append(torch.zeros_like(target))
                else:
                    weights = (pooled[side] @ model.attention[side].weight @ target).softmax(0)
                    parts.append(weights @ pooled[side])
            hidden = torch.cat([*parts, target])
            for index, layer in enumerate(model.mlp.layers):
                hidden = layer(hidden.relu() if index else hidden)
            if model.objective.next_item and pooled["recommendation"] is not None:
                hidden = hidden + pooled["recommendation"][-1] @ target
            logits.append(hidden)
    return torch.stack(logits).view(len(batch), -1), means


def plain_contrast(model, pairs, similarity, temperature):
    """NT-Xent with rows of one user left out, by loops."""
    users = [user for user, _, _ in pairs] * 2
    views = [first for _, first, _ in pairs] + [second for _, _, second in pairs]
    n, total = len(pairs), 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        terms = {
            j: math.exp(math.tanh(views[i] @ similarity.weight @ views[j]) / temperature)
            for j in range(2 * n)
            if j == partner or users[j] != users[i]
        }
        total -= math.log(terms[partner] / sum(terms.values()))
    return total / (2 * n)


@pytest.mark.parametrize(("code_nodes", "lambda_next_item"), [("level", 0.0), ("prefix", 0.0), ("level", 0.5)])
def test_scores_and_losses_equal_a_second_computation(make_model, code_nodes, lambda_next_item):
    sizes = {"embedding_size": 8, "inner_size": 8, "n_layers": 2, "mlp_hidden_size": [9, 5]}
    model, _, dataset, loaders = make_model(**sizes, code_nodes=code_nodes, lambda_next_item=lambda_next_item)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.4)
    for table in (model.item_embedding, model.session_embedding.query_embedding.embedding):
        nn.init.zeros_(table.weight[0])
    model.eval()
    batch = batch_of(loaders, 40)
    candidates = model.training_candidates(batch)
    assert candidates.shape == (40, 5)
    with torch.no_grad():
        logits, means = reference(model, dataset, batch, candidates)
        torch.testing.assert_close(model.score_candidates(batch, candidates), logits, rtol=1e-4, atol=1e-4)
        losses = model.calculate_loss(batch)
        labels = np.zeros_like(logits.numpy())
        labels[:, 0] = 1
        chance = 1 / (1 + np.exp(-logits.numpy().astype(float)))
        cross_entropy = -np.mean(labels * np.log(chance) + (1 - labels) * np.log(1 - chance))
        assert losses[0].item() == pytest.approx(cross_entropy, rel=1e-4)
        if lambda_next_item:
            state = model.encode(batch)["recommendation"]
            lengths = batch["item_length"].tolist()
            last = [row[length - 1] if length else 0 * row[0] for row, length in zip(state.fused, lengths, strict=True)]
            all_logits = (torch.stack(last) @ model.item_embedding.weight[1:].T).numpy().astype(float)
            chosen = all_logits[np.arange(len(batch)), candidates[:, 0].numpy() - 1]
            expected = (np.log(np.exp(all_logits).sum(1)) - chosen).mean()
            assert losses[1].item() == pytest.approx(lambda_next_item * expected, rel=1e-4)
            losses = losses[:1] + losses[2:]
        tables = {side: propagated(model, side)[0] for side in SIDES}
        users = sorted(set(batch["user_id"].tolist()))
        pairs = [(user, tables["search"][user], tables["recommendation"][user]) for user in users]
        expected = plain_contrast(model, pairs, model.user_similarity, 0.1)
        assert losses[1].item() == pytest.approx(0.1 * expected, rel=1e-4)
        expected = sum(plain_contrast(model, means[side], model.history_similarity[side], 0.1) for side in SIDES)
        assert losses[2].item() == pytest.approx(0.01 * expected, rel=1e-4)


def test_alignment_is_the_layer_of_sesrec_over_the_clicks_of_the_batch(make_model):
    model, _, dataset, loaders = make_model(lambda_align=0.2, n_align_negatives=7)
    batch, drawn = batch_of(loaders), (torch.tensor([1, 2, 1]), torch.tensor([3, 5, 4]))
    model.eval().alignment.draw = lambda device: drawn
    items, words = model.item_embedding.weight, model.session_embedding.query_embedding
    n_searches, total, n_pairs = batch["search_length"].tolist(), 0.0, 0
    for row, n in enumerate(n_searches):
        searches = batch["search_query_id_list"][row, :n], batch["search_item_ids_list"][row, :n]
        for query, clicks in zip(*searches, strict=True):
            for item in clicks[clicks > 0]:
                query_vector, item_vector = words(query.unsqueeze(0))[0], items[item]
                for anchor, partner, others in (
                    (query_vector, item_vector, items[drawn[1]]),
                    (item_vector, query_vector, words(drawn[0])),
                ):
                    logits = (
                        torch.stack([partner, *others]) @ (model.alignment.similarity.weight.T @ anchor)
                    ).tanh() / 0.1
                    total, n_pairs = total - logits.log_softmax(0)[0].item() / 2, n_pairs + 0.5
    assert n_pairs > 20 and model.calculate_loss(batch)[-1].item() == pytest.approx(0.2 * total / n_pairs, rel=1e-4)
    assert model.loss_names[-1] == "align"


def test_permuted_codes_follow_the_seed(make_model):
    graphs = [
        make_model(**settings)[0].graph["search"].codes
        for settings in (
            {},
            {"code_users": "permuted"},
            {"code_users": "permuted"},
            {"code_users": "permuted", "seed": 5},
        )
    ]
    assert torch.equal(graphs[1], graphs[2])
    assert not any(torch.equal(graphs[1], other) for other in (graphs[0], graphs[3]))


def test_loss_is_the_weighted_sum(make_model):
    model, _, _, loaders = make_model(lambda_u_cl=0.3, lambda_his_cl=0.7)
    model.eval()
    batch = batch_of(loaders)
    state = model.encode(batch)
    _, user, history = model.calculate_loss(batch)
    assert user.item() == pytest.approx(0.3 * model.user_contrastive_loss(batch["user_id"], state).item())
    assert history.item() == pytest.approx(0.7 * model.history_contrastive_loss(batch["user_id"], state).item())


def gradients(model, batch):
    model.zero_grad()
    sum(model.calculate_loss(batch)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def is_zero(gradient):
    return gradient is None or bool((gradient == 0).all())


@pytest.mark.parametrize("his_cl", ["both", "rec_only"])
def test_his_cl_decides_whether_the_search_side_is_aligned(make_model, his_cl):
    model, _, _, loaders = make_model(his_cl=his_cl)
    given = gradients(model, batch_of(loaders))
    for name in ("history_similarity.search.weight", "history_temperature.search.log_tau"):
        assert is_zero(given[name]) == (his_cl == "rec_only")
    assert not is_zero(given["history_similarity.recommendation.weight"])


def test_everything_learns(make_model):
    model, _, _, loaders = make_model()
    given = gradients(model, batch_of(loaders, 600))
    # A bias added to all keys of an attention changes nothing; it shares its parameter with those that do.
    assert [name for name, gradient in given.items() if is_zero(gradient)] == []
    assert all(torch.isfinite(gradient).all() for gradient in given.values())


@pytest.mark.parametrize(
    ("settings", "absent", "n_losses"),
    [
        ({"use_user_code_graph": False}, ("user_embedding", "code_embedding", "graph", "fusion", "user_similarity"), 1),
        ({"use_code_fusion": False}, ("fusion",), 3),
        ({"lambda_u_cl": 0}, (), 2),
        ({"lambda_his_cl": 0}, (), 2),
    ],
)
def test_ablations_of_table_3(make_model, settings, absent, n_losses):
    model, _, _, loaders = make_model(**settings)
    names = {name.split(".")[0] for name, _ in model.named_modules()}
    assert not names & set(absent)
    batch = batch_of(loaders)
    losses = model.calculate_loss(batch)
    assert len(losses) == n_losses and all(torch.isfinite(loss) for loss in losses)
    assert model.predict(batch).shape == (len(batch),)


def test_without_graph_layers_fusion_and_contrast_it_is_two_target_attentions(make_model):
    model, _, dataset, loaders = make_model(
        n_graph_layers=0, use_code_fusion=False, lambda_u_cl=0, lambda_his_cl=0, n_layers=0
    )
    model.eval()
    batch = batch_of(loaders, 20)
    scores = model.predict(batch)
    for row in range(20):
        target = model.item_embedding.weight[batch["item_id"][row]]
        parts = [model.user_embedding.weight[batch["user_id"][row]]] * 2
        for side in SIDES:
            events = events_of(model, dataset, batch, row, side)
            if not events:
                parts.append(torch.zeros_like(target))
                continue
            states = torch.stack(events) + model.encoder[side].positions.weight[: len(events)]
            parts.append((states @ model.attention[side].weight @ target).softmax(0) @ states)
        hidden = torch.cat([*parts, target])
        for index, layer in enumerate(model.mlp.layers):
            hidden = layer(hidden.relu() if index else hidden)
        torch.testing.assert_close(scores[row], hidden[0], rtol=1e-4, atol=1e-5)


def without_searches(batch):
    return batch[batch["search_length"] == 0]


@pytest.mark.parametrize("training", [True, False])
def test_rows_without_searches(make_model, training):
    model, _, _, loaders = make_model(lambda_u_cl=0, lambda_his_cl=0.5)
    model.train(training)
    batch = without_searches(batch_of(loaders, 600))
    assert len(batch) > 5
    state = model.encode(batch)["search"]
    assert (state.fused == 0).all() and len(state.history) == 0
    items = model.item_embedding(batch["item_id"].unsqueeze(1))
    assert (model.attention["search"](state.fused, state.packing.mask, items) == 0).all()
    losses = model.calculate_loss(batch)
    sum(losses).backward()
    assert all(torch.isfinite(loss) for loss in losses)
    assert is_zero(model.session_embedding.query_embedding.embedding.weight.grad)
    # Message passing still tells something of the search side.
    assert not is_zero(model.code_embedding["search"].weight.grad)
    assert torch.isfinite(model.predict(batch)).all()


@pytest.mark.parametrize("n_rows", [1, 2])
def test_tiny_batches(make_model, n_rows):
    model, _, _, loaders = make_model()
    batch = batch_of(loaders, n_rows)
    loss = sum(model.calculate_loss(batch))
    loss.backward()
    assert torch.isfinite(loss)


def test_no_history_at_all(make_model):
    model, _, _, loaders = make_model()
    batch = batch_of(loaders, 10)
    batch.update(Interaction({"item_id_list": torch.zeros(10, 1, dtype=torch.long), "search_length": torch.zeros(10)}))
    loss = sum(model.calculate_loss(batch))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(model.eval().predict(batch)).all()


def test_padding_does_not_change_scores(make_model):
    model, _, _, loaders = make_model()
    model.eval()
    batch = batch_of(loaders, 50)
    wide = Interaction(dict(batch.interaction))
    wide.update(
        Interaction(
            {
                # Beyond the table of positions, with whatever in the padded places of the searches.
                "item_id_list": F.pad(batch["item_id_list"], (0, 3)),
                "search_query_id_list": F.pad(batch["search_query_id_list"], (0, 3), value=4),
                "search_item_ids_list": F.pad(batch["search_item_ids_list"], (0, 2, 0, 3)),
            }
        )
    )
    torch.testing.assert_close(model.predict(wide), model.predict(batch))


def test_order_of_rows_does_not_change_scores_or_losses(make_model):
    model, _, _, loaders = make_model()
    model.eval()
    batch = batch_of(loaders, 50)
    order = torch.randperm(50)
    torch.testing.assert_close(model.predict(batch[order]), model.predict(batch)[order])
    for mixed, plain in zip(model.calculate_loss(batch[order]), model.calculate_loss(batch), strict=True):
        torch.testing.assert_close(mixed, plain)


def test_rows_of_one_user_are_no_negatives(make_model):
    model, _, _, loaders = make_model()
    model.eval()
    batch = batch_of(loaders, 30)
    doubled = batch[torch.arange(30).repeat(2)]
    once, twice = (model.user_contrastive_loss(part["user_id"], model.encode(part)).item() for part in (batch, doubled))
    assert twice == pytest.approx(once)
    model.cl_dedup = False
    assert model.user_contrastive_loss(doubled["user_id"], model.encode(doubled)).item() > once + 0.1


def test_graph_is_propagated_once_per_evaluation(make_model, monkeypatch):
    model, _, _, loaders = make_model()
    calls = []
    for side in SIDES:
        original = model.graph[side].propagate
        monkeypatch.setattr(model.graph[side], "propagate", lambda *a, f=original: calls.append(1) or f(*a))
    batch = batch_of(loaders, 8)
    model.eval()
    with torch.no_grad():
        first = model.predict(batch)
        model.predict(batch)
        assert len(calls) == 2  # One for each side.
        model.load_state_dict({n: v * 1.5 if v.is_floating_point() else v for n, v in model.state_dict().items()})
        assert not torch.equal(model.predict(batch), first)
        assert len(calls) == 4
        model.train()
        model.eval()
        model.predict(batch)
    assert len(calls) == 6


def test_training_lowers_the_loss(make_model):
    from recbole_gserec.plugin.trainer import SearchTrainer

    model, config, _, loaders = make_model(learning_rate=0.01)
    trainer = SearchTrainer(config, model)
    batch = batch_of(loaders, 200)
    model.eval()
    before = sum(model.calculate_loss(batch)).item()
    for _ in range(15):
        trainer.optimizer.zero_grad()
        sum(model.calculate_loss(batch)).backward()
        trainer.optimizer.step()
    assert sum(model.calculate_loss(batch)).item() < 0.6 * before


@pytest.mark.parametrize(
    ("n_graph_layers", "code_nodes"), [*((n, "level") for n in range(4)), (2, "prefix"), (3, "prefix")]
)
def test_lgconv_gives_the_same_losses_scores_and_gradients(make_model, n_graph_layers, code_nodes):
    settings = {"n_graph_layers": n_graph_layers, "code_nodes": code_nodes}
    models = [make_model(graph_conv=conv, **settings) for conv in ("spmm", "lgconv")]
    (ours, *_, loaders), (lgconv, *_) = models
    assert type(ours.graph["search"]) is UserCodeGraph and type(lgconv.graph["search"]) is LGConvUserCodeGraph
    lgconv.load_state_dict(ours.state_dict())
    batch = batch_of(loaders, 100)
    with torch.no_grad():
        torch.testing.assert_close(lgconv.eval().predict(batch), ours.eval().predict(batch))
    for expected, found in zip(ours.calculate_loss(batch), lgconv.calculate_loss(batch), strict=True):
        torch.testing.assert_close(found, expected)
    given = gradients(lgconv, batch)
    for name, expected in gradients(ours, batch).items():
        torch.testing.assert_close(given[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["GSERec", "SimGCL"])
def test_without_a_graph_conv_the_default_is_taken(make_model, model):
    """Checkpoints of earlier versions do not have it."""
    scores = []
    for settings in ({}, {"graph_conv": None}):
        network, _, _, loaders = make_model(model, **settings)
        with torch.no_grad():
            scores.append(network.eval().predict(batch_of(loaders)))
    assert torch.equal(*scores)


@pytest.mark.parametrize("model", ["GSERec", "SimGCL"])
def test_wrong_graph_conv_is_refused(make_model, model):
    with pytest.raises(SettingError, match="^graph_conv is 'gcn'; it must be 'spmm' or 'lgconv'$"):
        make_model(model, graph_conv="gcn")


def test_wrong_choice_is_refused(make_model):
    with pytest.raises(SettingError, match="his_cl is 'search'; it must be 'both' or 'rec_only'"):
        make_model(his_cl="search")
    with pytest.raises(SettingError, match="^code_nodes is 'prefixes'; it must be 'level' or 'prefix'$"):
        make_model(code_nodes="prefixes")


def test_nodes_are_prefixes_that_users_share(make_model, random_rows):
    """Checkpoints of earlier versions do not have the setting: their nodes are codes."""
    (levels, _, dataset, _), (old, *_), (model, *_) = (
        make_model(code_nodes=code_nodes) for code_nodes in ("level", None, "prefix")
    )
    names = dataset.field2id_token["user_id"].tolist()
    for side, column in (("search", 1), ("recommendation", 2)):
        assert torch.equal(old.graph[side].codes, levels.graph[side].codes)
        ids = {}
        prefixes = [
            (names.index(row[0]), length, tuple(row[column].split()[:length]))
            for row in random_rows["code"]
            for length in (1, 2, 3)
        ]
        for user, length, prefix in prefixes:
            shared = sum(prefix == other for _, _, other in prefixes) > 1
            node = int(model.graph[side].codes[user, length - 1])
            assert (node > 0) == shared
            assert not shared or ids.setdefault(prefix, node) == node
        assert len(model.code_embedding[side].weight) == len(ids) + 1


def test_users_without_a_node(make_model):
    """Finite scores and losses where a user shares no prefix, or nobody does."""
    model, _, _, loaders = make_model(code_nodes="prefix")
    batch = batch_of(loaders)
    for users in (batch["user_id"][:1], batch["user_id"]):
        for side in SIDES:
            model.graph[side].codes[users] = 0
        assert torch.isfinite(sum(model.calculate_loss(batch)))
        assert torch.isfinite(model.eval().predict(batch)).all()
        model.train()


@pytest.mark.parametrize(("trained", "read"), [("level", "prefix"), ("prefix", "level")])
def test_weights_of_other_nodes_are_refused(make_model, trained, read):
    state = make_model(code_nodes=trained)[0].state_dict()
    with pytest.raises(CheckpointError, match="or with other code_nodes"):
        make_model(code_nodes=read)[0].load_state_dict(state)


def test_heads_must_divide_the_size(make_model):
    with pytest.raises(SettingError, match="embedding_size 7 is not a multiple of n_heads 2"):
        make_model(embedding_size=7)


def test_weights_trained_with_other_codes_are_refused(make_model):
    model, *_ = make_model()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    state["graph.search.codes"][3] = state["graph.search.codes"][4]
    with pytest.raises(CheckpointError, match="trained with other codes"):
        model.load_state_dict(state)


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_mixed_precision(make_model, device):
    model, _, _, loaders = make_model()
    model.eval().to(device)
    batch = batch_of(loaders).to(device)
    whole = sum(model.calculate_loss(batch))
    with torch.autocast(device, dtype=torch.bfloat16):
        loss = sum(model.calculate_loss(batch))
    loss.backward()
    torch.testing.assert_close(loss, whole, rtol=0.02, atol=0.02)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)
