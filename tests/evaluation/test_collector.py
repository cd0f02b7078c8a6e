"""Metrics from ranks that are known beforehand."""

import math

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct

from recbole_gserec.errors import GSERecError
from recbole_gserec.evaluation.collector import TieAwareCollector
from recbole_gserec.evaluation.scoring import CandidateBatch

pytestmark = pytest.mark.usefixtures("random_dataset")

USERS = [3, 5, 9, 10]
TARGETS = [21, 22, 23, 24]
RANKS = [1, 2, 4, 7]


def batch_with_ranks(ranks, users=USERS, targets=TARGETS, n_negatives=8):
    """A batch whose first candidate stands at the given rank, and the scores that say so."""
    negatives = 100 + torch.arange(len(ranks) * n_negatives).view(len(ranks), n_negatives)
    users, targets = users[: len(ranks)], targets[: len(ranks)]
    candidates = torch.cat([torch.tensor(targets).unsqueeze(1), negatives], dim=1)
    scores = torch.stack([torch.tensor([rank - 0.5, *range(1, n_negatives + 1)]) for rank in ranks]).neg()
    scores = torch.cat([scores, torch.full((len(ranks), 1), -torch.inf)], dim=1)
    features = Interaction({"user_id": torch.tensor(users), "item_id": torch.tensor(targets)})
    rows = torch.arange(len(ranks))
    return scores, CandidateBatch(features, candidates, None), rows, torch.zeros_like(rows)


def evaluate(config, *batches, data=None):
    collector, evaluator = TieAwareCollector(config), Evaluator(config)
    if data is not None:
        collector.data_collect(data)
    for batch in batches:
        collector.eval_batch_collect(*batch)
    return evaluator.evaluate(collector.get_data_struct()), collector


@pytest.fixture
def config(make_config):
    def make(*metrics, topk=(1, 2, 5), **settings):
        depth = "" if metrics[0] == "GAUC" else f"@{topk[0]}"
        settings = {"metric_decimal_place": 9, **settings}
        return make_config(metrics=list(metrics), topk=list(topk), valid_metric=metrics[0] + depth, **settings)

    return make


def test_hit_and_ndcg_as_fractions(config):
    result, _ = evaluate(config("Hit", "NDCG", "MRR", "Recall", "Precision", "MAP"), batch_with_ranks(RANKS))
    second, fourth = 1 / math.log2(3), 1 / math.log2(5)
    expected = {
        "hit@1": 1 / 4,
        "hit@2": 2 / 4,
        "hit@5": 3 / 4,
        "ndcg@1": 1 / 4,
        "ndcg@2": (1 + second) / 4,
        "ndcg@5": (1 + second + fourth) / 4,
        "mrr@1": 1 / 4,
        "mrr@2": (1 + 1 / 2) / 4,
        "mrr@5": (1 + 1 / 2 + 1 / 4) / 4,
        "recall@1": 1 / 4,
        "recall@2": 2 / 4,
        "recall@5": 3 / 4,
        "precision@1": 1 / 4,
        "precision@2": (1 / 2 + 1 / 2) / 4,
        "precision@5": (1 / 5 + 1 / 5 + 1 / 5) / 4,
        "map@1": 1 / 4,
        "map@2": (1 + 1 / 2) / 4,
        "map@5": (1 + 1 / 2 + 1 / 4) / 4,
    }
    assert result == pytest.approx(expected, abs=1e-8)


def test_ties_count_against_the_target(config):
    scores, batch, rows, columns = batch_with_ranks([1, 1])
    scores[0, :-1] = 3.0
    scores[1, 0] = scores[1, 1]
    result, collector = evaluate(config("Hit", topk=(1, 2, 9)), (scores, batch, rows, columns))
    assert result == {"hit@1": 0, "hit@2": 1 / 2, "hit@9": 1}
    assert collector.per_user_ranks()["rank"].tolist() == [9, 2]


def test_a_target_without_a_score_is_reported_and_comes_last(config, caplog):
    scores, *others = batch_with_ranks([1, 1])
    scores[0, 0] = torch.nan
    result, collector = evaluate(config("Hit", topk=(1, 2, 9)), (scores, *others))
    assert result == {"hit@1": 1 / 2, "hit@2": 1 / 2, "hit@9": 1 / 2}
    assert collector.per_user_ranks()["rank"].tolist() == [10, 1]
    assert "GSERec: the scores of 1 of 2 targets are NaN: these have the last rank" in caplog.text


def test_without_any_score_there_is_no_result(config):
    """It would be that of a bad model, and the next evaluation is another one."""
    settings = config("Hit")
    scores, *others = batch_with_ranks([1, 1])
    collector = TieAwareCollector(settings)
    collector.eval_batch_collect(scores.where(scores.isinf(), torch.nan), *others)
    with pytest.raises(GSERecError, match="GSERec: the scores of 2 of 2 targets are NaN: the training diverged. Train"):
        collector.get_data_struct()
    collector.data_struct = DataStruct()
    collector.eval_batch_collect(scores, *others)
    assert Evaluator(settings).evaluate(collector.get_data_struct())["hit@1"] == 1


def test_fewer_candidates_than_topk(config):
    result, _ = evaluate(config("Hit", topk=(1, 5, 50)), batch_with_ranks([1, 4], n_negatives=3))
    assert result == {"hit@1": 1 / 2, "hit@5": 1, "hit@50": 1}


def test_batches_add_up(config):
    settings = config("Hit", "NDCG")
    whole, collector = evaluate(settings, batch_with_ranks(RANKS))
    parts, in_parts = evaluate(
        settings, *(batch_with_ranks([RANKS[row]], [USERS[row]], [TARGETS[row]]) for row in range(4))
    )
    assert parts == whole
    assert in_parts.per_user_ranks().equals(collector.per_user_ranks())


def test_ranks_of_each_user(config):
    _, collector = evaluate(config("NDCG"), batch_with_ranks(RANKS))
    ranks = collector.per_user_ranks()
    assert ranks.to_dict("list") == {"user": USERS, "item": TARGETS, "rank": RANKS}
    # They are those of the last evaluation, until the next is finished.
    collector.eval_batch_collect(*batch_with_ranks([3], [4], [6]))
    assert collector.per_user_ranks().equals(ranks)
    collector.get_data_struct()
    assert collector.per_user_ranks().to_dict("list") == {"user": [4], "item": [6], "rank": [3]}


def test_ranks_before_any_evaluation(config):
    assert TieAwareCollector(config("Hit")).per_user_ranks().empty


def test_full_ranking_has_the_same_metrics(config):
    """Scores of all items, and two targets of one user."""
    settings = config("Hit", "Recall", topk=(1, 3), eval_args={"split": {"LS": "valid_and_test"}, "mode": "full"})
    scores = torch.tensor([[-torch.inf, 5, 4, 3, 2, 1], [-torch.inf, 1, 1, 1, 1, 1], [-torch.inf, 9, 1, 8, 2, 7]])
    features = Interaction({"user_id": torch.tensor([7, 8, 9])})
    rows, items = torch.tensor([0, 1, 2, 2]), torch.tensor([2, 4, 5, 4])
    result, collector = evaluate(settings, (scores, features, rows, items))
    assert collector.per_user_ranks().to_dict("list") == {
        "user": [7, 8, 9, 9],
        "item": [2, 4, 5, 4],
        "rank": [2, 5, 3, 4],
    }
    recall = (1 + 0 + 1 / 2) / 3
    assert result == pytest.approx({"hit@1": 0, "hit@3": 2 / 3, "recall@1": 0, "recall@3": recall}, abs=1e-8)


def test_area_under_the_curve_per_user(config):
    # A target at rank r stands before 9 - r of 8 negatives.
    result, collector = evaluate(config("GAUC"), batch_with_ranks(RANKS))
    assert result == pytest.approx({"gauc": np.mean([(9 - rank) / 8 for rank in RANKS])}, abs=1e-6)
    assert collector.per_user_ranks().empty, "no rank is asked for"
    scores, *rest = batch_with_ranks(RANKS)
    scores[0, 4:] = -torch.inf  # The first user has three negatives only, the target stands before all.
    scores[2, 6:] = -torch.inf  # The third has five, of which three stand before the target.
    result, _ = evaluate(config("GAUC"), (scores, *rest))
    assert result == pytest.approx({"gauc": (1 + 7 / 8 + 2 / 5 + 2 / 8) / 4}, abs=1e-6)


@pytest.mark.parametrize("model", ["GSERec", "BPR"])
def test_metrics_of_recommended_items(config, make_model, prepare, model):
    """Against the lists that follow from scores and candidates by sorting."""
    from recbole.utils import get_trainer

    names = ["ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage", "MRR"]
    settings = {"metrics": names, "topk": [1, 4], "valid_metric": "MRR@4", "metric_decimal_place": 9}
    built, config, dataset, loaders = make_model(model, eval_batch_size=11, epochs=1, **settings)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, built)
    trainer.eval_collector.data_collect(loaders[0])
    result = trainer.evaluate(loaders[2], load_best_model=False)
    lists = []
    with torch.no_grad():
        for batch in loaders[2]:
            _, scores, _, _ = trainer._neg_sample_batch_eval(batch)
            for row, row_scores in enumerate(scores[:, :-1]):
                order = sorted(range(100), key=lambda index, given=row_scores: -given[index].item())
                lists.append(batch.candidates[row, order[:4]].tolist())
    counts = np.bincount(loaders[0]._dataset.inter_feat["item_id"].numpy(), minlength=dataset.item_num)
    for k in (1, 4):
        shown = [item for items in lists for item in items[:k]]
        assert result[f"itemcoverage@{k}"] == pytest.approx(len(set(shown)) / dataset.item_num, abs=1e-8)
        assert result[f"averagepopularity@{k}"] == pytest.approx(np.mean(counts[shown]), abs=1e-8)
        frequency = np.unique(shown, return_counts=True)[1] / len(shown)
        entropy = -(frequency * np.log(frequency)).mean()
        assert result[f"shannonentropy@{k}"] == pytest.approx(entropy, abs=1e-6)
    assert result.keys() >= {"giniindex@4", "tailpercentage@4", "mrr@4"}
    ranks = trainer.eval_collector.per_user_ranks()
    assert len(ranks) == 40
    assert result["mrr@4"] == pytest.approx(np.where(ranks["rank"] <= 4, 1 / ranks["rank"], 0).mean(), abs=1e-8)


def test_per_user_ranks_are_those_of_the_metrics(make_model):
    from recbole.utils import get_trainer

    model, config, _, loaders = make_model("SASRec", hidden_size=8, eval_batch_size=9, metric_decimal_place=9)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    for loader in loaders[1:]:
        result = trainer.evaluate(loader, load_best_model=False)
        ranks = trainer.eval_collector.per_user_ranks()
        assert ranks["user"].tolist() == loader._dataset.inter_feat["user_id"].tolist()
        assert ranks["item"].tolist() == loader._dataset.inter_feat["item_id"].tolist()
        for k in (1, 5, 10):
            hit = ranks["rank"] <= k
            assert result[f"hit@{k}"] == pytest.approx(hit.mean(), abs=1e-8)
            assert result[f"ndcg@{k}"] == pytest.approx((hit / np.log2(ranks["rank"] + 1)).mean(), abs=1e-8)


def test_users_of_rows_that_are_pairs(config):
    """RecBole's own sampled evaluation has a row for each pair of a user and a candidate."""
    scores = torch.full((2, 7), -torch.inf)
    scores[0, [1, 2, 3]], scores[1, [4, 5, 6]] = torch.tensor([3.0, 2, 1]), torch.tensor([1.0, 2, 3])
    pairs = Interaction({"user_id": torch.tensor([5, 5, 5, 6, 6, 6])})
    _, collector = evaluate(config("NDCG"), (scores, pairs, torch.tensor([0, 1]), torch.tensor([1, 4])))
    assert collector.per_user_ranks().to_dict("list") == {"user": [5, 6], "item": [1, 4], "rank": [1, 3]}
