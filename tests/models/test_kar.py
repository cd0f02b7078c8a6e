"""KAR against a second computation from its weights, and what must or must not influence what.

Breakages tried, each caught here: texts of users adapted by the experts of items; the knowledge of an item left out of
the prediction; the knowledge of all items kept when the weights change; a text that is missing given the experts'
biases.
"""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_gserec.errors import SettingError
from recbole_gserec.layers.dropout import Dropout
from recbole_gserec.preprocess.vector_files import read_vectors, write_vectors

pytestmark = pytest.mark.usefixtures("random_dataset")

SMALL = {
    "embedding_size": 8,
    "attention_hidden_size": [6, 3],
    "n_shared_experts": 1,
    "n_specific_experts": 2,
    "expert_hidden_size": [5, 4],
    "mlp_hidden_size": [7],
    "encoder_dim": 9,
}


@pytest.fixture
def make_kar(make_model):
    """A model whose weights are not those of the start, its training dataset, and a batch."""

    def make(n=60, **settings):
        model, _, _, loaders = make_model("KAR", **{**SMALL, **settings})
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
        nn.init.zeros_(model.item_embedding.weight[0])
        return model.eval(), loaders[0]._dataset, next(iter(loaders[0]))[:n]

    return make


def changed(batch, **fields):
    return Interaction({**batch.interaction, **fields})


def adapted(adaptor, task, vector):
    """What a text adds, one expert at a time."""
    if not vector.any():
        return np.zeros(adaptor.output_size)
    logits = adaptor.gates[task].weight.detach().numpy() @ vector + adaptor.gates[task].bias.detach().numpy()
    shares = np.exp(logits) / np.exp(logits).sum()
    outputs = []
    for experts in (adaptor.shared_experts, adaptor.experts[task]):
        for expert in range(experts.layers[0].weight.shape[0]):
            hidden = vector
            for layer in experts.layers:
                weight, bias = layer.weight[expert].detach().numpy(), layer.bias[expert, 0].detach().numpy()
                hidden = np.maximum(hidden @ weight + bias, 0)
            outputs.append(hidden)
    return sum(share * output for share, output in zip(shares, outputs, strict=True))


def interest(attention, events, item):
    """DIN's sum of events, one at a time."""
    result = np.zeros(len(item))
    for event in events:
        hidden = np.concatenate([item, event, item - event, item * event])
        for layer, activation in zip(attention.layers, attention.activations, strict=False):
            hidden = layer.weight.detach().numpy() @ hidden + layer.bias.detach().numpy()
            mean, var = activation.norm.running_mean.numpy(), activation.norm.running_var.numpy()
            p = 1 / (1 + np.exp(-(hidden - mean) / np.sqrt(var + 1e-5)))
            hidden = p * hidden + (1 - p) * activation.alpha.detach().numpy() * hidden
        last = attention.layers[-1]
        result += (last.weight.detach().numpy() @ hidden + last.bias.detach().numpy()) * event
    return result


def reference(model, dataset, batch, candidates, with_texts=True):
    """Logits one pair at a time, in NumPy; without texts they are those of DIN."""
    items = model.item_embedding.weight.detach().numpy()
    texts = {task: dataset.text_vectors[task].numpy() for task in ("user", "item")}
    layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in model.mlp.layers]
    n_knowledge, size = model.adaptor.output_size, items.shape[1]
    logits = np.zeros(candidates.shape)
    for row in range(len(batch)):
        user = adapted(model.adaptor, "user", texts["user"][batch["user_id"][row]])
        events = [items[item] for item in batch["item_id_list"][row].tolist() if item]
        for column, candidate in enumerate(candidates[row].tolist()):
            parts = [interest(model.attention, events, items[candidate]), items[candidate]]
            if with_texts:
                parts = [user, *parts, adapted(model.adaptor, "item", texts["item"][candidate])]
            hidden = np.concatenate(parts)
            for index, (weight, bias) in enumerate(layers):
                if index == 0 and not with_texts:
                    weight = weight[:, n_knowledge : n_knowledge + 2 * size]
                hidden = weight @ hidden + bias
                hidden = hidden if index == len(layers) - 1 else np.maximum(hidden, 0)
            logits[row, column] = hidden[0]
    return logits


def test_scores_and_loss_equal_a_second_computation(make_kar):
    model, dataset, batch = make_kar(n=30)
    for activation in model.attention.activations:
        activation.norm.running_mean.normal_()
        activation.norm.running_var.uniform_(0.5, 2)
    candidates = model.training_candidates(batch)
    texts = dataset.text_vectors["item"].any(1)
    assert not texts[candidates].all() and texts[candidates].any()
    logits = reference(model, dataset, batch, candidates)
    with torch.no_grad():
        np.testing.assert_allclose(model.score_candidates(batch, candidates).numpy(), logits, rtol=1e-4, atol=1e-4)
        (loss,) = model.calculate_loss(batch)
    # With gradients nothing is kept from one call to the next.
    np.testing.assert_allclose(
        model.score(model.encode(batch), candidates).detach().numpy(), logits, rtol=1e-4, atol=1e-4
    )
    chance = 1 / (1 + np.exp(-logits))
    expected = -np.mean(np.concatenate([np.log(chance[:, :1]), np.log(1 - chance[:, 1:])], axis=1))
    assert loss.item() == pytest.approx(expected, rel=1e-4) and model.loss_names == ("rec",)


def test_without_the_weights_of_texts_it_is_din(make_kar):
    model, dataset, batch = make_kar(n=20)
    n_knowledge = model.adaptor.output_size
    with torch.no_grad():
        first = model.mlp.layers[0].weight
        first[:, :n_knowledge], first[:, -n_knowledge:] = 0, 0
    candidates = model.training_candidates(batch)
    expected = reference(model, dataset, batch, candidates, with_texts=False)
    found = model.score_candidates(batch, candidates).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_settings_reach_all_parts(make_kar):
    model, *_ = make_kar(hidden_dropout_prob=0.25)
    assert [module.p for module in model.modules() if isinstance(module, Dropout)] == [0.25] * 5
    adaptor = model.adaptor
    n_experts = [len(part.layers[0].weight) for part in (adaptor.shared_experts, *adaptor.experts.values())]
    assert n_experts == [1, 2, 2]


def test_order_of_the_history_tells_nothing(make_kar):
    model, _, batch = make_kar()
    items = batch["item_id_list"].clone()
    for row, length in enumerate(batch["item_length"].tolist()):
        items[row, :length] = items[row, torch.randperm(length)]
    torch.testing.assert_close(model.predict(changed(batch, item_id_list=items)), model.predict(batch))


def test_texts_stay_as_they_are(make_kar):
    model, dataset, batch = make_kar(n=600)
    before = {task: vectors.clone() for task, vectors in dataset.text_vectors.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sum(model.train().calculate_loss(batch)).backward()
    optimizer.step()
    for task, vectors in before.items():
        held = getattr(model, f"{task}_vectors")
        assert not held.requires_grad and torch.equal(held, vectors)
    # They are in a file of their own, and take no place in checkpoints.
    assert not any("vectors" in name for name in model.state_dict())


def test_a_users_text_teaches_its_own_experts_and_the_shared(make_kar):
    model, _, batch = make_kar()
    model.train().knowledge("user", batch["user_id"]).sum().backward()
    for name, parameter in model.adaptor.named_parameters():
        assert (parameter.grad is None) == ("item" in name), name


def test_texts_change_scores_where_there_are_some(make_kar):
    model, dataset, batch = make_kar()
    has_text = dataset.text_vectors["item"].any(1)[batch["item_id"]]
    before = model.predict(batch)
    with torch.no_grad():
        model.train().eval()
        model.item_vectors = model.item_vectors.roll(1, 1)
        after = model.predict(batch)
    assert torch.equal(after[~has_text], before[~has_text]) and (~has_text).any()
    assert ((after - before).abs() > 1e-6)[has_text].float().mean() > 0.9


def test_a_missing_text_adds_nothing(make_kar):
    model, dataset, batch = make_kar()
    nobody = torch.tensor([0, dataset.token2id("user_id", "searcher")])
    assert not model.knowledge("user", nobody).any()
    without = (~dataset.text_vectors["item"].any(1)).nonzero().squeeze(1)
    assert len(without) > 5
    with torch.no_grad():
        assert not model.knowledge("item", without).any()
    # Rows of a user without a text, and without a history, learn all the same.
    rows = changed(batch, user_id=torch.full_like(batch["user_id"], int(nobody[1])))
    sum(model.train().calculate_loss(rows)).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(("training", "gradients"), [(True, False), (False, True), (False, False)])
def test_something_is_kept_in_evaluation_alone(make_kar, training, gradients):
    model, _, batch = make_kar()
    with torch.set_grad_enabled(gradients):
        model.train(training).predict(batch)
    assert (not model._kept) == (training or gradients)


def test_what_is_kept_is_forgotten_when_weights_change(make_kar):
    model, _, batch = make_kar()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        before = model.predict(batch)
        model.train()
        # What is made of users' texts is not kept, and would hide it.
        for parameter in model.adaptor.experts["item"].parameters():
            parameter.mul_(2)
        after = model.eval().predict(batch)
        assert (after - before).abs().max() > 1e-3
        model.load_state_dict(weights)
        assert torch.equal(model.predict(batch), before)


def test_all_items_are_adapted_in_parts(make_kar, monkeypatch):
    model, _, batch = make_kar()
    with torch.no_grad():
        before = model.full_sort_predict(batch)
        monkeypatch.setattr("recbole_gserec.models.kar.ITEMS_AT_ONCE", 7)
        torch.testing.assert_close(model.train().eval().full_sort_predict(batch), before, rtol=1e-4, atol=1e-5)


def test_padding_takes_no_part_in_the_statistics_of_dice(make_kar):
    model, _, batch = make_kar(hidden_dropout_prob=0.0)
    (expected,) = model.train().calculate_loss(batch)
    wide = changed(batch, item_id_list=nn.functional.pad(batch["item_id_list"], (0, 5)))
    torch.testing.assert_close(model.calculate_loss(wide)[0], expected)


def test_items_start_small_and_padding_at_0(make_model):
    table = make_model("KAR", **SMALL)[0].item_embedding.weight.detach()
    assert table[1:].std().item() == pytest.approx((2 / sum(table.shape)) ** 0.5, rel=0.1)
    assert not table[0].any()


def test_prelu_instead_of_dice(make_kar):
    model, _, batch = make_kar(attention_activation="prelu")
    assert all(isinstance(activation, nn.PReLU) for activation in model.attention.activations)
    sum(model.train().calculate_loss(batch)).backward()
    assert all(p.grad.any() for p in model.attention.parameters())


def test_everything_learns(make_kar):
    model, _, batch = make_kar(n=600)
    sum(model.train().calculate_loss(batch)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_wrong_settings_are_refused(make_kar, tmp_path):
    with pytest.raises(SettingError, match="attention_activation is 'relu'; it must be 'dice' or 'prelu'"):
        make_kar(attention_activation="relu")
    with pytest.raises(SettingError, match=r"expert_hidden_size is \[\]; it must have at least one layer"):
        make_kar(expert_hidden_size=[])
    path = tmp_path / "dataset" / "toy" / "toy.user.vectors.parquet"
    ids, vectors, description = read_vectors(path)
    write_vectors(path, ids, {"recommendation": vectors["recommendation"][:, :3]}, description)
    with pytest.raises(SettingError, match="sizes are {'user': 3, 'item': 9}"):
        make_kar()
