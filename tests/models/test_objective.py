"""Tests of the losses that all sequential models have in common, of shared negatives, and of the next-item head."""

import numpy as np
import pytest
import torch
from recbole.model.sequential_recommender import SASRec

from recbole_gserec.data import TARGETS, training_counts
from recbole_gserec.errors import SettingError
from recbole_gserec.layers import sampled_softmax_loss
from recbole_gserec.models import CL4SRec, GSERec
from recbole_gserec.plugin import forget_model, register_model
from recbole_gserec.settings import properties_folder
from recbole_gserec.settings.defaults import recbole_properties

pytestmark = pytest.mark.usefixtures("random_dataset")

OURS = "GSERec SESRec UniSAR UnifiedSSR USER JSR KAR NRHUB LLMESR QuerySeqRec".split()
JOINT = ["JSR", "USER", "UniSAR", "UnifiedSSR"]
BY_DOT_PRODUCT = ["UnifiedSSR", "NRHUB", "LLMESR", "QuerySeqRec"]
OF_RECBOLE = ["SASRec", "GRU4Rec", "CL4SRec"]
SILENT = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "dropout_prob": 0.0}
N_NEGATIVES = 6


def settings_of(model, **settings):
    """Settings without chance, and with one loss for ranking."""
    silent = {name: 0.0 for name in SILENT if model != "GRU4Rec" or name == "dropout_prob"}
    if model in ("SASRec", "CL4SRec", *OURS):
        silent.pop("dropout_prob", None)
    if model in ("KAR", "NRHUB"):
        silent.pop("attn_dropout_prob", None)
    if model in JOINT:
        settings = {"lambda_src": 0.0, **settings}
    if model == "QuerySeqRec":
        silent["replace_prob"] = 0.0
    if model == "CL4SRec":
        silent["lambda_cl"] = 0.0
    distribution = settings.pop("distribution", "uniform")
    negatives = {"distribution": distribution, "sample_num": N_NEGATIVES, "alpha": 0.7, "dynamic": False}
    return {**silent, "train_neg_sample_args": {**negatives, "candidate_num": 0}, "train_batch_size": 50, **settings}


def shaken(model):
    """Add noise to all weights, so that logits differ."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def logits_of(model, batch):
    """Candidates ``[n, C]`` and the logits of each pair of row and candidate, for itself."""
    if TARGETS in batch:
        is_target = batch[TARGETS] > 0
        candidates = torch.cat([batch[TARGETS][is_target].unsqueeze(1), batch["neg_item_id"][is_target]], dim=1)
        columns = candidates.split(1, dim=1)
        if isinstance(model, GSERec):
            state = model.encode(batch)
            return candidates, torch.cat([model.score_targets(state, part, is_target) for part in columns], dim=1)
        of_items = model.item_embedding.weight if isinstance(model, CL4SRec) else model.item_factors()[0]
        states = model.target_states(batch) if isinstance(model, CL4SRec) else model.encode(batch)
        items = of_items
        return candidates, torch.stack([(states * items[part.squeeze(1)]).sum(1) for part in columns], dim=1)
    candidates = torch.cat([batch["item_id"].unsqueeze(1), batch["neg_item_id"]], dim=1)
    if hasattr(model, "logits"):
        state = model.encode(batch)
        return candidates, torch.cat([model.logits(state, part) for part in candidates.split(1, dim=1)], dim=1)
    states = model.forward(batch["item_id_list"], batch["item_length"])
    return candidates, (states.unsqueeze(1) * model.item_embedding(candidates)).sum(2)


def plain_loss(loss_type, logits, candidates, n_items, log_drawn=None):
    """The losses again, row by row, in double precision; candidate 0 does not count."""
    logits, candidates = logits.double().numpy(), candidates.numpy()
    share = (candidates.shape[1] - 1) / (n_items - 2)
    power = share * (0.75 * (1 - 1 / share) + 1 / share) if loss_type == "gBCE" else 1.0
    total, n = 0.0, 0
    for row, ids in zip(logits, candidates, strict=True):
        real = ids > 0
        if loss_type == "sampled_CE":
            corrected = row if log_drawn is None else row - log_drawn[ids]
            total, n = total + np.log(np.exp(corrected[real]).sum()) - corrected[0], n + 1
        else:
            total -= power * np.log(1 / (1 + np.exp(-row[0])))
            total -= np.log(1 / (1 + np.exp(row[1:][real[1:]]))).sum()
            n += real.sum()
    return total / n


WITH_WINDOWS = ["GSERec", "NRHUB", "LLMESR", "QuerySeqRec", "CL4SRec"]
FORMS = [
    *((name, {}) for name in (*OURS, *OF_RECBOLE)),
    *((name, {"train_rows": "users"}) for name in WITH_WINDOWS),
]


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("loss_type", ["BCE", "gBCE", "sampled_CE"])
@pytest.mark.parametrize(("name", "form"), FORMS, ids=lambda value: str(value))
def test_losses_equal_a_second_computation(make_model, name, form, loss_type, shared):
    settings = settings_of(name, loss_type=loss_type, shared_negatives=shared, **form)
    dataset, _, candidates, logits, loss = trained_for(make_model, name, settings)
    assert candidates.shape[1] == 1 + N_NEGATIVES and logits.std() > 1e-3
    if shared:
        negatives = candidates[:, 1:]
        drawn = negatives.amax(0)
        assert ((negatives == drawn) | (negatives == 0)).all()
        assert 0 < (negatives == 0).float().mean() < 1
    expected = plain_loss(loss_type, logits, candidates, dataset.item_num)
    assert loss.item() == pytest.approx(expected, rel=1e-3)


def trained_for(make_model, name, settings):
    """Dataset, loaders, candidates and logits of a batch, and the model's own loss of them."""
    model, _, dataset, loaders = make_model(name, **settings)
    batch = next(iter(loaders[0]))
    shaken(model).eval()
    with torch.no_grad():
        candidates, logits = logits_of(model, batch)
        losses = model.calculate_loss(batch)
    return dataset, loaders, candidates, logits, losses[0] if isinstance(losses, tuple) else losses


@pytest.mark.parametrize("name", ["GSERec", "NRHUB", "SASRec"])
def test_negatives_drawn_by_popularity_are_corrected(make_model, name):
    settings = settings_of(name, loss_type="sampled_CE", distribution="popularity")
    dataset, loaders, candidates, logits, loss = trained_for(make_model, name, settings)
    rows = loaders[0]._dataset.inter_feat
    counts = np.bincount(rows["item_id"].numpy(), minlength=dataset.item_num).astype(float)
    # The first interaction of a user is no target.
    if "item_id_list" in rows:
        first = np.unique(rows["user_id"].numpy(), return_index=True)[1]
        counts += np.bincount(rows["item_id_list"][:, 0].numpy()[first], minlength=dataset.item_num)
    else:
        counts = training_counts(dataset.events, dataset.item_num).astype(float)
    with np.errstate(divide="ignore"):
        expected = plain_loss("sampled_CE", logits, candidates, dataset.item_num, np.log(counts**0.7))
    assert loss.item() == pytest.approx(expected, rel=1e-3)
    assert expected != pytest.approx(plain_loss("sampled_CE", logits, candidates, dataset.item_num), rel=1e-3)


def test_corrected_negatives_teach_the_true_probabilities():
    # However negatives are drawn, the corrected loss has its optimum at the true probabilities (Ma and Collins, 2018).
    rng = torch.Generator().manual_seed(0)
    truth, drawn = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.1, 0.1, 0.8])
    positives = torch.multinomial(truth, 40_000, replacement=True, generator=rng)
    negatives = torch.multinomial(drawn, 40_000 * 20, replacement=True, generator=rng).view(-1, 20)
    candidates = torch.cat([positives.unsqueeze(1), negatives], dim=1)
    scores = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.LBFGS([scores], max_iter=50)

    def step():
        optimiser.zero_grad()
        loss = sampled_softmax_loss(scores[candidates], log_probabilities=drawn.log()[candidates])
        loss.backward()
        return loss

    optimiser.step(step)
    torch.testing.assert_close(scores.detach().softmax(0), truth, atol=0.01, rtol=0)


@pytest.mark.parametrize("name", BY_DOT_PRODUCT)
def test_cross_entropy_is_over_all_items(make_model, name):
    model, _, dataset, loaders = make_model(name, **settings_of(name, loss_type="CE"))
    batch = next(iter(loaders[0]))
    shaken(model).eval()
    with torch.no_grad():
        logits = model.logits(model.encode(batch), torch.arange(1, dataset.item_num).unsqueeze(0))
        expected = torch.nn.functional.cross_entropy(logits, batch["item_id"] - 1)
        assert model.calculate_loss(batch)[0].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("name", [name for name in OURS if name not in BY_DOT_PRODUCT])
def test_cross_entropy_over_all_items_is_refused_where_scores_are_no_dot_products(make_model, name):
    with pytest.raises(SettingError, match="loss_type is 'CE', but only scores that are dot products"):
        make_model(name, **settings_of(name, loss_type="CE"))


@pytest.mark.parametrize("name", OURS)
def test_the_next_item_head_adds_its_score_and_its_loss(make_model, name):
    plain, _, dataset, loaders = make_model(name, **settings_of(name))
    batch = next(iter(loaders[0]))
    shaken(plain).eval()
    model, _, _, _ = make_model(name, **settings_of(name, lambda_next_item=0.3))
    model.load_state_dict(plain.state_dict())
    model.eval()
    every = torch.arange(1, dataset.item_num).unsqueeze(0)
    with torch.no_grad():
        without, of_both = plain.logits(plain.encode(batch), every), model.logits(model.encode(batch), every)
        values = model.calculate_loss(batch)
        losses = dict(zip(model.loss_names, values, strict=True))
        of_head = without if name in BY_DOT_PRODUCT else of_both - without
        expected = torch.nn.functional.cross_entropy(of_head, batch["item_id"] - 1)
        torch.testing.assert_close(model.full_sort_predict(batch)[:, 1:], of_both, rtol=1e-3, atol=1e-4)
    assert losses["next_item"].item() == pytest.approx(0.3 * expected.item(), rel=1e-3)
    if name in BY_DOT_PRODUCT:
        torch.testing.assert_close(of_both, without)
    else:
        assert of_head[batch["item_length"] > 0].std() > 1e-3


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("loss_type", ["gBCE", "sampled_CE"])
@pytest.mark.parametrize("name", JOINT)
def test_the_search_task_is_trained_by_the_same_loss_without_the_head(make_model, name, loss_type, shared):
    settings = {"loss_type": loss_type, "shared_negatives": shared, "lambda_next_item": 0.3, "lambda_src": 1.0}
    off = {"UniSAR": {"lambda_align": 0.0, "lambda_his": 0.0}, "UnifiedSSR": {"lambda_corr": 0.0}}.get(name, {})
    model, _, dataset, loaders = make_model(name, **settings_of(name, **settings, **off))
    search = next(batch.search for batch in loaders[0] if len(batch.search) > 3)
    shaken(model).eval()
    with torch.no_grad():
        (found,) = model.search_losses(search).values()
        if name == "UnifiedSSR":
            clicks, queries, packing = model.search_history(search)
            branches = model.encode_branches(search["user_id"], clicks, queries, packing)
            weight = 0.1 + 0.8 * model.mix.sigmoid()
            parts = zip((weight, 1 - weight), ((model.score, packing.last(states)) for states in branches), strict=True)
        elif name == "JSR":
            queries = model.query_layer(model.query_embedding(search["query_id"]))
            parts = [(1.0, (model.score_search, queries))]
        elif name == "USER":
            intent = model.query_embedding(search["query_id"])
            parts = [(1.0, (model.score, model.encode_intent(search, intent)))]
        else:
            parts = [(1.0, (model.score, model.encode(search, "search")))]
        candidates = torch.cat([search["item_id"].unsqueeze(1), search["neg_item_id"]], dim=1)
        expected = 0.0
        for weight, (score, state) in parts:
            logits = torch.cat([score(state, part) for part in candidates.split(1, dim=1)], dim=1)
            expected += weight * plain_loss(loss_type, logits, candidates, dataset.item_num)
    if name == "UnifiedSSR" and model.loss_positions == "all":
        pytest.skip("positions before the last count as well")
    assert found.item() == pytest.approx(float(expected), rel=1e-3)


def test_drawn_items_stand_for_all_in_the_loss_of_the_head(make_model):
    model, _, dataset, loaders = make_model(
        "NRHUB", **settings_of("NRHUB", lambda_next_item=0.3, n_next_item_negatives=9)
    )
    batch = next(iter(loaders[0]))
    shaken(model).eval()
    with torch.no_grad():
        torch.manual_seed(5)
        found = model.calculate_loss(batch)[1].item()
        torch.manual_seed(5)
        drawn = torch.randint(1, dataset.item_num, (9,))
        logits = model.score(model.encode(batch), torch.arange(dataset.item_num).unsqueeze(0)).double()
    positives, expected = batch["item_id"], 0.0
    assert (drawn == positives.unsqueeze(1)).any()
    for row, positive in zip(logits, positives.tolist(), strict=True):
        others = [item for item in drawn.tolist() if item != positive]
        expected += row[[positive, *others]].exp().sum().log() - row[positive]
    assert found == pytest.approx(0.3 * expected.item() / len(logits), rel=1e-4)


@pytest.mark.parametrize("name", ["GSERec", "SESRec", "UniSAR", "KAR"])
def test_the_state_of_no_interaction_is_0(make_model, name):
    model, _, _, loaders = make_model(name, **settings_of(name, lambda_next_item=0.3))
    rows = next(iter(loaders[0]))[:6]
    without = {**rows.interaction, "item_id_list": 0 * rows["item_id_list"], "item_length": 0 * rows["item_length"]}
    with torch.no_grad():
        states = model.next_item_states(shaken(model).eval().encode(type(rows)(without)))
    assert (states == 0).all()


def test_a_derived_model_is_trained_by_the_loss_of_its_base(make_model, tmp_path):
    ours, theirs = properties_folder(), recbole_properties()
    of_sasrec = (theirs / "model" / "SASRec.yaml").read_text() + "\nlambda_next_item: 0.0\n"
    for base, written in ((SASRec, of_sasrec), (CL4SRec, (ours / "model" / "CL4SRec.yaml").read_text())):
        path = tmp_path / "Other.yaml"
        path.write_text(written)
        register_model(type("Other", (base,), {"__module__": __name__}), settings=path)
        try:
            model, _, _, loaders = make_model("Other", loss_type="gBCE", lambda_next_item=0.5)
            losses = model.calculate_loss(next(iter(loaders[0])))
            loss = losses[0] if isinstance(losses, tuple) else losses
            assert torch.isfinite(loss) and model.objective.next_item == 0.5
        finally:
            forget_model("Other")


def test_settings_without_effect_on_recboles_losses_are_warned_of_once(make_model, caplog):
    for name, loss_type, n in (("CL4SRec", "gBCE", 0), ("CL4SRec", "CE", 1), ("SASRec", "BCE", 0), ("SASRec", "CE", 1)):
        caplog.clear()
        negatives = {} if loss_type != "CE" or name == "CL4SRec" else {"train_neg_sample_args": None}
        make_model(name, loss_type=loss_type, lambda_next_item=0.5, **negatives)
        assert sum("lambda_next_item: no effect" in record.getMessage() for record in caplog.records) == n, name


def test_a_derived_model_refuses_a_wrong_loss(make_model):
    register_model(
        type("Other", (GSERec,), {"__module__": __name__}), settings=properties_folder() / "model/GSERec.yaml"
    )
    try:
        for wrong, message in (("bce", "loss_type is 'bce'"), ("CE", "only scores that are dot products")):
            with pytest.raises(SettingError, match=message):
                make_model("Other", loss_type=wrong)
    finally:
        forget_model("Other")


@pytest.mark.parametrize("name", ["GSERec", "SESRec", "UniSAR", "KAR"])
def test_the_head_reads_the_last_interaction(make_model, name):
    model, _, dataset, loaders = make_model(name, **settings_of(name, lambda_next_item=0.3))
    batch = next(iter(loaders[0]))
    shaken(model).eval()
    rows = batch[batch["item_length"] > 1]
    changed = rows["item_id_list"].clone()
    last = rows["item_length"].unsqueeze(1) - 1
    changed.scatter_(1, last, changed.gather(1, last) % (dataset.item_num - 1) + 1)
    other = type(rows)({**rows.interaction, "item_id_list": changed})
    with torch.no_grad():
        before, after = (model.next_item_states(model.encode(batch)) for batch in (rows, other))
    assert ((before - after).abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "BPR"}, "loss_type is 'BPR'; it must be 'BCE' or 'sampled_CE' or 'gBCE' or 'CE'"),
        ({"gbce_calibration": 1.5, "loss_type": "gBCE"}, "gbce_calibration is 1.5; it must be a number from 0 to 1"),
        ({"gbce_calibration": "x"}, "gbce_calibration is 'x'; it must be a number of at least 0"),
        ({"shared_negatives": 3}, "shared_negatives is 3; it must be True or False"),
        ({"shared_negatives": True, "resample_negatives": False}, "resample_negatives is False, but shared_negatives"),
    ],
)
def test_wrong_settings_are_refused(make_model, settings, message):
    with pytest.raises(SettingError, match=message):
        make_model("SESRec", **settings)
