"""SimGCL against a second computation with dense matrices, against RecBole's LightGCN, and what its graph holds.

Breakages tried, each caught here: layer 0 in the mean; noise not passed on to the next layer; noise without the sign;
noise not normalised; repeated nodes in the contrast; one view not normalised; one edge's weight; propagation in each
batch of an evaluation; scores of former weights.
"""

import copy
import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from recbole.model.general_recommender.lightgcn import LightGCN
from recbole.utils import get_trainer
from torch import nn

from recbole_gserec.errors import SettingError

pytestmark = pytest.mark.usefixtures("random_dataset")


@pytest.fixture
def make_simgcl(make_model):
    """A model with weights far from 0, its config, its loaders, and a batch."""

    def make(n=120, **settings):
        model, config, _, loaders = make_model("SimGCL", **{"embedding_size": 8, "train_batch_size": 256, **settings})
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
        return model, config, loaders, next(iter(loaders[0]))[:n]

    return make


def train_pairs(loaders):
    """(user, item) of the training interactions."""
    rows = loaders[0]._dataset.inter_feat
    return set(zip(rows["user_id"].tolist(), rows["item_id"].tolist(), strict=True))


def dense_matrix(model, pairs):
    """The normalised matrix, entry by entry."""
    n_nodes = model.n_users + model.n_items
    edges = {(user, model.n_users + item) for user, item in pairs}
    matrix, degrees = torch.zeros(n_nodes, n_nodes), [0] * n_nodes
    for edge in edges:
        for node in edge:
            degrees[node] += 1
    for user, item in edges:
        matrix[user, item] = matrix[item, user] = 1 / math.sqrt(degrees[user] * degrees[item])
    return matrix


def reference_propagation(matrix, embeddings, n_layers, noises=None, eps=0.0):
    """Mean over layers 1 to L; ``noises`` are numbers from 0 to 1, one array a layer."""
    layers = []
    for layer in range(n_layers):
        embeddings = matrix @ embeddings
        if noises is not None:
            lengths = noises[layer].square().sum(1, keepdim=True).sqrt()
            embeddings = embeddings + eps * torch.sign(embeddings) * noises[layer] / lengths
        layers.append(embeddings)
    return sum(layers) / n_layers


def reference_contrast(first, second, ids, tau):
    """Terms of the given nodes, one after the other."""
    terms = []
    for node in ids:
        cosines = torch.stack([torch.cosine_similarity(first[node], second[other], dim=0) for other in ids]) / tau
        terms.append(cosines.exp().sum().log() - cosines[ids.index(node)])
    return torch.stack(terms)


def reference_losses(model, config, pairs, batch, seed):
    """Both terms, from the weights in one matrix of all nodes."""
    users, positives, negatives = (batch[field].tolist() for field in ("user_id", "item_id", "neg_item_id"))
    matrix, n_users, n_layers = dense_matrix(model, pairs), model.n_users, config["n_layers"]
    start = torch.cat([model.user_embedding.weight, model.item_embedding.weight])
    final = reference_propagation(matrix, start, n_layers)
    bpr, norms = [], [[], [], []]
    for user, positive, negative in zip(users, positives, negatives, strict=True):
        difference = final[user] @ (final[n_users + positive] - final[n_users + negative])
        bpr.append(-torch.sigmoid(difference).log())
        for squares, node in zip(norms, (user, n_users + positive, n_users + negative), strict=True):
            squares.append(start[node].square().sum())
    penalty = sum(torch.stack(squares).sum().sqrt() for squares in norms) / len(users)
    torch.manual_seed(seed)
    noises = [[torch.rand(start.shape) for _ in range(n_layers)] for _ in range(2)]
    first, second = (reference_propagation(matrix, start, n_layers, noise, config["eps"]) for noise in noises)
    terms = [
        reference_contrast(first, second, sorted(set(nodes)), config["tau"])
        for nodes in (users, [n_users + item for item in positives])
    ]
    reduced = sum(part.mean() if config["cl_reduction"] == "mean" else part.sum() for part in terms)
    return torch.stack(bpr).mean() + config["reg_weight"] * penalty, config["lambda_cl"] * reduced


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_losses_and_gradients_equal_a_second_computation(make_simgcl, reduction, n_layers):
    settings = {"cl_reduction": reduction, "n_layers": n_layers, "eps": 0.3, "lambda_cl": 0.7, "reg_weight": 0.2}
    model, config, loaders, batch = make_simgcl(**settings)
    assert len(batch["user_id"].unique()) < len(batch)
    gradients = []
    for compute in (
        lambda: (torch.manual_seed(3), model.calculate_loss(batch))[1],
        lambda: reference_losses(model, config, train_pairs(loaders), batch, seed=3),
    ):
        model.zero_grad()
        losses = compute()
        sum(losses).sum().backward()
        gradients.append([*(loss.squeeze() for loss in losses), *(p.grad.clone() for p in model.parameters())])
    assert len(gradients[0]) == 2 + 2
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


def test_scores_equal_a_second_computation(make_simgcl):
    model, config, loaders, batch = make_simgcl()
    start = torch.cat([model.user_embedding.weight, model.item_embedding.weight]).detach()
    final = reference_propagation(dense_matrix(model, train_pairs(loaders)), start, config["n_layers"])
    users, items = final.split([model.n_users, model.n_items])
    model.eval()
    with torch.no_grad():
        scores = model.full_sort_predict(batch).view(len(batch), -1)
        torch.testing.assert_close(scores, users[batch["user_id"]] @ items.T, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.predict(batch), scores[torch.arange(len(batch)), batch["item_id"]])


# ---- noise -----------------------------------------------------------------------------------------------------------


def test_noise_has_its_length_and_keeps_signs(make_simgcl):
    model, *_ = make_simgcl(eps=0.25)
    embeddings = torch.randn(500, 8)
    embeddings[0] = 0
    perturbed = model.perturb(embeddings)
    noise = perturbed - embeddings
    torch.testing.assert_close(noise[1:].norm(dim=1), torch.full((499,), 0.25))
    assert (perturbed.sign() == embeddings.sign()).all()
    # A node that nothing reaches has no direction to be moved in.
    assert not noise[0].any()
    assert not torch.equal(model.perturb(embeddings), perturbed)


def test_without_noise_views_are_the_clean_pass(make_simgcl):
    model, config, _, batch = make_simgcl(eps=0.0)
    clean = model.forward()
    torch.testing.assert_close(model.forward(perturbed=True), clean, rtol=0, atol=0)
    ids = batch["user_id"].unique(), batch["item_id"].unique()
    terms = [
        reference_contrast(part, part, nodes.tolist(), config["tau"]) for part, nodes in zip(clean, ids, strict=True)
    ]
    expected = sum(part.mean() for part in terms).item()
    assert expected > 0
    assert model.contrast(batch).item() == pytest.approx(expected, rel=1e-4)


def test_rows_that_come_twice_count_once_in_the_contrast(make_simgcl):
    model, _, _, batch = make_simgcl(eps=0.0)
    torch.testing.assert_close(model.contrast(batch.repeat(3)), model.contrast(batch))


# ---- LightGCN --------------------------------------------------------------------------------------------------------


def lightgcn(model, config, loaders):
    """RecBole's model with the same weights."""
    stock = LightGCN(config, loaders[0]._dataset)
    stock.load_state_dict(model.state_dict())
    return stock


def test_weights_start_as_those_of_lightgcn(make_model):
    model, config, _, loaders = make_model("SimGCL")
    torch.manual_seed(0)
    stock = LightGCN(config, loaders[0]._dataset)
    assert model.state_dict().keys() == stock.state_dict().keys()
    assert all(torch.equal(value, stock.state_dict()[name]) for name, value in model.state_dict().items())


def test_with_layer_0_in_the_mean_and_no_contrast_it_is_lightgcn(make_simgcl, monkeypatch):
    model, config, loaders, batch = make_simgcl(lambda_cl=0, n_layers=3)
    stock = lightgcn(model, config, loaders)
    forward = model.forward

    def with_layer_0():
        both = zip((model.user_embedding.weight, model.item_embedding.weight), forward(), strict=True)
        return tuple((start + 3 * mean) / 4 for start, mean in both)

    monkeypatch.setattr(model, "forward", with_layer_0)
    torch.testing.assert_close(model.forward(), stock.forward(), rtol=1e-4, atol=1e-6)
    (loss,), expected = model.calculate_loss(batch), stock.calculate_loss(batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    loss.backward(), expected.backward()
    for mine, theirs in zip(model.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    stock.eval(), model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model.full_sort_predict(batch), stock.full_sort_predict(batch), rtol=1e-4, atol=1e-5)


def test_without_contrast_nothing_is_drawn(make_simgcl):
    model, _, _, batch = make_simgcl(lambda_cl=0)
    state = torch.manual_seed(5).get_state()
    (first,) = model.calculate_loss(batch)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(model.calculate_loss(batch)[0], first)


# ---- the graph -------------------------------------------------------------------------------------------------------


def test_the_graph_holds_the_training_interactions_and_nothing_else(make_simgcl):
    model, _, loaders, _ = make_simgcl()
    matrix = model.norm_adj_matrix(torch.eye(model.n_users + model.n_items))
    torch.testing.assert_close(matrix, dense_matrix(model, train_pairs(loaders)))
    for loader in loaders[1:]:
        rows = loader._dataset.inter_feat
        assert len(rows) == 40
        assert not matrix[rows["user_id"], model.n_users + rows["item_id"]].any()


def test_the_matrix_is_that_of_lightgcn_and_made_without_its_loop(make_simgcl, monkeypatch):
    model, *_ = make_simgcl()
    pairs = model.interaction_matrix
    users, items = (np.concatenate([ids, ids[:5]]) for ids in (pairs.row, pairs.col))
    model.interaction_matrix = sp.coo_matrix((np.ones(len(users), np.float32), (users, items)), pairs.shape)
    expected = LightGCN.get_norm_adj_mat(model).to_dense()
    # A dictionary with an entry for each interaction takes more than ten seconds for a million of them.
    monkeypatch.delattr("scipy.sparse.dok_matrix")
    assert torch.equal(model.get_norm_adj_mat()(torch.eye(len(expected))), expected)


def test_lgconv_gives_the_same_losses_scores_and_gradients(make_simgcl):
    results = []
    for graph_conv in ("spmm", "lgconv"):
        model, _, _, batch = make_simgcl(graph_conv=graph_conv, lambda_cl=0.5)
        torch.manual_seed(3)
        losses = model.calculate_loss(batch)
        sum(losses).backward()
        with torch.no_grad():
            scores = model.eval().full_sort_predict(batch)
        results.append([*losses, scores, *(parameter.grad for parameter in model.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_targets_of_the_evaluation_leave_no_trace_in_the_graph(random_rows, make_model, write_rows):
    """The last two interactions of each user change places: the same items, other targets."""
    matrices, tokens = [], []
    inter = random_rows["inter"]
    rows = {user: [row for row, cells in enumerate(inter) if cells[0] == user] for user, _, _ in inter}
    swapped = list(inter)
    for *_, first, second in rows.values():
        (user, one, early), (_, other, late) = inter[first], inter[second]
        swapped[first], swapped[second] = (user, other, early), (user, one, late)
    for version in (inter, swapped):
        write_rows(**{**random_rows, "inter": version})
        model, _, _, loaders = make_model("SimGCL", embedding_size=8)
        matrices.append(model.norm_adj_matrix(torch.eye(model.n_users + model.n_items)))
        tokens.append(loaders[0]._dataset.field2id_token["item_id"].tolist())
    nodes = [*range(model.n_users), *(model.n_users + tokens[1].index(token) for token in tokens[0])]
    assert torch.equal(matrices[1][nodes][:, nodes], matrices[0])


def test_nodes_without_training_interactions_score_0_and_stay_finite(random_rows, write_rows, make_simgcl):
    inter = list(random_rows["inter"])
    last = max(row for row, cells in enumerate(inter) if cells[0] == "u3")
    inter[last] = ("u3", "new", inter[last][2])
    write_rows(**{**random_rows, "inter": inter})
    model, _, loaders, batch = make_simgcl()
    trained = {item for _, item in train_pairs(loaders)}
    alone = [item for item in range(model.n_items) if item not in trained]
    assert len(alone) > 1
    users, items = model.forward(perturbed=True)
    assert not items[alone].any() and torch.isfinite(items).all()
    sum(model.calculate_loss(batch)).sum().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in model.parameters())


# ---- evaluation ------------------------------------------------------------------------------------------------------


@pytest.fixture
def propagations(monkeypatch):
    """One entry for each propagation of any model."""
    from recbole_gserec.models.simgcl import SimGCL

    calls, forward = [], SimGCL.forward
    monkeypatch.setattr(SimGCL, "forward", lambda self, **kwargs: (calls.append(kwargs), forward(self, **kwargs))[1])
    return calls


@pytest.mark.parametrize("mode", ["uni99", "full"])
def test_an_evaluation_propagates_once(make_simgcl, propagations, mode):
    model, config, loaders, batch = make_simgcl(eval_batch_size=7, eval_args={"mode": mode})
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    assert len(loaders[1]) > 5 or mode == "full"
    trainer.evaluate(loaders[1], load_best_model=False)
    assert len(propagations) == 1
    with torch.no_grad():
        for _ in range(3):
            model.predict(batch)
    assert len(propagations) == 1


def test_scores_are_never_those_of_former_weights(make_simgcl, propagations):
    model, config, loaders, batch = make_simgcl()
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    before = trainer.evaluate(loaders[1], load_best_model=False)
    other = copy.deepcopy(model.state_dict())
    for value in other.values():
        value.copy_(torch.randn(value.shape))
    former = copy.deepcopy(model.state_dict())
    model.load_state_dict(other)
    assert trainer.evaluate(loaders[1], load_best_model=False) != before
    model.load_state_dict(former)
    assert trainer.evaluate(loaders[1], load_best_model=False) == before
    # A training step forgets too, whatever mode the model is in.
    scores = model.predict(batch)
    sum(model.calculate_loss(batch)).sum().backward()
    trainer.optimizer.step()
    assert not torch.equal(model.predict(batch), scores)


def test_dynamic_negatives_are_those_of_the_weights_of_the_moment(make_model, propagations):
    arguments = {"distribution": "uniform", "sample_num": 1, "dynamic": True, "candidate_num": 3}
    model, config, _, loaders = make_model(
        "SimGCL", embedding_size=8, lambda_cl=0, epochs=2, train_batch_size=256, train_neg_sample_args=arguments
    )
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(loaders[0], saved=False, verbose=False)
    n_steps = len(loaders[0]) * config["epochs"]
    assert len(loaders[0]) > 1
    # One to choose negatives, one to train.
    assert len(propagations) == 2 * n_steps


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_layers": 0}, "n_layers is 0; it must be a whole number of at least 1"),
        ({"tau": 0}, "tau is 0; it must be a number above 0"),
        ({"cl_reduction": "none"}, "cl_reduction is 'none'; it must be 'mean' or 'sum'"),
        ({"eps": -0.1}, "eps is -0.1; it must be a number of at least 0"),
        ({"train_neg_sample_args": None}, "train_neg_sample_args: the BPR loss needs negatives"),
    ],
)
def test_wrong_settings_are_refused(make_simgcl, settings, message):
    with pytest.raises(SettingError, match=message):
        make_simgcl(**settings)
