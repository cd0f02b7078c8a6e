"""CL4SRec against torch's own Transformer, against RecBole's SASRec, and what its views and their mask may touch.

Breakages tried, each caught here: a mask item that is scored; views made in place; a view that is the sequence itself;
the views' lengths mixed up; copies of a row contrasted; negatives of other rows; ``cl_dedup`` without effect.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender.sasrec import SASRec
from torch import nn

from recbole_gserec.errors import SettingError
from recbole_gserec.layers.dropout import Dropout

pytestmark = pytest.mark.usefixtures("random_dataset")

SMALL = {"hidden_size": 8, "inner_size": 12, "train_batch_size": 256, "MAX_ITEM_LIST_LENGTH": 10}
SEQUENCE = ("item_id_list", "item_length")


@pytest.fixture
def make_cl4srec(make_model):
    """A model with weights far from 0, its config, its loaders, and a batch."""

    def make(**settings):
        model, config, _, loaders = make_model("CL4SRec", **{**SMALL, **settings})
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            is_scale = "LayerNorm" in name and name.endswith("weight")
            nn.init.normal_(parameter, mean=float(is_scale), std=0.3, generator=generator)
        return model, config, loaders, next(iter(loaders[0]))

    return make


@pytest.fixture
def without_dropout(make_cl4srec):
    """The same with no dropout, so that training has no other random numbers than those of the views."""
    return lambda **settings: make_cl4srec(**{"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, **settings})


def torch_transformer(model, config):
    """Torch's own post-norm layers with the model's weights."""
    layers = []
    for layer in model.trm_encoder.layer:
        attention, forward = layer.multi_head_attention, layer.feed_forward
        own = nn.TransformerEncoderLayer(
            config["hidden_size"], config["n_heads"], config["inner_size"], 0.0, "gelu", 1e-12, batch_first=True
        )
        projections = (attention.query, attention.key, attention.value)
        pairs = {
            "self_attn.in_proj_weight": torch.cat([part.weight for part in projections]),
            "self_attn.in_proj_bias": torch.cat([part.bias for part in projections]),
        }
        for name, part in (
            ("self_attn.out_proj", attention.dense),
            ("linear1", forward.dense_1),
            ("linear2", forward.dense_2),
            ("norm1", attention.LayerNorm),
            ("norm2", forward.LayerNorm),
        ):
            pairs |= {f"{name}.weight": part.weight, f"{name}.bias": part.bias}
        own.load_state_dict(pairs)
        layers.append(own)
    return layers


@torch.no_grad()
def reference_states(model, config, sequences, lengths):
    """One row at a time, without padding."""
    layers, states = torch_transformer(model, config), []
    for sequence, length in zip(sequences, lengths.tolist(), strict=True):
        events = model.item_embedding.weight[sequence[:length]] + model.position_embedding.weight[:length]
        events = F.layer_norm(events, events.shape[-1:], model.LayerNorm.weight, model.LayerNorm.bias, 1e-12)
        later = torch.ones(length, length).triu(1).bool()
        for layer in layers:
            events = layer(events.unsqueeze(0), src_mask=later).squeeze(0)
        states.append(events[-1])
    return torch.stack(states)


def reference_nt_xent(first, second, tau, users=None):
    """Mean over 2B rows; rows of the same user are left out of the denominator where users are given."""
    rows, n = torch.cat([first, second]).tolist(), len(first)
    terms = []
    for row in range(2 * n):
        logits = {
            other: sum(a * b for a, b in zip(rows[row], rows[other], strict=True)) / tau
            for other in range(2 * n)
            if other != row
        }
        partner = logits[(row + n) % (2 * n)]
        if users is not None:
            logits = {k: v for k, v in logits.items() if users[k % n] != users[row % n] or k == (row + n) % (2 * n)}
        top = max(logits.values())
        terms.append(top + math.log(sum(math.exp(value - top) for value in logits.values())) - partner)
    return sum(terms) / len(terms)


def test_scores_equal_a_second_computation(make_cl4srec):
    model, config, loaders, _ = make_cl4srec()
    batch = loaders[2]._dataset[list(range(40))]
    lengths = batch["item_length"]
    assert lengths.min() < 10 <= lengths.max()
    expected = reference_states(model, config, *(batch[name] for name in SEQUENCE)) @ model.item_embedding.weight[:-1].T
    model.eval()
    with torch.no_grad():
        scores = model.full_sort_predict(batch)
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
        assert scores.shape == (40, model.n_items)
        torch.testing.assert_close(model.predict(batch), scores[torch.arange(40), batch["item_id"]])


@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
@pytest.mark.parametrize("cl_dedup", [False, True])
def test_losses_equal_a_second_computation(without_dropout, loss_type, cl_dedup):
    settings = {"lambda_cl": 0.7, "tau": 1.5, "cl_dedup": cl_dedup, "n_layers": 1, "train_batch_size": 60}
    model, config, _, batch = without_dropout(loss_type=loss_type, **settings)
    assert len(batch["user_id"].unique()) < len(batch) == 60
    with torch.no_grad():
        torch.manual_seed(3)
        losses = [loss.item() for loss in model.calculate_loss(batch)]
        torch.manual_seed(3)
        views = model.augmentation(*(batch[name] for name in SEQUENCE))
    states = reference_states(model, config, *(batch[name] for name in SEQUENCE))
    logits = (states @ model.item_embedding.weight.T).detach()[:, : model.n_items]
    terms = []
    for row, positive in enumerate(batch["item_id"].tolist()):
        right = logits[row, positive]
        if loss_type == "CE":
            terms.append(logits[row].exp().sum().log() - right)
            continue
        wrong = logits[row, batch["neg_item_id"][row]]
        terms.append(-(right - wrong).sigmoid().log())
    assert losses[0] == pytest.approx(torch.stack(terms).mean().item(), rel=1e-4)
    users = batch["user_id"].tolist() if cl_dedup else None
    expected = reference_nt_xent(*(reference_states(model, config, *view) for view in views), 1.5, users)
    assert losses[1] == pytest.approx(0.7 * expected, rel=1e-4)


# ---- SASRec ----------------------------------------------------------------------------------------------------------


def sasrec(model, config, loaders):
    """RecBole's model with the same weights, those of the mask left out."""
    stock = SASRec(config, loaders[0]._dataset)
    state = model.state_dict()
    stock.load_state_dict({**state, "item_embedding.weight": state["item_embedding.weight"][:-1]})
    return stock


def test_weights_start_as_those_of_sasrec(make_model):
    model, config, _, loaders = make_model("CL4SRec", **SMALL)
    torch.manual_seed(0)
    expected, found = SASRec(config, loaders[0]._dataset).state_dict(), model.state_dict()
    token = found["item_embedding.weight"][-1:]
    assert 0.005 < token.std() < 0.04
    expected["item_embedding.weight"] = torch.cat([expected["item_embedding.weight"], token])
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize("settings", [{}, {"loss_type": "BPR"}, {"loss_type": "BPR", "sample_num": 3}])
def test_without_contrast_losses_and_gradients_are_those_of_sasrec(without_dropout, settings):
    settings = dict(settings)
    if "sample_num" in settings:
        settings["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": settings.pop("sample_num")}
    model, config, loaders, batch = without_dropout(lambda_cl=0, **settings)
    stock = sasrec(model, config, loaders)
    state = torch.manual_seed(5).get_state()
    (loss,), expected = model.calculate_loss(batch), stock.calculate_loss(batch)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    loss.backward(), expected.backward()
    theirs = dict(stock.named_parameters())
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        if name == "item_embedding.weight":
            assert not gradient[-1].any()
            gradient = gradient[:-1]
        torch.testing.assert_close(gradient, theirs[name].grad, rtol=1e-4, atol=1e-6)


def test_scores_are_those_of_sasrec_in_spite_of_dropout(make_cl4srec):
    model, config, loaders, batch = make_cl4srec()
    stock = sasrec(model, config, loaders)
    model.eval(), stock.eval()
    with torch.no_grad():
        torch.testing.assert_close(model.full_sort_predict(batch), stock.full_sort_predict(batch), rtol=1e-4, atol=1e-5)
    model.train()
    assert not torch.equal(model.full_sort_predict(batch), model.full_sort_predict(batch))


def test_every_dropout_is_the_fast_one_and_takes_part(make_cl4srec):
    model, _, _, batch = make_cl4srec()
    calls = {name: 0 for name, module in model.named_modules() if isinstance(module, (Dropout, nn.Dropout))}
    assert len(calls) == 1 + 2 * 3
    for name in calls:
        assert isinstance(model.get_submodule(name), Dropout)
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    model.train().full_sort_predict(batch)
    assert set(calls.values()) == {1}


# ---- the mask, views and repeated rows -------------------------------------------------------------------------------


def test_the_mask_is_never_scored_and_learns_from_the_contrast(make_cl4srec):
    model, _, _, batch = make_cl4srec()
    sum(model.calculate_loss(batch)).backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in model.parameters())
    assert model.item_embedding.weight.grad[model.n_items].any()
    model.lambda_cl = 0
    model.eval()
    with torch.no_grad():
        before = model.full_sort_predict(batch), model.calculate_loss(batch)[0]
        model.item_embedding.weight[model.n_items] = 100
        after = model.full_sort_predict(batch), model.calculate_loss(batch)[0]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(before, after, strict=True))


def test_each_operator_has_its_own_share(make_cl4srec):
    augmentation = make_cl4srec(eta=0.1, gamma=0.2, beta=0.3)[0].augmentation
    assert (augmentation.crop_ratio, augmentation.mask_ratio, augmentation.reorder_ratio) == (0.1, 0.2, 0.3)


def test_a_training_step_leaves_the_batch_as_it_is(make_cl4srec):
    model, _, _, batch = make_cl4srec()
    before = {name: values.clone() for name, values in batch.interaction.items()}
    sum(model.calculate_loss(batch)).backward()
    assert before.keys() == batch.interaction.keys()
    assert all(torch.equal(values, batch[name]) for name, values in before.items())


def test_copies_of_rows_for_further_negatives_are_encoded_once(without_dropout, monkeypatch):
    negatives = {"distribution": "uniform", "sample_num": 4}
    model, _, _, batch = without_dropout(loss_type="BPR", train_neg_sample_args=negatives)
    n_rows = len(batch) // 4
    assert len(batch) == 256 and torch.equal(batch["item_id_list"][:n_rows], batch["item_id_list"][n_rows : 2 * n_rows])
    encoded, forward = [], model.forward
    monkeypatch.setattr(model, "forward", lambda *inputs: (encoded.append(len(inputs[0])), forward(*inputs))[1])
    loss, _ = model.calculate_loss(batch)
    assert encoded == [n_rows, 2 * n_rows]
    # Of each row the positive once, and four negatives.
    logits = model.full_sort_predict(batch)
    right = logits[:n_rows].gather(1, batch["item_id"][:n_rows].unsqueeze(1))
    wrong = logits.gather(1, batch["neg_item_id"].unsqueeze(1))
    expected = -F.logsigmoid(right.repeat(4, 1) - wrong).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_a_user_twice_in_a_batch_pushes_itself_away_unless_told_otherwise(without_dropout):
    model, _, _, batch = without_dropout()
    twice = batch[[0, 0]]
    for dedup, negatives in ((False, 2), (True, 0)):
        model.cl_dedup = dedup
        single = changed(twice, item_id_list=twice["item_id_list"][:, :1], item_length=torch.ones(2, dtype=torch.long))
        # All four views are alike: the partner is one of 1 + negatives candidates.
        assert model.contrast(single).item() == pytest.approx(math.log(1 + negatives), abs=1e-5)


def changed(batch, **fields):
    return Interaction({**batch.interaction, **fields})


def test_single_items_are_contrasted_as_they_are(without_dropout):
    model, _, _, batch = without_dropout()
    items = torch.arange(1, 21).unsqueeze(1)
    single = changed(batch[:20], item_id_list=items, item_length=torch.ones(20, dtype=torch.long))
    states = model.forward(items, single["item_length"]).detach()
    assert model.contrast(single).item() == pytest.approx(reference_nt_xent(states, states, 1.0), rel=1e-4)
    sum(model.calculate_loss(changed(single, item_id=batch["item_id"][:20]))).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_width_of_padding_changes_nothing(make_cl4srec):
    model, _, _, batch = make_cl4srec()
    model.eval()
    short = batch[batch["item_length"] <= 4]
    narrow = changed(short, item_id_list=short["item_id_list"][:, :4])
    assert len(short) > 10
    torch.testing.assert_close(model.full_sort_predict(narrow), model.full_sort_predict(short), rtol=1e-4, atol=1e-5)


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"loss_type": "softmax"},
            "loss_type is 'softmax'; it must be 'BPR' or 'BCE' or 'sampled_CE'",
        ),
        ({"loss_type": "BPR", "train_neg_sample_args": None}, "train_neg_sample_args: the BPR loss needs negatives"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'; it must be 'gelu'"),
        ({"n_heads": 3}, "hidden_size 8 is not a multiple of n_heads 3"),
        ({"n_layers": 0}, "n_layers is 0; it must be a whole number of at least 1"),
        ({"tau": 0}, "tau is 0; it must be a number above 0"),
        ({"beta": 1.5}, "beta is 1.5; it must be a number from 0 to 1"),
        ({"gamma": -0.5}, "gamma is -0.5; it must be a number of at least 0"),
        ({"hidden_dropout_prob": 1}, "hidden_dropout_prob is 1; it must be a number from 0 to less than 1"),
    ],
)
def test_wrong_settings_are_refused(make_cl4srec, settings, message):
    with pytest.raises(SettingError, match=message):
        make_cl4srec(**settings)
