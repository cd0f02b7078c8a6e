"""UniSAR against a second computation from its weights, and what must or must not influence what.

Breakages tried, each caught here: attention to the own kind in place of the other; merged states not brought back to
their histories; r2r as memory in place of s2r; memory of rows without the other history; every fusion layer fed with
the first's input; the learnt query for search rows; search rows' own clicks among those to align; the other
task's MLP; one target attention for both histories; gates in reverse order; rows of one user as
negatives; rows with one history in the contrast; items without projection.
"""

import math

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_gserec.data.search_rows import JointInteraction, SearchRows
from recbole_gserec.errors import SettingError
from recbole_gserec.models.unisar import SIDES
from tests.plain_alignment import pairs_of, plain_alignment

pytestmark = pytest.mark.usefixtures("random_dataset")

SMALL = {
    "embedding_size": 8,
    "inner_size": 12,
    "mlp_hidden_size": [14, 10],
    "tower_hidden_size": [16, 12],
    "expert_size": 5,
    "n_shared_experts": 3,
    "n_specific_experts": 2,
    "n_align_negatives": 7,
}


@pytest.fixture
def make_unisar(make_model):
    """A model whose biases and norms are not those of the start, its training data, and batches of both tasks."""

    def make(n=40, n_searches=30, **settings):
        model, _, _, loaders = make_model("UniSAR", **{**SMALL, **settings})
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            # Large enough for something to come through all layers, and norms that do not make all events alike.
            is_scale = "norm" in name and name.endswith("weight")
            std = 0.6 if name.startswith(("ple.", "mlp.")) else 0.4
            nn.init.normal_(parameter, mean=float(is_scale), std=std, generator=generator)
            if name.endswith("log_tau"):
                nn.init.constant_(parameter, -1.0)
        for table in (model.item_embedding, model.user_embedding, model.query_embedding.embedding):
            nn.init.zeros_(table.weight[0])
        dataset = loaders[0]._dataset
        rows = SearchRows.of_training(dataset.events)
        search = rows.take(np.random.default_rng(0).choice(len(rows), n_searches, replace=False)).batch(dataset)
        search.update(Interaction({"neg_item_id": torch.randint(1, model.n_items, (n_searches, 4))}))
        return model.eval(), dataset, next(iter(loaders[0]))[:n], search

    return make


class Plain:
    """The model's formulas, one row and one candidate at a time, for one batch of one task."""

    def __init__(self, model, dataset, batch, task):
        self.model, self.dataset, self.batch, self.task = model, dataset, batch, task
        self.transitions = [self.transitions_of(self.events_of(row)) for row in range(len(batch))]

    def projected(self, name, vector):
        if name not in self.model.projection:
            return vector
        layer = self.model.projection[name]
        return torch.tanh(layer.weight @ vector + layer.bias)

    def item(self, item):
        return self.projected("item", self.model.item_embedding.weight[item])

    def query(self, query):
        start, end = self.dataset.query_words.offsets[query : query + 2].tolist()
        words = self.dataset.query_words.values[start:end].long()
        table = self.model.query_embedding.embedding.weight
        return self.projected("query", table[words].mean(0) if len(words) else torch.zeros(table.shape[1]))

    def events_of(self, row):
        """(place in time, embedded event) of both histories."""
        batch, searches = self.batch, []
        for place in range(int(batch["search_length"][row])):
            event = self.query(int(batch["search_query_id_list"][row, place]))
            clicks = [item for item in batch["search_item_ids_list"][row, place].tolist() if item]
            if clicks:
                event = event + sum(map(self.item, clicks)) / len(clicks)
            searches.append((int(batch["search_place_list"][row, place]), event))
        places = batch["item_place_list"][row].tolist()
        items = [(p, self.item(i)) for p, i in zip(places, batch["item_id_list"][row].tolist(), strict=True) if i]
        return {"recommendation": items, "search": searches}

    def transitions_of(self, events):
        """For each side r2r (s2s), s2r (r2s) and F; None where the side has no events."""
        model = self.model
        merged = sorted((place, side, event) for side in SIDES for place, event in events[side])
        result = {side: None for side in SIDES}
        if not merged:
            return result
        across = torch.stack([event for *_, event in merged]) + model.merged_encoder.positions.weight[: len(merged)]
        kinds = [side for _, side, _ in merged]
        blocked = torch.tensor([[first == second for second in kinds] for first in kinds])
        for layer in model.merged_encoder.layers:
            across = without_attention(layer, across) if blocked.all() else as_torch(layer)(across[None], blocked)[0]
        for side in SIDES:
            if not events[side]:
                continue
            encoder, own = model.encoder[side], torch.tensor([kind == side for kind in kinds])
            within = torch.stack([event for _, event in events[side]]) + encoder.positions.weight[: len(events[side])]
            for layer in encoder.layers:
                within = as_torch(layer)(within[None])[0]
            fused = within
            for layer in model.fusion[side]:
                if blocked.all():
                    fused = as_torch(without_memory(layer))(fused[None])[0]
                else:
                    fused = as_torch(layer)(fused[None], across[own][None])[0]
            result[side] = (within, across[own], fused)
        return result

    def logits(self, candidates):
        model, found = self.model, []
        for row, candidate in ((r, c) for r, line in enumerate(candidates.tolist()) for c in line):
            target, pooled = self.item(candidate), []
            for side in SIDES:
                pooled.append(torch.zeros_like(target))
                if self.transitions[row][side]:
                    fused = self.transitions[row][side][2]
                    pooled[-1] = (fused @ model.attention[side].weight @ target).softmax(0) @ fused
            user = self.projected("user", model.user_embedding.weight[self.batch["user_id"][row]])
            query = (
                model.recommendation_query if self.task == "recommendation" else self.query(self.batch["query_id"][row])
            )
            z = torch.cat([user, query, *pooled, target])
            gate = model.ple.gates[self.task](z).softmax(0)
            experts = torch.cat([model.ple.shared_experts(z), model.ple.experts[self.task](z)]).relu().split(5)
            hidden = sum(weight * expert for weight, expert in zip(gate, experts, strict=True))
            for layer in model.ple.towers[self.task]:
                hidden = layer(hidden).relu()
            for index, layer in enumerate(model.mlp[self.task].layers):
                hidden = layer(hidden.relu() if index else hidden)
            found.append(hidden)
        return torch.stack(found).view(len(candidates), -1)

    def cross_entropy(self, candidates):
        logits = self.logits(candidates).numpy().astype(float)
        return np.mean(np.logaddexp(0, logits) - np.eye(1, candidates.shape[1]) * logits)

    def alignment(self, negatives):
        pairs = [pair for row in range(len(self.batch)) for pair in pairs_of(self.batch, row)]
        return plain_alignment(self.model.alignment, pairs, negatives, self.query, self.item)

    def contrast(self, dedup=True):
        total = 0.0
        rows = [row for row, parts in enumerate(self.transitions) if all(parts.values())]
        users = self.batch["user_id"][rows].tolist() * 2
        for side in SIDES:
            views = [self.transitions[row][side][part].mean(0) for part in (1, 0) for row in rows]
            tau, weight = self.model.history_temperature[side]().item(), self.model.history_similarity[side].weight
            n, loss = len(rows), 0.0
            for i in range(2 * n):
                partner = (i + n) % (2 * n)
                terms = {
                    j: math.exp(math.tanh(views[i] @ weight @ views[j]) / tau)
                    for j in range(2 * n)
                    if j == partner or (users[j] != users[i] if dedup else j != i)
                }
                loss -= math.log(terms[partner] / sum(terms.values()))
            total += loss / (2 * n)
        return total


def as_torch(layer):
    """The same weights in torch's own layer."""
    base = nn.TransformerDecoderLayer if hasattr(layer, "multihead_attn") else nn.TransformerEncoderLayer
    shape = (layer.linear2.out_features, layer.self_attn.num_heads, layer.linear1.out_features, 0)
    copy = base(*shape, batch_first=True)
    copy.load_state_dict(layer.state_dict())
    return copy.eval()


def without_attention(layer, states):
    """An encoder layer whose attention gives 0."""
    states = layer.norm1(states)
    return layer.norm2(states + layer.linear2(layer.linear1(states).relu()))


def without_memory(layer):
    """The decoder layer as an encoder layer: self-attention and feed-forward part."""
    shape = (layer.linear2.out_features, layer.self_attn.num_heads, layer.linear1.out_features, 0)
    copy = nn.TransformerEncoderLayer(*shape, batch_first=True)
    for mine, theirs in (
        ("norm1", "norm1"),
        ("norm2", "norm3"),
        *((n, n) for n in ("self_attn", "linear1", "linear2")),
    ):
        getattr(copy, mine).load_state_dict(getattr(layer, theirs).state_dict())
    return copy.eval()


@pytest.mark.parametrize("settings", [{}, {"n_layers": 2}, {"unisar_tanh": True}, {"cl_dedup": False}])
def test_scores_and_losses_equal_a_second_computation(make_unisar, settings):
    model, dataset, batch, search = make_unisar(lambda_src=0.3, **settings)
    for rows in (batch, search):
        # Rows of all kinds: without searches and with several.
        assert (rows["search_length"] == 0).any() and (rows["search_length"] > 2).any()
    with torch.no_grad():
        torch.manual_seed(3)
        terms = model.calculate_loss(JointInteraction(batch.interaction, search))
        losses = dict(zip(model.loss_names, terms, strict=True))
        torch.manual_seed(3)
        negatives = [model.alignment.draw(torch.device("cpu")) for _ in range(2)]
        expected = {}
        for task, rows, drawn, name, weight in (
            ("recommendation", batch, negatives[0], "{}", 1.0),
            ("search", search, negatives[1], "src_{}", 0.3),
        ):
            plain, candidates = Plain(model, dataset, rows, task), model.training_candidates(rows)
            scores = model.score(model.encode(rows, task), candidates)
            # Not the same everywhere, as where no ReLU lets anything through.
            assert scores.std(1).median() > 0.2
            torch.testing.assert_close(scores, plain.logits(candidates), rtol=1e-4, atol=1e-4)
            click = "rec" if task == "recommendation" else "src_click"
            expected[click] = weight * plain.cross_entropy(candidates)
            expected[name.format("align")] = weight * 0.1 * plain.alignment(drawn)
            expected[name.format("his")] = weight * 0.01 * plain.contrast(model.cl_dedup)
        assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)


def gradients(model, batch, search):
    """Names of the parameters that learn something."""
    model.zero_grad()
    sum(model.calculate_loss(JointInteraction(batch.interaction, search))).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    return {name for name, p in model.named_parameters() if p.grad is not None and (p.grad != 0).any()}


def parts(names, *wanted):
    return {name for name in names if any(part in name for part in wanted)}


def test_each_loss_trains_its_own_parts(make_unisar):
    model, _, *batches = make_unisar(n=200, n_searches=100)
    names = {name for name, _ in model.named_parameters()}
    assert gradients(model, *batches) == names
    of_search = parts(names, "ple.experts.search", "ple.gates.search", "ple.towers.search", "mlp.search")
    assert len(of_search) == 2 + 2 + 4 + 6
    model, _, *batches = make_unisar(n=200, n_searches=100, lambda_src=0)
    assert gradients(model, *batches) == names - of_search and model.loss_names == ("rec", "align", "his")
    model, _, *batches = make_unisar(n=200, n_searches=100, lambda_align=0)
    assert gradients(model, *batches) == names - parts(names, "alignment")
    model, _, *batches = make_unisar(n=200, n_searches=100, lambda_his=0)
    assert gradients(model, *batches) == names - parts(names, "history_similarity", "history_temperature")


def test_without_the_other_losses_it_is_cross_entropy(make_unisar):
    model, _, batch, search = make_unisar(lambda_src=0, lambda_align=0, lambda_his=0)
    (loss,) = model.calculate_loss(JointInteraction(batch.interaction, search))
    logits = model.score_candidates(batch, model.training_candidates(batch)).double()
    positive, negative = logits[:, 0].sigmoid().log().sum(), (1 - logits[:, 1:].sigmoid()).log().sum()
    assert loss.item() == pytest.approx(-(positive + negative).item() / logits.numel(), rel=1e-5)


def across(model, batch):
    """s2r and r2s, ``[B, N, d]``."""
    state = model.encode(batch)
    return [state.packing[side].unpack(state.across[side]) for side in SIDES]


def test_transitions_across_see_the_other_kind_and_themselves(make_unisar):
    model, _, batch, _ = make_unisar(n=200)
    batch = batch[(batch["search_length"] > 1) & (batch["item_length"] > 2)][:10]
    before = across(model, batch)
    items = batch["item_id_list"].clone()
    items[:, 1] = items[:, 1] % (model.n_items - 1) + 1
    after = across(model, Interaction({**batch.interaction, "item_id_list": items}))
    real = items > 0, torch.arange(before[1].shape[1]) < batch["search_length"].unsqueeze(1)
    changed = [(first != second).any(-1) & mask for first, second, mask in zip(before, after, real, strict=True)]
    assert changed[0][:, 1].all() and changed[0].sum() == 10
    assert torch.equal(changed[1], real[1])


@pytest.mark.parametrize("training", [True, False])
def test_rows_without_searches(make_unisar, training):
    model, _, batch, search = make_unisar(n=600, n_searches=60)
    batch, search = batch[batch["search_length"] == 0], search[search["search_length"] == 0]
    assert len(batch) > 5 and len(search) > 3
    state = model.encode(batch)
    items = model.item_embedding(batch["item_id"].unsqueeze(1))
    pooled = model.attention["search"](state.fused["search"], state.packing["search"].mask, items)
    assert (pooled == 0).all() and model.history_contrastive_loss(batch["user_id"], state) == 0
    # s2r is a function of the position's own item.
    events = (
        model.item_embedding(batch["item_id_list"])
        + model.merged_encoder.positions.weight[: batch["item_id_list"].shape[1]]
    )
    expected = without_attention(model.merged_encoder.layers[0], events)
    mask = state.packing["recommendation"].mask
    torch.testing.assert_close(
        state.packing["recommendation"].unpack(state.across["recommendation"])[mask], expected[mask]
    )
    # Nothing comes from the other side: what the cross-attention would do does not matter.
    for parameter in (
        *model.fusion["recommendation"][0].multihead_attn.parameters(),
        *model.merged_encoder.parameters(),
    ):
        nn.init.normal_(parameter)
    torch.testing.assert_close(model.encode(batch).fused["recommendation"][mask], state.fused["recommendation"][mask])
    gradients(model.train(training), batch, search)
    assert torch.isfinite(model.predict(batch)).all()


@pytest.mark.parametrize("training", [True, False])
def test_searches_alone_nothing_at_all_and_one_row(make_unisar, training):
    model, _, batch, search = make_unisar(n=20, n_searches=20)
    model.train(training)
    gradients(model, batch[:1], search[:1])
    nothing = {"item_id_list": torch.zeros(20, 1, dtype=torch.long)}
    nothing["item_place_list"] = torch.full((20, 1), torch.iinfo(torch.long).max)
    for rows in (batch, search):
        rows.update(Interaction(nothing))
    gradients(model, batch, search)
    assert torch.isfinite(model.predict(batch)).all()
    for rows in (batch, search):
        rows.update(Interaction({"search_length": torch.zeros(20, dtype=torch.long)}))
    gradients(model, batch, search)
    assert torch.isfinite(model.predict(batch)).all()


def test_the_two_histories_are_treated_alike(make_unisar):
    model, _, batch, _ = make_unisar(n=200)
    batch = batch[(batch["search_length"] > 0) & (batch["item_length"] > 0)]
    # Searches for one item each, by a query without words: a search is what an interaction is.
    clicks = batch["search_item_ids_list"][..., :1].clone()
    clicks[clicks == 0] = 1
    real = torch.arange(clicks.shape[1]) < batch["search_length"].unsqueeze(1)
    clicks *= real.unsqueeze(-1)

    def rows(items, item_places, clicks, search_places):
        fields = {"item_id_list": items, "item_place_list": item_places, "item_length": (items > 0).sum(1)}
        fields |= {"search_query_id_list": torch.zeros_like(clicks), "search_item_ids_list": clicks.unsqueeze(-1)}
        fields |= {"search_place_list": search_places, "search_length": (clicks > 0).sum(1)}
        return Interaction({**batch.interaction, **fields})

    given = batch["item_id_list"], batch["item_place_list"], clicks.squeeze(-1), batch["search_place_list"]
    items = model.item_embedding(batch["item_id"].unsqueeze(1))

    def pooled(rows):
        state = model.encode(rows)
        return [model.attention[side](state.fused[side], state.packing[side].mask, items) for side in SIDES]

    plain = pooled(rows(*given))
    names = {"recommendation": "search", "search": "recommendation"}
    swap = lambda name: ".".join(names.get(part, part) for part in name.split("."))  # noqa: E731
    swapped = ("encoder", "fusion", "attention")
    state = {n: v.clone() for n, v in model.state_dict().items()}
    model.load_state_dict({swap(n) if n.startswith(swapped) else n: v for n, v in state.items()})
    other = pooled(rows(*given[2:], *given[:2]))
    torch.testing.assert_close(plain, other[::-1])
    assert not torch.allclose(plain[0], other[0])


def test_the_query_of_a_search_row_decides(make_unisar):
    model, _, _, search = make_unisar()
    candidates = model.training_candidates(search)
    scores = model.score(model.encode(search, "search"), candidates)
    others = search["query_id"] % 5 + 1
    again = model.score(model.encode(Interaction({**search.interaction, "query_id": others}), "search"), candidates)
    assert ((scores != again).any(1) == (others != search["query_id"])).all()
    # Recommendation rows have a query of their own, which is learnt.
    torch.testing.assert_close(model.encode(search).user[:, 8:], model.recommendation_query.expand(len(search), -1))


def test_training_lowers_the_losses(make_model, make_unisar):
    from recbole_gserec.plugin.trainer import SearchTrainer

    model, config, _, loaders = make_model("UniSAR", learning_rate=0.01, lambda_src=1.0)
    trainer, batch, search = SearchTrainer(config, model), next(iter(loaders[0]))[:200], make_unisar(n_searches=60)[3]
    batch = JointInteraction(batch.interaction, search)
    before = [loss.item() for loss in model.eval().calculate_loss(batch)]
    for _ in range(50):
        trainer.optimizer.zero_grad()
        sum(model.calculate_loss(batch)).backward()
        trainer.optimizer.step()
    after = [loss.item() for loss in model.calculate_loss(batch)]
    assert after[0] < 0.7 * before[0] and after[3] < 0.7 * before[3]


def test_mixed_precision(make_unisar):
    model, _, batch, search = make_unisar()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sum(model.train().calculate_loss(JointInteraction(batch.interaction, search)))
    loss.backward()
    assert torch.isfinite(loss)


def test_heads_must_divide_the_size(make_unisar):
    with pytest.raises(SettingError, match="embedding_size 7 is not a multiple of n_heads 2"):
        make_unisar(embedding_size=7)
