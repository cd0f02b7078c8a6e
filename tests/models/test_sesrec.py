"""SESRec against a second computation from its weights, and what must or must not influence what.

Breakages tried, each caught here: W transposed in the co-attention; its affinities squared; even weight counted with
padding; similar and dissimilar parts swapped; ReLU for LeakyReLU; the projection's bias added to searches without
clicks; items without projection; triplets of rows with one history; one direction of the alignment twice; pairs
counted once each.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import nn

from recbole_gserec.errors import SettingError
from recbole_gserec.layers import attention
from recbole_gserec.models.sesrec import SIDES
from tests.plain_alignment import pairs_of, plain_alignment

pytestmark = pytest.mark.usefixtures("random_dataset")

SMALL = {"embedding_size": 8, "inner_size": 12, "mlp_hidden_size": [9, 5], "n_align_negatives": 7}
CO_ATTENTION = {"co_attention.weight", "co_attention.search_weight", "co_attention.recommendation_weight"}


@pytest.fixture
def make_sesrec(make_model):
    """A model whose biases and norms are not those of the start, its training data, and a batch."""

    def make(n=40, **settings):
        model, _, _, loaders = make_model("SESRec", **{**SMALL, **settings})
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            # Large enough for something to come through all layers, and norms that do not make all events alike.
            is_scale = "norm" in name and name.endswith("weight")
            std = 0.6 if name.startswith("mlp.") else 0.4
            nn.init.normal_(parameter, mean=float(is_scale), std=std, generator=generator)
        nn.init.constant_(model.alignment.temperature.log_tau, -1.0)
        for table in (model.item_embedding, model.user_embedding, model.query_embedding.embedding):
            nn.init.zeros_(table.weight[0])
        return model.eval(), loaders[0]._dataset, next(iter(loaders[0]))[:n]

    return make


def item_vector(model, item):
    return model.item_projection.weight @ model.item_embedding.weight[item] + model.item_projection.bias


def query_vector(model, dataset, query):
    start, end = dataset.query_words.offsets[query : query + 2].tolist()
    words = dataset.query_words.values[start:end].long()
    table = model.query_embedding.embedding.weight
    mean = table[words].mean(0) if len(words) else torch.zeros(table.shape[1])
    return model.query_projection.weight @ mean + model.query_projection.bias


def events_of(model, dataset, batch, row):
    """Embedded events of one row, by side."""
    searches = []
    for place in range(int(batch["search_length"][row])):
        event = query_vector(model, dataset, int(batch["search_query_id_list"][row, place]))
        clicks = [item for item in batch["search_item_ids_list"][row, place].tolist() if item]
        if clicks:
            event = event + sum(item_vector(model, item) for item in clicks) / len(clicks)
        searches.append(event)
    items = [item_vector(model, item) for item in batch["item_id_list"][row].tolist() if item]
    return {"recommendation": items, "search": searches}


def encoded(encoder, events):
    """Events with positions through torch's own layers."""
    if not events:
        return None
    states = (torch.stack(events) + encoder.positions.weight[: len(events)]).unsqueeze(0)
    for layer in encoder.layers:
        shape = (layer.linear2.out_features, layer.self_attn.num_heads, layer.linear1.out_features, 0)
        copy = nn.TransformerEncoderLayer(*shape, F.leaky_relu, batch_first=True)
        copy.load_state_dict(layer.state_dict())
        states = copy.eval()(states)
    return states[0]


def weighed(model, own, other, is_search):
    """Co-attention weights of one history."""
    layer = model.co_attention
    reads = layer.recommendation_weight if is_search else layer.search_weight
    scores = []
    for event in own:
        # W stands between interactions on its left and searches on its right.
        affinities = [(x @ layer.weight @ event if is_search else event @ layer.weight @ x).tanh() for x in other]
        scores.append(sum(a * (x @ reads) for a, x in zip(affinities, other, strict=True)))
    return torch.stack(scores).softmax(0)


def groups_of(weights, n):
    """Places of similar and of dissimilar events."""
    everything = list(range(n))
    if weights is None:
        return everything, everything
    even = (1 - 2**-11.5) / n
    similar = [j for j in everything if weights[j] >= even]
    dissimilar = [j for j in everything if weights[j] < even]
    return similar or everything, dissimilar or everything


def reference(model, dataset, batch, candidates):
    """Logits, and the triplet terms of each side, one row at a time."""
    logits, triplets = [], {side: [] for side in SIDES}
    for row in range(len(batch)):
        events = events_of(model, dataset, batch, row)
        histories = {side: encoded(model.encoder[side], events[side]) for side in SIDES}
        both = all(history is not None for history in histories.values())
        parts = {}
        for side, other in (SIDES, SIDES[::-1]):
            history = histories[side]
            if history is None:
                continue
            weights = weighed(model, history, histories[other], side == "search") if both else None
            parts[side] = (list(range(len(history))), *groups_of(weights, len(history)))
            if both:
                anchor, near, far = weights @ history, history[parts[side][1]].mean(0), history[parts[side][2]].mean(0)
                gap = (anchor - near + 1e-6).norm() - (anchor - far + 1e-6).norm()
                triplets[side].append((gap + model.triplet_margin).clamp_min(0))
        for candidate in candidates[row].tolist():
            target = item_vector(model, candidate)
            pooled = [model.user_embedding.weight[batch["user_id"][row]]]
            for side in SIDES:
                for places in parts.get(side, ([],) * 3):
                    if not places:
                        pooled.append(torch.zeros_like(target))
                        continue
                    chosen = histories[side][places]
                    pooled.append((chosen @ model.attention[side].weight @ target).softmax(0) @ chosen)
            hidden = torch.cat([*pooled, target])
            for index, layer in enumerate(model.mlp.layers):
                hidden = layer(hidden.relu() if index else hidden)
            logits.append(hidden)
    return torch.stack(logits).view(len(batch), -1), triplets


@pytest.mark.parametrize("n_layers", [1, 2])
def test_scores_and_losses_equal_a_second_computation(make_sesrec, n_layers):
    model, dataset, batch = make_sesrec(n_layers=n_layers, triplet_margin=0.8)
    candidates = model.training_candidates(batch)
    # Rows of all kinds: without searches, with one, with several.
    assert (batch["search_length"] == 0).any() and (batch["search_length"] == 1).any() and candidates.shape == (40, 5)
    with torch.no_grad():
        logits, triplets = reference(model, dataset, batch, candidates)
        assert logits.std(1).median() > 0.2
        torch.testing.assert_close(model.score_candidates(batch, candidates), logits, rtol=1e-4, atol=1e-4)
        torch.manual_seed(3)
        losses = model.calculate_loss(batch)
        assert model.loss_names == ("rec", "align", "triplet")
        cross_entropy = np.mean(np.logaddexp(0, logits.double().numpy()) - np.eye(1, 5) * logits.numpy())
        assert losses[0].item() == pytest.approx(cross_entropy, rel=1e-4)
        torch.manual_seed(3)
        negatives = model.alignment.draw(torch.device("cpu"))
        pairs = [pair for row in range(len(batch)) for pair in pairs_of(batch, row)]
        expected = plain_alignment(
            model.alignment,
            pairs,
            negatives,
            lambda query: query_vector(model, dataset, query),
            lambda item: item_vector(model, item),
        )
        assert losses[1].item() == pytest.approx(0.1 * expected, rel=1e-4)
        expected = sum(torch.stack(triplets[side]).mean().item() for side in SIDES)
        assert losses[2].item() == pytest.approx(0.001 * expected, rel=1e-4)


def gradients(model, batch):
    model.zero_grad()
    sum(model.calculate_loss(batch)).backward()
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and (parameter.grad != 0).any()
    }


def test_the_triplet_loss_alone_trains_the_co_attention(make_sesrec):
    names = {name for name, _ in make_sesrec()[0].named_parameters()}
    alignment = {name for name in names if name.startswith("alignment.")}
    model, _, batch = make_sesrec(triplet_margin=0.8)
    assert gradients(model, batch) == names
    model, _, batch = make_sesrec(lambda_triplet=0)
    assert gradients(model, batch) == names - CO_ATTENTION
    model, _, batch = make_sesrec(lambda_align=0, triplet_margin=0.8)
    assert gradients(model, batch) == names - alignment
    model, _, batch = make_sesrec(lambda_align=0, lambda_triplet=0)
    assert model.calculate_loss(batch) and model.loss_names == ("rec",)
    assert gradients(model, batch) == names - alignment - CO_ATTENTION


def test_similar_and_dissimilar_events_are_all_events(make_sesrec):
    model, _, batch = make_sesrec(n=200)
    for part in model.encode(batch).sides.values():
        assert torch.equal(part.split.similar | part.split.dissimilar, part.mask)
        # More than one event and something to compare with: nearly always both kinds, and never an event of both.
        told_apart = (part.split.similar & part.split.dissimilar).sum(1) == 0
        assert told_apart.sum() > 50
        torch.testing.assert_close(part.weights.sum(1), part.mask.any(1).float())


@pytest.mark.parametrize("training", [True, False])
def test_rows_without_searches(make_sesrec, training):
    model, _, batch = make_sesrec(n=600)
    batch = batch[batch["search_length"] == 0]
    model.train(training)
    assert len(batch) > 5
    given = []
    hook = model.mlp.register_forward_pre_hook(lambda module, inputs: given.append(inputs[1]))
    losses = model.calculate_loss(batch)
    hook.remove()
    # Columns: three of recommendation, three of search, the candidate.
    assert (given[0][..., 24:48] == 0).all() and (given[0][..., :24] != 0).any() and (given[0][..., 48:] != 0).any()
    # Nothing to compare the interactions with: they are all of either kind.
    torch.testing.assert_close(given[0][..., :8], given[0][..., 8:16])
    torch.testing.assert_close(given[0][..., :8], given[0][..., 16:24])
    assert losses[1] == 0 and losses[2] == 0
    sum(losses).backward()
    assert all(torch.isfinite(loss) for loss in losses)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("training", [True, False])
def test_searches_alone_and_nothing_at_all(make_sesrec, training):
    model, _, batch = make_sesrec(n=20)
    model.train(training)
    batch.update(Interaction({"item_id_list": torch.zeros(20, 1, dtype=torch.long)}))
    for lengths in (batch["search_length"], torch.zeros(20, dtype=torch.long)):
        batch.update(Interaction({"search_length": lengths}))
        model.zero_grad()
        loss = sum(model.calculate_loss(batch))
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(model.predict(batch)).all()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_with_even_weights_it_is_two_target_attentions(make_sesrec):
    model, dataset, batch = make_sesrec(n=20, lambda_align=0, lambda_triplet=0, n_layers=0)
    nn.init.zeros_(model.co_attention.weight)
    first, *others = model.mlp.layers
    # All three readings of a history are one: their weights add up.
    user, recommendation, search, item = first.weight.split([8, 24, 24, 8], dim=1)
    recommendation, search = (part.unflatten(1, (3, 8)).sum(1) for part in (recommendation, search))
    scores = model.predict(batch)
    for row in range(20):
        target = item_vector(model, int(batch["item_id"][row]))
        hidden = user @ model.user_embedding.weight[batch["user_id"][row]] + item @ target + first.bias
        events = events_of(model, dataset, batch, row)
        for side, weight in (("recommendation", recommendation), ("search", search)):
            if events[side]:
                states = torch.stack(events[side]) + model.encoder[side].positions.weight[: len(events[side])]
                hidden = hidden + weight @ ((states @ model.attention[side].weight @ target).softmax(0) @ states)
        for layer in others:
            hidden = layer(hidden.relu())
        torch.testing.assert_close(scores[row], hidden[0], rtol=1e-4, atol=1e-5)


def test_training_lowers_the_loss(make_model):
    from recbole_gserec.plugin.trainer import SearchTrainer

    model, config, _, loaders = make_model("SESRec", learning_rate=0.01)
    trainer, batch = SearchTrainer(config, model), next(iter(loaders[0]))[:200]
    before = [loss.item() for loss in model.eval().calculate_loss(batch)]
    for _ in range(50):
        trainer.optimizer.zero_grad()
        sum(model.calculate_loss(batch)).backward()
        trainer.optimizer.step()
    after = [loss.item() for loss in model.calculate_loss(batch)]
    assert after[0] < 0.6 * before[0] and after[1] < 0.9 * before[1]


def test_mixed_precision(make_sesrec):
    model, _, batch = make_sesrec()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sum(model.train().calculate_loss(batch))
    loss.backward()
    assert torch.isfinite(loss)


def test_heads_must_divide_the_size(make_sesrec):
    with pytest.raises(SettingError, match="embedding_size 10 is not a multiple of n_heads 4"):
        make_sesrec(embedding_size=10)


def test_searches_must_be_loaded(make_sesrec):
    with pytest.raises(SettingError, match="SESRec also reads 'query'$"):
        make_sesrec(additional_feat_suffix=["search"])
    with pytest.raises(SettingError, match="SESRec also reads 'search' and 'query'$"):
        make_sesrec(additional_feat_suffix=[])


def with_other_last_bits(softmax, seed):
    """The same softmax as another machine, or another place in a batch, might round it."""
    generator = torch.Generator().manual_seed(seed)

    def rounded(logits, mask):
        weights = softmax(logits, mask)
        up = torch.rand(weights.shape, generator=generator) < 0.5
        return torch.nextafter(weights, torch.where(up, torch.inf, -torch.inf)).where(mask, 0.0)

    return rounded


@pytest.mark.parametrize("tolerance", [attention.TOLERANCE, 0.0])
def test_rounding_does_not_split_events_that_weigh_the_same(make_sesrec, monkeypatch, tolerance):
    """Events weigh the same without another history, and where the tanh is saturated: then scores must not jump."""
    monkeypatch.setattr(attention, "TOLERANCE", tolerance)
    model, _, batch = make_sesrec(n=1000)
    with torch.no_grad():
        model.co_attention.weight.mul_(1e4)
        part = model.encode(batch).sides["recommendation"]
        n = part.mask.sum(1, keepdim=True)
        is_even = ((part.weights * n - 1).abs() < 1e-4).where(part.mask, True).all(1) & (n > 1).squeeze(1)
        batch = batch[is_even]
        assert len(batch) > 10 and len(set(batch["search_length"].tolist())) > 1
        expected = model.full_sort_predict(batch)
        moves = []
        for seed in range(5):
            with monkeypatch.context() as patch:
                patch.setattr(attention, "masked_softmax", with_other_last_bits(attention.masked_softmax, seed))
                moves.append((model.full_sort_predict(batch) - expected).abs().max().item())
    assert max(moves) < 1e-5 if tolerance else min(moves) > 0.01
