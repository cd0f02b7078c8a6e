"""Recommendations of every kind of model, against scoring all items pair by pair."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from recbole_gserec.errors import SettingError
from recbole_gserec.recommend.recommender import SCHEMA, USERS_AT_ONCE, Recommender
from recbole_gserec.recommend.trained import load_trained
from tests.conftest import random_files, write_dataset
from tests.recommend.stored_models import Plain, assert_same, by_user, store_model

MODELS = ["GSERec", "UniSAR", "USER", "NRHUB", "KAR", "LLMESR"]
MODELS += ["SASRec", "GRU4Rec", "LightGCN", "SimGCL", "DIN", "NeuMF", "FM"]
"""Ours with and without a user table; RecBole's: sequential, general, and three without ``full_sort_predict``."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Checkpoints on the random dataset by model, made when they are asked for."""
    folder = tmp_path_factory.mktemp("recommend") / "dataset"
    write_dataset(folder, "toy", **random_files())
    made = {}

    def get(model):
        if model not in made:
            made[model] = store_model(folder, model)
        return made[model]

    return get


@pytest.fixture(scope="module")
def loaded(stored):
    made = {}

    def get(model):
        if model not in made:
            made[model] = load_trained(stored(model))
        return made[model]

    return get


def recommend(trained, k=7, names=None, **how):
    options = {name: how.pop(name) for name in ("exclude_seen", "all_items") if name in how}
    recommender = Recommender(trained, **options)
    return by_user(recommender.recommend(recommender.choose(names).users, k, **how))


@pytest.mark.parametrize("model", MODELS)
def test_against_brute_force(stored, loaded, model):
    plain = Plain(stored(model), random_files())
    found = recommend(loaded(model))
    # The user who only searches is none for RecBole's models.
    assert list(found) == [user for user in plain.users if user != "[PAD]"]
    assert ("searcher" in found) == plain.is_ours
    for user in list(found)[::6] + list(found)[-1:]:
        assert_same(found[user], plain.best(user, 7))


@pytest.mark.parametrize("model", ["GSERec", "SASRec", "LightGCN", "NeuMF"])
def test_seen_items_are_left_out_and_come_back(stored, loaded, model):
    plain, trained = Plain(stored(model), random_files()), loaded(model)
    every = len(plain.candidates())
    without, all_of_them = recommend(trained, k=500), recommend(trained, k=500, exclude_seen=False)
    for user in list(without)[:5]:
        seen = plain.seen_by(user) & set(plain.candidates())
        assert seen
        assert {item for item, _ in without[user]} == set(plain.candidates()) - seen
        assert len(all_of_them[user]) == every
        assert_same(all_of_them[user], plain.best(user, 500, exclude_seen=False))


def test_items_of_searches_alone_are_recommended_when_asked(stored, loaded):
    plain, trained = Plain(stored("GSERec"), random_files()), loaded("GSERec")
    every = [token for token in plain.items if token != "[PAD]"]
    only_searched = set(every) - set(plain.candidates())
    assert only_searched
    found = recommend(trained, k=500, names=["u3"], all_items=True, exclude_seen=False)["u3"]
    assert_same(found, plain.best("u3", 500, exclude_seen=False, items=every))
    usual = recommend(trained, k=500, names=["u3"], exclude_seen=False)["u3"]
    assert not only_searched & {item for item, _ in usual}


@pytest.mark.parametrize("model", ["GSERec", "UniSAR", "SASRec", "LightGCN", "NeuMF", "DIN"])
def test_batches_and_chunks_change_nothing(loaded, model):
    usual = recommend(loaded(model))
    for how in ({"batch_size": 1}, {"batch_size": 7}, {"max_scores": 1}, {"max_scores": 333, "batch_size": 3}):
        other = recommend(loaded(model), names=list(usual)[:9], **how)
        for user, entries in other.items():
            assert_same(entries, usual[user])


def test_the_same_call_gives_the_same_bytes(stored):
    tables = []
    for _ in range(2):
        recommender = Recommender(load_trained(stored("GSERec")))
        parts = [table for _, table in recommender.recommend(recommender.choose().users, 10)]
        tables.append(pa.Table.from_batches(parts))
    assert tables[0].schema == SCHEMA
    assert tables[0].equals(tables[1])


def test_ties_come_in_the_order_of_the_items(stored):
    trained = load_trained(stored("NRHUB"))
    with torch.no_grad():
        trained.model.item_embedding.weight[1:] = trained.model.item_embedding.weight[1]
    plain = Plain(stored("NRHUB"), random_files())
    for how in ({}, {"max_scores": 50, "batch_size": 5}):
        found = recommend(trained, names=["u1", "u7"], k=4, **how)
        for user, entries in found.items():
            left = [item for item in plain.candidates() if item not in plain.seen_by(user)]
            assert [item for item, _ in entries] == left[:4]


@pytest.mark.parametrize("model", ["GSERec", "UniSAR"])
def test_no_more_scores_than_the_bound_are_held(loaded, model, monkeypatch):
    trained, sizes = loaded(model), []
    score = type(trained.model).score

    def counted(self, state, candidates):
        scores = score(self, state, candidates)
        sizes.append((scores.numel(), candidates.numel()))
        return scores

    monkeypatch.setattr(type(trained.model), "score", counted)
    recommend(trained, max_scores=200, batch_size=16)
    n_users, n_candidates = (
        len(trained.dataset.field2id_token["user_id"]) - 1,
        len({i for i in trained.raw.interactions[1]}),
    )
    assert max(size for size, _ in sizes) <= 200
    assert max(width for _, width in sizes) <= 200 // 9
    assert sum(size for size, _ in sizes) == n_users * n_candidates


def test_models_that_score_all_items_get_fewer_rows(loaded, monkeypatch):
    trained, sizes = loaded("LightGCN"), []
    full = type(trained.model).full_sort_predict

    def counted(self, interaction):
        scores = full(self, interaction)
        sizes.append(scores.numel())
        return scores

    monkeypatch.setattr(type(trained.model), "full_sort_predict", counted)
    recommend(trained, max_scores=2 * trained.dataset.item_num + 1)
    assert set(sizes[:-1]) == {2 * trained.dataset.item_num}


def test_pairs_are_bounded(loaded, monkeypatch):
    trained, sizes = loaded("NeuMF"), []
    predict = type(trained.model).predict

    def counted(self, interaction):
        sizes.append(len(interaction))
        return predict(self, interaction)

    monkeypatch.setattr(type(trained.model), "predict", counted)
    recommend(trained)
    assert max(sizes) == 80  # Two items of forty users: eval_batch_size is 100.
    assert len(sizes) > 1


def test_users_are_encoded_a_bounded_number_at_a_time(loaded, monkeypatch):
    trained, sizes = loaded("GSERec"), []
    encode = type(trained.model).encode

    def counted(self, interaction):
        sizes.append(len(interaction))
        return encode(self, interaction)

    monkeypatch.setattr(type(trained.model), "encode", counted)
    n_users = len(recommend(trained))
    recommender = Recommender(trained)
    everybody = np.tile(recommender.choose().users, 20)
    sizes.clear()
    list(recommender.recommend(everybody, 3))
    assert len(everybody) == 20 * n_users == sum(sizes) > max(sizes) == USERS_AT_ONCE


@pytest.mark.parametrize("model", ["GSERec", "LightGCN", "NeuMF"])
def test_of_nobody_nothing_is_asked(loaded, model):
    recommender = Recommender(loaded(model))
    choice = recommender.choose([])
    assert len(choice.users) == 0 and choice.left_out == []
    assert list(recommender.recommend(choice.users, 3)) == []


def test_users_come_as_they_are_asked_for_and_once(loaded):
    assert list(recommend(loaded("GSERec"), names=["u7", "u1", "u7"])) == ["u7", "u1"]


@pytest.mark.parametrize("name", ["nobody", "[PAD]"])
def test_an_unknown_user_is_refused(loaded, name):
    with pytest.raises(
        SettingError,
        match=f"user '{name[0:3]}.*neither in the dataset 'toy'.*nor in the new events".replace("[", r"\["),
    ):
        Recommender(loaded("GSERec")).choose(["u1", name])


def test_k_has_to_be_a_number_of_items(loaded):
    recommender = Recommender(loaded("GSERec"))
    with pytest.raises(SettingError, match="k is 0"):
        list(recommender.recommend(np.array([1]), 0))


def test_scores_that_are_no_numbers_are_no_recommendations(stored):
    trained = load_trained(stored("NRHUB"))
    with torch.no_grad():
        trained.model.item_embedding.weight[5] = torch.nan
    found = recommend(trained, k=500, names=["searcher"], exclude_seen=False)
    name = trained.dataset.field2id_token["item_id"][5]
    assert len(found["searcher"]) == len({i for i in trained.raw.interactions[1]}) - 1
    assert name not in {item for item, _ in found["searcher"]}
