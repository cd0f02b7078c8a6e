"""Metrics beside those of trec_eval and ranx, which this project did not write."""

import os

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

# Compiling ranx takes a minute, and its plain Python suffices for some users. It is read when numba is imported.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

import pytrec_eval
import ranx

from recbole_gserec.evaluation.collector import PlainEvaluator
from recbole_gserec.evaluation.scoring import CandidateBatch
from recbole_gserec.recommend.trec_files import RankingCollector
from recbole_gserec.results.metrics import parse_metric

pytestmark = pytest.mark.usefixtures("random_dataset")

DEPTHS = (1, 5, 10)
TREC = {"hit": "success", "ndcg": "ndcg_cut", "map": "map_cut", "precision": "P", "recall": "recall"}
RANX = {"hit": "hit_rate", "ndcg": "ndcg", "map": "map", "precision": "precision", "recall": "recall", "mrr": "mrr"}
N_USERS, N_ITEMS = 60, 150


@pytest.fixture
def config(make_config):
    return make_config(
        metrics=["Hit", "NDCG", "MRR", "MAP", "Precision", "Recall"],
        topk=list(DEPTHS),
        valid_metric="NDCG@5",
        metric_decimal_place=12,
    )


def scores_of(rng, n_columns, with_ties):
    shape = (N_USERS, n_columns)
    scores = rng.integers(0, n_columns // 2, size=shape) if with_ties else rng.random(shape)
    return torch.from_numpy(scores).float()


def sampled(rng, with_ties):
    """One target each, in column 0 of 30 candidates; the last column only ends a ranking."""
    items = np.stack([rng.choice(np.arange(1, N_ITEMS), size=30, replace=False) for _ in range(N_USERS)])
    items[::7, 25:] = 0
    candidates = torch.from_numpy(items)
    scores = scores_of(rng, 30, with_ties).masked_fill(candidates == 0, -torch.inf)
    scores = torch.cat([scores, torch.full((N_USERS, 1), -torch.inf)], dim=1)
    rows = torch.arange(N_USERS)
    batch = CandidateBatch(Interaction({"user_id": rows + 1, "item_id": candidates[:, 0]}), candidates, None)
    return scores, batch, rows, torch.zeros_like(rows)


def full(rng, with_ties):
    """One to eight targets each among all items, of which some are masked."""
    scores = scores_of(rng, N_ITEMS, with_ties)
    scores[:, 0] = -torch.inf
    is_target = torch.zeros(N_USERS, N_ITEMS, dtype=torch.bool)
    for user in range(N_USERS):
        is_target[user, rng.choice(np.arange(1, N_ITEMS), size=rng.integers(1, 9), replace=False)] = True
    scores[:, 40:60] = scores[:, 40:60].masked_fill(~is_target[:, 40:60], -torch.inf)
    rows, columns = is_target.nonzero(as_tuple=True)
    return scores, Interaction({"user_id": torch.arange(1, N_USERS + 1)}), rows, columns


def evaluated(config, batch):
    """RecBole's metrics, and for both programs the targets and the ranking of each user."""
    qrels, run = {}, {}

    def receive(batch):
        for row, item in batch.targets.tolist():
            qrels.setdefault(f"u{batch.users[row]}", {})[f"i{item}"] = 1
        for user, items in zip(batch.users, batch.items, strict=True):
            # Scores that leave no doubt about the order, whatever a program does with ties.
            run[f"u{user}"] = {f"i{item}": float(-place) for place, item in enumerate(items) if item}

    collector = RankingCollector(config, 200, receive)
    collector.eval_batch_collect(*batch)
    ranks = collector.ranks
    return PlainEvaluator(config).evaluate(collector.get_data_struct()), ranks[0][2], qrels, run


@pytest.mark.parametrize("with_ties", [False, True])
@pytest.mark.parametrize("make", [sampled, full])
def test_metrics_equal_those_of_trec_eval_and_ranx(config, make, with_ties):
    result, _, qrels, run = evaluated(config, make(np.random.default_rng(5), with_ties))
    assert len(qrels) == len(run) == N_USERS
    measures = {f"{name}.{','.join(map(str, DEPTHS))}" for name in TREC.values()}
    by_user = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    names = {f"{kind}@{depth}": f"{name}@{depth}" for kind, name in RANX.items() for depth in DEPTHS}
    others = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), list(names.values()))
    assert len(names) == len(result) == 18
    for ours, theirs in names.items():
        kind, depth = ours.split("@")
        # For users with more targets than k, RecBole divides MAP@k by k and both others by all targets.
        if kind == "map" and make is full and int(depth) < 10:
            continue
        assert result[ours] == pytest.approx(others[theirs], abs=1e-9), ours
        if kind in TREC:
            of_users = [user[f"{TREC[kind]}_{depth}"] for user in by_user.values()]
            assert result[ours] == pytest.approx(np.mean(of_users), abs=1e-9), ours
    assert 0.01 < result["ndcg@5"] < 0.9


@pytest.mark.parametrize("with_ties", [False, True])
def test_values_of_ranks_equal_those_of_trec_eval_by_user(config, with_ties):
    """What reports compute from stored ranks, for each user instead of on average."""
    _, ranks, qrels, run = evaluated(config, sampled(np.random.default_rng(6), with_ties))
    by_user = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.5,10", "success.5", "recip_rank"}).evaluate(run)
    of_users = [by_user[f"u{user}"] for user in range(1, N_USERS + 1)]
    for ours, theirs in (("NDCG@5", "ndcg_cut_5"), ("NDCG@10", "ndcg_cut_10"), ("HR@5", "success_5")):
        expected = [user[theirs] for user in of_users]
        np.testing.assert_allclose(parse_metric(ours).of_ranks(ranks), expected, rtol=0, atol=1e-9)
    reciprocal = [user["recip_rank"] for user in of_users]
    np.testing.assert_allclose(parse_metric("MRR@1000").of_ranks(ranks), reciprocal, rtol=0, atol=1e-9)


def test_trec_eval_breaks_ties_by_id_and_this_package_against_the_target(config):
    """A target with the score of one other item: trec_eval puts the larger id first, whichever is the target."""
    for target, place in (("i2", 1), ("i1", 2)):
        run = {"u1": {"i1": 0.5, "i2": 0.5}}
        value = pytrec_eval.RelevanceEvaluator({"u1": {target: 1}}, {"recip_rank"}).evaluate(run)["u1"]["recip_rank"]
        assert value == 1 / place
    candidates = torch.tensor([[2, 1]])
    scores = torch.tensor([[0.5, 0.5, -torch.inf]])
    batch = CandidateBatch(Interaction({"user_id": torch.tensor([1])}), candidates, None)
    zero = torch.zeros(1, dtype=torch.long)
    _, ranks, _, run = evaluated(config, (scores, batch, zero, zero))
    assert ranks.tolist() == [2]
    assert list(run["u1"]) == ["i1", "i2"]
