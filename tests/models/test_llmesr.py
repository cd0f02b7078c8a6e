"""LLM-ESR against a second computation from its weights, and what must or must not influence what.

Breakages tried, each caught here: a user among its own similar users; the states of similar users with a gradient; the
bias of the adapter given to items without a text; states of similar users after their held-out interactions; the next
item of another place taken for a place's target.
"""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_gserec.errors import SettingError
from recbole_gserec.models.llmesr import principal_components

pytestmark = pytest.mark.usefixtures("random_dataset")

SMALL = {"embedding_size": 8, "encoder_dim": 12, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "n_sim": 3}


@pytest.fixture
def make_llmesr(make_model):
    """A model whose weights are not those of the start, its training dataset, and a batch."""

    def make(n=60, **settings):
        model, _, _, loaders = make_model("LLMESR", **{**SMALL, **settings})
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
        nn.init.zeros_(model.item_embedding.weight[0])
        return model.eval(), loaders[0]._dataset, next(iter(loaders[0]))[:n]

    return make


def changed(batch, **fields):
    return Interaction({**batch.interaction, **fields})


def views(model, dataset, items):
    """The two views of items ``[n]``, the adapter's layers one after the other."""
    vectors = dataset.text_vectors["item"][items]
    first, second = model.adapter
    semantic = second(first(vectors))
    semantic[~vectors.any(1)] = 0
    return model.item_embedding.weight[items], semantic


def torchs(attention, size):
    other = nn.MultiheadAttention(size, attention.num_heads, batch_first=True)
    other.load_state_dict(attention.state_dict())
    return other.eval()


def states(model, dataset, items):
    """States after each of a history's items ``[n]``, ``[n, 2d]``, by torch's own attention."""
    encoder, n, size = model.encoder, len(items), model.item_embedding.embedding_dim
    later = torch.ones(n, n, dtype=torch.bool).triu(1)

    def attended(attention, queries, keys):
        return torchs(attention, size)(queries[None], keys[None], keys[None], attn_mask=later)[0][0]

    a, b = (size**0.5 * view + encoder.positions.weight[:n] for view in views(model, dataset, items))
    halves = []
    for x in (attended(encoder.to_collaborative, b, a), attended(encoder.to_semantic, a, b)):
        for block in encoder.backbone.blocks:
            normed = block.norm1(x)
            x = block.norm2(normed + attended(block.attention, normed, x))
            x = x + block.linear2(torch.relu(block.linear1(x)))
        halves.append(encoder.backbone.norm(x))
    return torch.cat(halves, dim=-1)


def history(batch, row):
    return batch["item_id_list"][row][: int(batch["item_length"][row])]


def plain_bce(logits):
    """Of logits whose first column is the positive."""
    chance = 1 / (1 + np.exp(-logits.detach().numpy()))
    return -np.mean(np.concatenate([np.log(chance[:, :1]), np.log(1 - chance[:, 1:])], axis=1))


def training_items(dataset, user, n):
    """The last items of a user's training part."""
    events = dataset.events
    start, end = int(events.item_offsets[user]), int(events.train_ends[user])
    return events.items[max(start, end - n) : end].long()


def similar_users(dataset, user, n):
    """A user's neighbours by cosine, those with a training part alone."""
    vectors = dataset.text_vectors["user"]
    known = [
        other
        for other in range(1, len(vectors))
        if vectors[other].any() and len(training_items(dataset, other, 1)) and other != user
    ]
    cosines = torch.cosine_similarity(vectors[user], vectors[known])
    return [known[index] for index in cosines.argsort(descending=True, stable=True)[:n].tolist()]


@torch.no_grad()
def test_scores_and_losses_equal_a_second_computation(make_llmesr):
    model, dataset, batch = make_llmesr(MAX_ITEM_LIST_LENGTH=6, n=40)
    candidates = model.training_candidates(batch)
    logits, targets, last = [], [], []
    for row in range(len(batch)):
        last.append(states(model, dataset, history(batch, row))[-1])
        logits.append(torch.cat(views(model, dataset, candidates[row]), dim=-1) @ last[-1])
        near = model.similar_users[batch["user_id"][row]].tolist()
        assert len(near) == 3 and 0 not in near and int(batch["user_id"][row]) not in near
        of_near = [states(model, dataset, training_items(dataset, other, 6))[-1] for other in near]
        targets.append(torch.stack(of_near).mean(0))
    logits, targets, last = (torch.stack(part) for part in (logits, targets, last))
    torch.testing.assert_close(model.score_candidates(batch, candidates), logits, rtol=1e-4, atol=1e-4)
    rec, distil = model.calculate_loss(batch)
    assert model.loss_names == ("rec", "distil")
    assert rec.item() == pytest.approx(plain_bce(logits), rel=1e-4)
    assert distil.item() == pytest.approx(0.1 * ((last - targets) ** 2).mean().item(), rel=1e-4)
    # The same in training, since there is no dropout here, without what is kept in evaluation.
    torch.testing.assert_close(model.train().calculate_loss(batch)[0], rec, rtol=1e-4, atol=1e-5)


def test_similar_users_are_nearest_by_their_summaries(make_llmesr):
    model, dataset, _ = make_llmesr(encoder_dim=128)
    vectors = torch.nn.functional.normalize(dataset.text_vectors["user"], dim=1)
    searcher = dataset.token2id("user_id", "searcher")
    for user in range(1, dataset.user_num):
        found = model.similar_users[user].tolist()
        if user == searcher:
            assert found == [0, 0, 0]
            continue
        expected = similar_users(dataset, user, 3)
        # Equal similarities come in any order.
        torch.testing.assert_close(vectors[found] @ vectors[user], vectors[expected] @ vectors[user])
        assert user not in found and searcher not in found and len(set(found)) == 3


def test_a_user_without_training_interactions_teaches_nobody(make_llmesr):
    model, dataset, _ = make_llmesr()
    searcher = dataset.token2id("user_id", "searcher")
    dataset.text_vectors["user"][searcher] = dataset.text_vectors["user"][1]
    model._find_teachers(dataset, {"MAX_ITEM_LIST_LENGTH": 20, "n_sim": 60, "device": "cpu"})
    assert not model.similar_users[searcher].any() and not (model.similar_users == searcher).any()
    assert (model.similar_users[1] > 0).sum() == 39


def test_histories_of_similar_users_end_before_validation(make_llmesr):
    model, dataset, _ = make_llmesr(MAX_ITEM_LIST_LENGTH=50)
    for user in range(1, dataset.user_num):
        start, end = dataset.events.item_offsets[user : user + 2].tolist()
        expected = dataset.events.items[start : max(start, end - 2)].tolist()
        assert [item for item in model.training_histories[user].tolist() if item] == expected


@torch.no_grad()
def test_with_fewer_similar_users_than_asked_for_the_mean_is_over_those(make_llmesr):
    model, _, batch = make_llmesr(n_sim=60)
    assert ((model.similar_users[batch["user_id"]] > 0).sum(1) == 39).all()
    expected = model.calculate_loss(batch)[1]
    model.similar_users = model.similar_users[:, :39]
    torch.testing.assert_close(model.calculate_loss(batch)[1], expected)


@torch.no_grad()
def test_every_place_is_trained_on_where_asked_for(make_llmesr):
    model, dataset, batch = make_llmesr(train_positions="all", n=30)
    candidates, logits = model.training_candidates(batch), []
    for row in range(len(batch)):
        items = history(batch, row)
        following = [*items[1:].tolist(), int(candidates[row, 0])]
        for state, item in zip(states(model, dataset, items), following, strict=True):
            pairs = torch.tensor([item, *candidates[row, 1:].tolist()])
            logits.append(torch.cat(views(model, dataset, pairs), dim=-1) @ state)
    rec, distil = model.calculate_loss(batch)
    assert rec.item() == pytest.approx(plain_bce(torch.stack(logits)), rel=1e-4)
    model.train_positions = "last"
    torch.testing.assert_close(model.calculate_loss(batch)[1], distil)


def test_a_state_knows_nothing_of_later_items(make_llmesr):
    model, _, batch = make_llmesr(train_positions="all")
    batch = batch[batch["item_length"] > 5]
    items = batch["item_id_list"].clone()
    items[:, 3] = items[:, 3] % 100 + 1
    found, expected = model._states(items), model._states(batch["item_id_list"])
    torch.testing.assert_close(found[:, :3], expected[:, :3])
    assert ((found - expected)[:, 3].abs().amax(-1) > 1e-4).all()


def test_without_weight_similar_users_do_not_matter(make_llmesr):
    model, _, batch = make_llmesr(alpha=0.0)
    assert not hasattr(model, "similar_users")
    (loss,) = model.train().calculate_loss(batch)
    assert model.loss_names == ("rec",)
    model, _, batch = make_llmesr()
    before, distil = model.train().calculate_loss(batch)
    torch.testing.assert_close(before, loss)
    model.similar_users = model.similar_users.roll(1, 0)
    after, other = model.calculate_loss(batch)
    assert torch.equal(after, before) and not torch.equal(other, distil)
    assert make_llmesr(n_sim=0)[0].teaches is False


def test_similar_users_teach_and_learn_nothing(make_llmesr):
    model, _, batch = make_llmesr(n=5)
    model.train()
    similar = model.similar_users[batch["user_id"]].unique()
    taught = set(model.training_histories[similar.long()].flatten().tolist())
    own = set(torch.cat([batch["item_id_list"], model.training_candidates(batch)], dim=1).flatten().tolist())
    only_taught = sorted(taught - own - {0})
    assert len(only_taught) > 5
    rec, distil = model.calculate_loss(batch)
    (rec + distil).backward()
    gradient = model.item_embedding.weight.grad
    assert not gradient[only_taught].any() and gradient[sorted(own - {0})].any(1).all()
    # What they say does count.
    with torch.no_grad():
        model.item_embedding.weight[only_taught] += 1
    assert not torch.equal(model.calculate_loss(batch)[1], distil)


def test_similar_users_are_encoded_without_dropout_and_the_rest_with_it(make_llmesr):
    model, _, batch = make_llmesr(hidden_dropout_prob=0.5, attn_dropout_prob=0.5)
    model.train()
    users = model.similar_users[batch["user_id"]].unique().long()
    assert torch.equal(model._states_of_teachers(users), model._states_of_teachers(users))
    assert all(module.training for module in model.modules())
    assert not torch.equal(model.encode(batch), model.encode(batch))
    model.eval()
    model._states_of_teachers(users)
    assert not any(module.training for module in model.modules())


def test_each_similar_user_is_encoded_once(make_llmesr, monkeypatch):
    model, _, batch = make_llmesr(n=200)
    asked, encode = [], model._states_of_teachers
    monkeypatch.setattr(model, "_states_of_teachers", lambda users: asked.append(users) or encode(users))
    model.train().calculate_loss(batch)
    (users,) = asked
    assert len(users) == len(users.unique()) <= 41 < len(batch)


def test_rows_without_teachers_or_history_take_no_part(make_llmesr):
    model, dataset, batch = make_llmesr(n=20)
    expected = model.calculate_loss(batch)[1]
    searcher = dataset.token2id("user_id", "searcher")
    users = torch.cat([batch["user_id"], torch.full((20,), searcher)])
    both = Interaction({name: torch.cat([values, values]) for name, values in batch.interaction.items()})
    torch.testing.assert_close(model.calculate_loss(changed(both, user_id=users))[1], expected)
    items = both["item_id_list"].clone()
    items[20:] = 0
    torch.testing.assert_close(model.calculate_loss(changed(both, item_id_list=items))[1], expected)
    for case in (changed(both, user_id=users)[20:], changed(both, item_id_list=items)[20:]):
        for positions in ("last", "all"):
            model.zero_grad()
            model.train_positions = positions
            terms = model.train().calculate_loss(case)
            sum(terms).backward()
            assert terms[1] == 0
            assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_texts_stay_as_they_are(make_llmesr):
    model, dataset, batch = make_llmesr()
    before = dataset.text_vectors["item"].clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sum(model.train().calculate_loss(batch)).backward()
    optimizer.step()
    assert not model.item_vectors.requires_grad and torch.equal(model.item_vectors, before)
    assert all(layer.weight.grad.any() and layer.bias.grad.any() for layer in model.adapter)
    assert not any("vectors" in name or "similar" in name for name in model.state_dict())


def test_a_missing_text_has_no_semantic_view(make_llmesr):
    model, dataset, _ = make_llmesr()
    without = (~dataset.text_vectors["item"].any(1)).nonzero().squeeze(1)
    assert len(without) > 5 and 0 in without
    assert not model.semantic(without).any()
    with torch.no_grad():
        assert not model.semantic(without).any()
        model.semantic(torch.arange(3))
    others = dataset.text_vectors["item"].any(1).nonzero().squeeze(1)
    assert model.semantic(others).any(1).all()


def test_equal_views_give_equal_states(make_llmesr):
    model, _, batch = make_llmesr()
    model.encoder.to_semantic.load_state_dict(model.encoder.to_collaborative.state_dict())
    model.semantic = lambda items: model.item_embedding(items)
    one, other = model.encode(batch).chunk(2, dim=-1)
    assert torch.equal(one, other) and one.any()


@pytest.mark.parametrize(("training", "gradients"), [(True, False), (False, True), (False, False)])
def test_something_is_kept_in_evaluation_alone(make_llmesr, training, gradients):
    model, _, batch = make_llmesr()
    with torch.set_grad_enabled(gradients):
        model.train(training).predict(batch)
    assert (not model._kept) == (training or gradients)


def test_what_is_kept_is_forgotten_when_weights_change(make_llmesr, monkeypatch):
    model, _, batch = make_llmesr()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        before = model.full_sort_predict(batch)
        model.train()
        for parameter in model.adapter.parameters():
            parameter.mul_(2)
        assert (model.eval().full_sort_predict(batch) - before).abs().max() > 1e-3
        model.load_state_dict(weights)
        assert torch.equal(model.full_sort_predict(batch), before)
        monkeypatch.setattr("recbole_gserec.models.llmesr.ITEMS_AT_ONCE", 7)
        torch.testing.assert_close(model.train().eval().full_sort_predict(batch), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "uses_texts"), [(8, True), (16, False)])
def test_items_start_from_their_texts(make_model, size, uses_texts):
    settings = {**SMALL, "embedding_size": size}
    model, _, _, loaders = make_model("LLMESR", **settings)
    vectors = loaders[0]._dataset.text_vectors["item"]
    has_text, table = vectors.any(1), model.item_embedding.weight.detach()
    assert not table[0].any() and table[1:].any(1).all()
    assert model.item_embedding.weight.requires_grad
    random = make_model("LLMESR", **settings, pca_init=False)[0].item_embedding.weight.detach()
    assert torch.equal(table[~has_text], random[~has_text])
    if not uses_texts:
        assert torch.equal(table, random)
        return
    centred = vectors[has_text].double() - vectors[has_text].double().mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    expected = left[:, :size] * values[:size]
    # Directions are known up to their sign, and equal ones up to a turn.
    torch.testing.assert_close(
        table[has_text].double() @ table[has_text].double().T, expected @ expected.T, atol=1e-4, rtol=1e-3
    )


def test_principal_components_are_the_leading_ones():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 6)) * [9, 5, 3, 1, 0.1, 0.1] + 4
    found = principal_components(vectors.astype(np.float32), 2, seed=0)
    assert found.shape == (50, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-3)
    assert found[:, 0].std() > 8 * 0.7 and 3 < found[:, 1].std() < 8


def test_principal_components_of_many_vectors_follow_from_the_seed_alone():
    vectors = np.random.default_rng(0).normal(size=(600, 70)).astype(np.float32)
    # Of so many, an approximation is computed from random directions.
    found = []
    for state, seed in ((1, 0), (2, 0), (2, 1)):
        np.random.seed(state)
        found.append(principal_components(vectors, 8, seed))
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def test_settings_reach_their_parts(make_llmesr):
    settings = {"hidden_dropout_prob": 0.25, "attn_dropout_prob": 0.75}
    encoder = make_llmesr(n_heads=4, n_cross_heads=2, **settings)[0].encoder
    assert encoder.dropout.p == 0.25
    for block in encoder.backbone.blocks:
        assert (block.dropout.p, block.attention.attention_dropout.p) == (0.25, 0.75)
    assert encoder.to_collaborative.num_heads == encoder.to_semantic.num_heads == 2
    assert [block.attention.num_heads for block in encoder.backbone.blocks] == [4, 4]


def test_everything_learns(make_llmesr):
    model, _, batch = make_llmesr(n=600)
    sum(model.train().calculate_loss(batch)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_heads": 3}, "embedding_size 8 is not a multiple of n_heads 3"),
        ({"n_cross_heads": 3}, "embedding_size 8 is not a multiple of n_cross_heads 3"),
        ({"n_cross_heads": 0}, "embedding_size 8 is not a multiple of n_cross_heads 0"),
        ({"train_positions": "first"}, "train_positions is 'first'; it must be 'last' or 'all'"),
    ],
)
def test_wrong_settings_are_refused(make_llmesr, settings, message):
    with pytest.raises(SettingError, match=message):
        make_llmesr(**settings)
