"""The fast path against RecBole's slow one: ``predict`` on every (row, candidate) pair, and RecBole's own metrics."""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector, Evaluator
from recbole.utils import get_trainer

from recbole_gserec.evaluation.collector import TieAwareCollector
from recbole_gserec.evaluation.scoring import CandidateBatch, score_batch
from recbole_gserec.models import search_recommender
from recbole_gserec.models.gserec import GSERec

SMALL = {"embedding_size": 8, "hidden_size": 8, "inner_size": 8, "mlp_hidden_size": [8], "dropout_prob": 0.1}
DETAILED = {"topk": [1, 5, 10, 50], "metric_decimal_place": 9}
POINTWISE = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
WITH_TITLES = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title", "price"]}}
MODELS = {
    "SASRec": {},
    "GRU4Rec": {},
    "BERT4Rec": {},
    "FPMC": {},
    "DIN": POINTWISE,
    "LightGCN": {},
    "BPR": {},
    "NeuMF": {"mf_embedding_size": 8, "mlp_embedding_size": 8},
    "FM": {**POINTWISE, **WITH_TITLES},
    "DeepFM": {**POINTWISE, **WITH_TITLES},
    "GSERec": {},
}
# Counts decide their scores, many of them equal.
COUNTING = {"Pop": {"train_batch_size": 16}, "ItemKNN": {}}


@pytest.fixture
def item_features(random_dataset, random_rows):
    """Two features of items, one a sequence; returns the folder of the datasets."""
    rng = np.random.default_rng(0)
    items = {row[1] for row in random_rows["inter"]}
    lines = [f"{item}\t{rng.integers(9)} w{rng.integers(9)}\t{rng.integers(5)}" for item in sorted(items)]
    text = "\n".join(["item_id:token\ttitle:token_seq\tprice:token", *lines]) + "\n"
    (random_dataset / "toy" / "toy.item").write_text(text)
    return random_dataset


def randomise(model):
    """Weights so large that no two scores are equal, and tables that a model keeps for evaluation forgotten."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "log_tau" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model.eval()


def build(make_model, name, **settings):
    model, config, dataset, loaders = make_model(name, **SMALL, **settings)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    if name in COUNTING:
        trainer.fit(loaders[0], saved=False, verbose=False)
        model.eval()
    else:
        randomise(model)
    return model, config, trainer, loaders


@torch.no_grad()
def slow_scores(model, loader):
    """``predict`` of each row's candidates, one row after the other: ``[n_rows, n_candidates]``."""
    dataset, scores = loader._dataset, []
    for row in range(len(dataset)):
        candidates = loader.candidates[row]
        pairs = dataset[np.full(len(candidates), row)]
        pairs.update(Interaction({dataset.iid_field: candidates}))
        scores.append(model.predict(dataset.join(pairs)).view(-1))
    return torch.stack(scores)


@torch.no_grad()
def fast_scores(trainer, loader):
    parts = []
    for batch in loader:
        given, scores, rows, columns = trainer._neg_sample_batch_eval(batch)
        assert given is batch
        assert (scores[:, -1] == -torch.inf).all()
        assert rows.tolist() == list(range(len(batch)))
        assert (columns == 0).all()
        parts.append(scores[:, :-1])
    return torch.cat(parts)


def recbole_metrics(config, loader, scores):
    """RecBole's own collector and metrics on the users x items matrix of its slow path."""
    dense = torch.full((len(scores), loader._dataset.item_num), -torch.inf).scatter_(1, loader.candidates, scores)
    collector, evaluator = Collector(config), Evaluator(config)
    assert type(collector) is Collector
    collector.eval_batch_collect(dense, None, torch.arange(len(dense)), loader.candidates[:, 0])
    return evaluator.evaluate(collector.get_data_struct())


@pytest.mark.parametrize("name", [*MODELS, *COUNTING])
def test_scores_are_those_of_predict(item_features, make_model, name):
    settings = {**MODELS, **COUNTING}[name]
    model, config, trainer, loaders = build(make_model, name, eval_batch_size=17, **DETAILED, **settings)
    for loader in loaders[1:]:
        slow, fast = slow_scores(model, loader), fast_scores(trainer, loader)
        assert slow.std() > 1e-3
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5, check_dtype=False)
        if name in COUNTING:
            continue
        assert ((fast == fast[:, :1]).sum(1) == 1).all(), "ties would make the comparison of metrics vain"
        result = trainer.evaluate(loader, load_best_model=False)
        expected = recbole_metrics(config, loader, fast)
        assert list(result) == [f"{metric}@{k}" for metric in ("hit", "ndcg") for k in (1, 5, 10, 50)]
        assert result == pytest.approx(expected, abs=1e-8)
        assert 0.2 < result["hit@50"] < 0.9


@pytest.mark.parametrize("name", ["FM", "DeepFM"])
def test_features_of_the_candidate_are_used_and_not_those_of_the_target(item_features, make_model, name):
    model, _, trainer, (_, _, loader) = build(make_model, name, **MODELS[name])
    before = fast_scores(trainer, loader)
    dataset = loader._dataset
    target, other = loader.candidates[0, :2]
    assert dataset.item_feat["price"].unique().numel() > 3
    dataset.item_feat["price"][other] = dataset.item_feat["price"][other] % 4 + 1
    after = fast_scores(trainer, loader)
    changed = before != after
    assert (changed == (loader.candidates == other)).all()
    assert changed.any()


@pytest.mark.parametrize("name", ["SASRec", "LightGCN", "NeuMF", "GSERec"])
def test_scores_do_not_depend_on_batches(random_dataset, make_model, name):
    scores = []
    for size in (1, 23, 4096):
        _, _, trainer, (_, _, loader) = build(make_model, name, eval_batch_size=size, **MODELS[name])
        assert max(len(batch) for batch in loader) == min(size, 40)
        scores.append(fast_scores(trainer, loader))
    torch.testing.assert_close(scores[1], scores[0])
    torch.testing.assert_close(scores[2], scores[0])


def test_pairs_are_predicted_in_bounded_parts(random_dataset, make_model, monkeypatch):
    model, _, trainer, (_, _, loader) = build(make_model, "NeuMF", eval_batch_size=250, **MODELS["NeuMF"])
    sizes, predict = [], model.predict
    monkeypatch.setattr(model, "predict", lambda pairs: (sizes.append(len(pairs)), predict(pairs))[1])
    fast_scores(trainer, loader)
    assert set(sizes) == {200}
    assert sum(sizes) == 40 * 100


def test_padding_ends_every_ranking(random_dataset, make_model):
    model, config, _, (_, _, loader) = build(make_model, "BPR")
    batch = next(iter(loader))
    candidates = batch.candidates.clone()
    candidates[3, 60:] = 0
    batch = CandidateBatch(batch.interaction, candidates, batch.dataset)
    with torch.no_grad():
        _, scores, _, _ = score_batch(model, batch, torch.device("cpu"), 4096)
    assert (scores[3, 60:] == -torch.inf).all()
    assert scores[3, :60].isfinite().all()
    assert scores[[0, 1, 2]][:, :-1].isfinite().all()


def test_a_model_without_opinion_gets_no_hit(random_dataset, make_model):
    model, _, trainer, (_, _, loader) = build(make_model, "BPR")
    for parameter in model.parameters():
        torch.nn.init.ones_(parameter)
    result = trainer.evaluate(loader, load_best_model=False)
    assert set(result.values()) == {0}
    assert (trainer.eval_collector.per_user_ranks()["rank"] == 100).all()


# ---- GSERec ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def gserec(random_dataset, make_model):
    model, _, trainer, loaders = build(make_model, "GSERec", eval_batch_size=16)
    return model, trainer, loaders[2]


@torch.no_grad()
def test_permuted_candidates_have_permuted_scores(gserec):
    model, _, loader = gserec
    batch = next(iter(loader))
    scores = model.score_candidates(batch.interaction, batch.candidates)
    order = torch.stack([torch.randperm(100, generator=torch.Generator().manual_seed(row)) for row in range(16)])
    permuted = model.score_candidates(batch.interaction, batch.candidates.gather(1, order))
    torch.testing.assert_close(permuted, scores.gather(1, order), rtol=1e-4, atol=1e-5)
    # Leaving candidates out does not change the others' scores either.
    torch.testing.assert_close(
        model.score_candidates(batch.interaction, batch.candidates[:, :7]), scores[:, :7], rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_full_sort_gives_the_same_scores(gserec):
    model, _, loader = gserec
    for batch in loader:
        every = model.full_sort_predict(batch.interaction)
        assert every.shape == (len(batch), model.n_items)
        scores = model.score_candidates(batch.interaction, batch.candidates)
        torch.testing.assert_close(every.gather(1, batch.candidates), scores, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("max_pairs", [1, 150, 100_000])
def test_bounds_on_memory_do_not_change_scores(gserec, monkeypatch, max_pairs):
    model, _, loader = gserec
    batch = next(iter(loader))
    scores = model.score_candidates(batch.interaction, batch.candidates)
    every = model.full_sort_predict(batch.interaction)
    monkeypatch.setattr(search_recommender, "MAX_PAIRS", max_pairs)
    part = (batch.interaction[:4], batch.candidates[:4]) if max_pairs == 1 else (batch.interaction, batch.candidates)
    torch.testing.assert_close(model.score_candidates(*part), scores[: len(part[1])], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.full_sort_predict(part[0]), every[: len(part[1])], rtol=1e-4, atol=1e-5)


def test_a_history_is_encoded_once(gserec, monkeypatch):
    model, trainer, loader = gserec
    rows, encode = [], GSERec.encode

    def counted(self, interaction):
        rows.append(len(interaction))
        return encode(self, interaction)

    monkeypatch.setattr(GSERec, "encode", counted)
    trainer.evaluate(loader, load_best_model=False)
    assert sorted(rows) == [8, 16, 16]
    rows.clear()
    monkeypatch.setattr(search_recommender, "MAX_PAIRS", 500)
    trainer.evaluate(loader, load_best_model=False)
    assert sum(rows) == 40
    assert max(rows) == 5


def test_the_collector_in_use_is_ours(gserec):
    _, trainer, _ = gserec
    assert type(trainer.eval_collector) is TieAwareCollector
