"""Batches of the three dataloaders, and which of them is used when."""

import numpy as np
import pytest
import torch
from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader, TrainDataLoader
from recbole.utils import get_trainer

from recbole_gserec.data.train_dataloaders import SearchTrainDataLoader
from recbole_gserec.errors import SettingError
from recbole_gserec.evaluation import scoring
from recbole_gserec.evaluation.scoring import (
    AllItemsEvalDataLoader,
    BoundedFullSortEvalDataLoader,
    CandidateEvalDataLoader,
    SearchCandidateEvalDataLoader,
    has_full_ranking,
    predict_pairs,
)
from tests.recommend.stored_models import randomise

pytestmark = pytest.mark.usefixtures("random_dataset")

FULL = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}}
VALUE = {"metrics": ["AUC"], "valid_metric": "AUC"}


def with_mode(mode, split=None):
    return {"eval_args": {**FULL["eval_args"], "mode": mode, "split": split or {"LS": "valid_and_test"}}}


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        ("GSERec", {}, (SearchTrainDataLoader, SearchCandidateEvalDataLoader, SearchCandidateEvalDataLoader)),
        ("BPR", {}, (TrainDataLoader, CandidateEvalDataLoader, CandidateEvalDataLoader)),
        ("SASRec", with_mode("pop20"), (TrainDataLoader, CandidateEvalDataLoader, CandidateEvalDataLoader)),
        ("GSERec", FULL, (SearchTrainDataLoader, BoundedFullSortEvalDataLoader, BoundedFullSortEvalDataLoader)),
        ("SASRec", FULL, (TrainDataLoader, FullSortEvalDataLoader, FullSortEvalDataLoader)),
        (
            "GSERec",
            with_mode({"valid": "uni20", "test": "full"}),
            (SearchTrainDataLoader, SearchCandidateEvalDataLoader, BoundedFullSortEvalDataLoader),
        ),
        # What does not rank one target among candidates stays RecBole's.
        ("BPR", {**VALUE, **with_mode("uni20")}, (TrainDataLoader, NegSampleEvalDataLoader, NegSampleEvalDataLoader)),
        (
            "BPR",
            with_mode("uni20", {"RS": [0.8, 0.1, 0.1]}),
            (TrainDataLoader, CandidateEvalDataLoader, CandidateEvalDataLoader),
        ),
    ],
)
def test_choice(prepare, model, settings, expected):
    _, _, loaders = prepare(model, **settings)
    assert tuple(map(type, loaders)) == expected


# ---- training -------------------------------------------------------------------------------------------------------


def epoch_of(loader):
    batches = list(loader)
    columns = [torch.cat([batch[field] for batch in batches]) for field in ("user_id", "item_id", "neg_item_id")]
    return batches, tuple(column.numpy() for column in columns)


def test_rows_come_once_with_their_negatives_beside_them(prepare, random_rows):
    _, dataset, (train, _, _) = prepare("GSERec", train_batch_size=100)
    batches, (users, items, negatives) = epoch_of(train)
    assert [len(batch) for batch in batches[:-1]] == [100] * (len(batches) - 1)
    assert negatives.shape == (len(train._dataset), 4)
    interacted = {}
    for user, item, _ in random_rows["inter"]:
        interacted.setdefault(user, []).append(item)
    pairs = sorted(zip(dataset.id2token("user_id", users), dataset.id2token("item_id", items), strict=True))
    # All but the first, which has no history, and the two that are held out.
    assert pairs == sorted((user, item) for user, own in interacted.items() for item in own[1:-2])
    known = {user: set(own[:-2]) for user, own in interacted.items()}
    held_out = {(user, item) for user, own in interacted.items() for item in own[-2:]}
    drawn = set()
    for user, row in zip(dataset.id2token("user_id", users), dataset.id2token("item_id", negatives), strict=True):
        assert not known[user] & set(row)
        drawn.update((user, item) for item in row)
    assert drawn & held_out, "leaving held-out items out of the negatives would tell of them"


def test_negatives_are_drawn_anew_or_kept(prepare):
    def epochs(**settings):
        _, _, (train, _, _) = prepare("GSERec", shuffle=False, **settings)
        return [epoch_of(train)[1][2] for _ in range(2)]

    first, second = epochs()
    assert (first != second).mean() > 0.9
    np.testing.assert_array_equal(epochs()[0], first)
    np.testing.assert_array_equal(epochs()[1], second)
    assert (epochs(seed=7)[0] != first).mean() > 0.9
    kept, again = epochs(resample_negatives=False)
    np.testing.assert_array_equal(kept, again)


def test_kept_negatives_belong_to_their_rows(prepare):
    _, _, (train, _, _) = prepare("GSERec", resample_negatives=False)
    by_row = []
    for _ in range(2):
        users, items, negatives = epoch_of(train)[1]
        rows = {(user, item): tuple(row) for user, item, row in zip(users, items, negatives.tolist(), strict=True)}
        by_row.append((list(rows), rows))
    assert by_row[0][0] != by_row[1][0], "rows are shuffled"
    assert by_row[0][1] == by_row[1][1]


def test_negatives_by_popularity(prepare, random_rows):
    def mean_count(**arguments):
        _, _, (train, _, _) = prepare("GSERec", train_neg_sample_args={"sample_num": 50, **arguments})
        counts = np.bincount(train._dataset.inter_feat["item_id"].numpy(), minlength=train._dataset.item_num)
        return counts[epoch_of(train)[1][2]].mean()

    even = mean_count(distribution="uniform")
    popular = mean_count(distribution="popularity")
    assert mean_count(distribution="popularity", alpha=3.0) > 1.1 * popular > 1.2 * even


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"distribution": "uniform", "dynamic": True, "candidate_num": 2}, "dynamic"), ({"distribution": "None"}, "dist")],
)
def test_negatives_that_are_not_supported(prepare, arguments, named):
    with pytest.raises(SettingError, match=f"train_neg_sample_args.*{named}"):
        prepare("GSERec", train_neg_sample_args=arguments)


# ---- candidates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["GSERec", "SASRec"])
def test_candidate_batches_hold_all_rows_in_order(prepare, model):
    _, dataset, (_, _, loader) = prepare(model, eval_batch_size=12)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [12, 12, 12, 4]
    assert len(loader) == 4
    assert all(batch.candidates.shape[1] == 100 for batch in batches)
    items = torch.cat([batch.interaction["item_id"] for batch in batches])
    candidates = torch.cat([batch.candidates for batch in batches])
    assert torch.equal(items, loader._dataset.inter_feat["item_id"])
    assert torch.equal(candidates[:, 0], items)
    assert candidates.min() > 0 and candidates.max() < dataset.item_num


def test_candidate_batches_bound_the_scores_of_models_that_score_all_items(prepare, monkeypatch):
    monkeypatch.setattr(scoring, "MAX_SCORES", 1000)
    _, dataset, (_, _, loader) = prepare("BPR", eval_batch_size=4096)
    assert max(len(batch) for batch in loader) == 1000 // dataset.item_num
    monkeypatch.setattr(scoring, "MAX_SCORES", 1)
    _, _, (_, _, loader) = prepare("BPR")
    assert {len(batch) for batch in loader} == {1}


@pytest.mark.parametrize("seed", [-1, "x", 1.5, True])
def test_seed_of_the_candidates_is_checked(prepare, seed):
    with pytest.raises(SettingError, match="eval_candidate_seed"):
        prepare("BPR", eval_candidate_seed=seed)


# ---- full ranking ---------------------------------------------------------------------------------------------------


def full_ranking(make_model, **settings):
    model, config, dataset, loaders = make_model("GSERec", **FULL, metric_decimal_place=9, **settings)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    return trainer, dataset, loaders[2], trainer.evaluate(loaders[2], load_best_model=False)


def test_full_ranking_leaves_out_items_of_searches_only(make_model, random_rows):
    trainer, dataset, loader, result = full_ranking(make_model)
    catalogue = {item for _, item, _ in random_rows["inter"]}
    clicked = {item for row in random_rows["search"] for item in row[3].split()}
    masked = dataset.token2id("item_id", sorted(clicked - catalogue))
    assert len(masked) > 0
    (batch,) = list(loader)
    with torch.no_grad():
        scores = trainer.model.full_sort_predict(batch[0])
        assert scores[:, masked].isfinite().all()
        _, given, rows, items = trainer._full_sort_batch_eval(batch)
    expected = torch.isinf(given[0]).nonzero().squeeze(1).tolist()
    assert sorted([0, *masked]) == expected
    assert torch.equal(torch.isinf(given), torch.isinf(given[:1]).expand_as(given))
    allowed = [item for item in range(1, dataset.item_num) if item not in masked]
    ranks = []
    for row, item in zip(rows.tolist(), items.tolist(), strict=True):
        ranks.append(1 + sum(bool(scores[row, other] >= scores[row, item]) for other in allowed if other != item))
    assert trainer.eval_collector.per_user_ranks()["rank"].tolist() == ranks
    for k in (1, 5, 10):
        assert result[f"hit@{k}"] == pytest.approx(np.mean([rank <= k for rank in ranks]), abs=1e-8)
    assert max(ranks) <= len(allowed) == len(catalogue)


def test_full_ranking_is_bounded(make_model, monkeypatch):
    _, dataset, loader, result = full_ranking(make_model)
    assert len(loader) == 1
    monkeypatch.setattr(scoring, "MAX_SCORES", 7 * dataset.item_num + 1)
    _, _, bounded, same = full_ranking(make_model)
    sizes = [len(batch[0]) for batch in bounded]
    assert sizes == [7] * 5 + [5]
    assert same == result
    monkeypatch.setattr(scoring, "MAX_SCORES", 1)
    _, _, one_by_one, same = full_ranking(make_model)
    assert len(one_by_one) == 40
    assert same == result
    monkeypatch.undo()
    _, _, smaller, _ = full_ranking(make_model, eval_batch_size=3)
    assert max(len(batch[0]) for batch in smaller) == 3


def test_workers_draw_negatives_of_their_own_in_every_epoch(prepare):
    _, _, loaders = prepare(train_batch_size=50, worker=2, shuffle=False)
    epochs = [[batch["neg_item_id"] for batch in loaders[0]] for _ in range(2)]
    same = [(first == second).float().mean().item() for first, second in zip(*epochs, strict=True)]
    assert max(same) < 0.1
    assert (epochs[0][0] == epochs[0][1]).float().mean() < 0.1


# ---- some users' targets among all items ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["GSERec", "SASRec", "BPR", "NCL", "NeuMF"])
def test_targets_are_ranked_among_all_items_that_the_user_does_not_know(make_model, random_rows, model):
    model, config, dataset, (_, _, test) = make_model(model)
    randomise(model, 0)
    # The size of a batch changes the last bits of scores; those of pairs may be minute.
    slack = 1e-6
    if not has_full_ranking(model):
        model, slack = model.double(), 0.0
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.evaluate(test, load_best_model=False)
    loader = AllItemsEvalDataLoader(config, test, 25, has_full_ranking(model))
    trainer.evaluate(loader, load_best_model=False)
    found = trainer.eval_collector.per_user_ranks()
    assert len(found) == 25 == len(loader._rows)
    known, last = {}, {}
    for user, item, time in random_rows["inter"]:
        known.setdefault(user, set()).add(item)
        last[user] = max(last.get(user, (-1, "")), (time, item))
    for user, _, _, items in random_rows["search"]:
        known.setdefault(user, set()).update(items.split())
    catalogue = {item for _, item, _ in random_rows["inter"]}
    rows = {user: row for row, user in enumerate(dataset.id2token("user_id", test._dataset.inter_feat["user_id"]))}
    for user, target, rank in found.itertuples(index=False):
        user, item = dataset.id2token("user_id", user), dataset.id2token("item_id", target)
        assert item in known[user]
        batch = test.collate_fn([rows[user]]).interaction
        assert batch["item_id"].tolist() == [target]
        with torch.no_grad():
            if has_full_ranking(model):
                scores = model.full_sort_predict(batch).view(-1)
            else:
                scores = predict_pairs(model, test._dataset, batch, torch.arange(dataset.item_num)[None], "cpu")[0]
        others = dataset.token2id("item_id", sorted(catalogue - known[user]))
        assert rank == 1 + int((scores[others] >= scores[target] - slack).sum())


def test_the_users_ranked_among_all_items_are_the_same_for_every_model(prepare):
    def users(model, size, **settings):
        config, dataset, (_, _, test) = prepare(model, **settings)
        loader = AllItemsEvalDataLoader(config, test, size, True)
        batches = list(loader)
        assert len(loader) == len(batches)
        return [user for batch in batches for user in dataset.id2token("user_id", batch[0]["user_id"]).tolist()]

    chosen = users("GSERec", 10)
    assert len(set(chosen)) == 10
    assert chosen == sorted(chosen) == users("BPR", 10) == users("SASRec", 10, seed=7, eval_candidate_seed=2020)
    assert set(users("BPR", 5)) < set(chosen)
    assert users("BPR", 10, seed=7, eval_candidate_seed=1) == chosen
    assert len(users("BPR", 1000)) == 40
