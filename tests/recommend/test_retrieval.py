"""Items retrieved by the next-item head and ranked by the model, against scoring every item with plain loops."""

import numpy as np
import pytest
import torch

from recbole_gserec.errors import GSERecError, SettingError
from recbole_gserec.recommend.recommender import Recommender
from recbole_gserec.recommend.trained import load_trained
from tests.conftest import random_files, write_dataset
from tests.recommend.stored_models import Plain, assert_same, by_user, store_model

WITH_HEAD = ["GSERec", "UniSAR", "SESRec", "USER", "JSR", "KAR"]
DOT_PRODUCT = ["NRHUB", "UnifiedSSR", "LLMESR", "QuerySeqRec"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Checkpoints on the random dataset by model, made when they are asked for."""
    folder = tmp_path_factory.mktemp("retrieval") / "dataset"
    write_dataset(folder, "toy", **random_files())
    made = {}

    def get(model):
        if model not in made:
            made[model] = store_model(folder, model, **({"lambda_next_item": 0.5} if model in WITH_HEAD else {}))
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


def recommend(trained, k=7, names=None, new=None, **how):
    options = {name: how.pop(name) for name in ("exclude_seen", "all_items") if name in how}
    recommender = Recommender(trained, new, **options)
    return by_user(recommender.recommend(recommender.choose(names).users, k, **how))


@torch.no_grad()
def products(plain, user, items):
    """The head's dot products, one item at a time."""
    state = plain.model.encode(plain.batch(user))
    of_user = plain.model.next_item_states(state)[0].numpy()
    vectors = plain.model.next_item_vectors(state).numpy()
    return np.array([sum(a * b for a, b in zip(of_user, vectors[plain.items[item]], strict=True)) for item in items])


def retrieved_by_hand(plain, user, n, exclude_seen=True, items=None):
    items = plain.candidates() if items is None else items
    left = [item for item in items if not (exclude_seen and item in plain.seen_by(user))]
    found = products(plain, user, left)
    kept = sorted(sorted(range(len(left)), key=lambda index: (-found[index], index))[:n])
    return [left[index] for index in kept]


def best_by_hand(plain, user, k, retrieved):
    scores = plain.scores(user, retrieved)
    order = sorted(range(len(retrieved)), key=lambda index: (-scores[index], index))[:k]
    return [(retrieved[index], scores[index]) for index in order]


@pytest.mark.parametrize("model", WITH_HEAD)
@pytest.mark.parametrize("how", [{}, {"max_scores": 60, "batch_size": 3}, {"max_scores": 1}])
def test_the_model_ranks_what_the_head_retrieves(stored, loaded, model, how):
    plain, names = Plain(stored(model), random_files()), ["u1", "u9", "u22", "searcher"]
    found = recommend(loaded(model), names=names, k=5, retrieve=6, **how)
    assert list(found) == names
    for user in names:
        assert_same(found[user], best_by_hand(plain, user, 5, retrieved_by_hand(plain, user, 6)))
    # Otherwise the retrieval left nothing out, and this would prove little.
    assert any([item for item, _ in found[user]] != [item for item, _ in plain.best(user, 5)] for user in names)


@pytest.mark.parametrize("model", ["GSERec", "UniSAR", "NRHUB"])
@pytest.mark.parametrize("missing", [0, 1])
def test_retrieving_all_items_is_exact(stored, loaded, model, missing):
    n_items = len(Plain(stored(model), random_files()).candidates())
    found = recommend(loaded(model), retrieve=n_items - missing)
    exact = recommend(loaded(model))
    assert list(found) == list(exact)
    if missing == 0:
        assert found == exact
    for user, entries in exact.items():
        # Users have seen more than the one item that is not retrieved.
        assert_same(found[user], entries)


@pytest.mark.parametrize("model", DOT_PRODUCT)
def test_retrieval_by_the_score_itself_is_exact(loaded, model):
    exact = recommend(loaded(model))
    for retrieve in (7, 20):
        found = recommend(loaded(model), retrieve=retrieve)
        for user, entries in exact.items():
            assert_same(found[user], entries)


def test_nothing_remains_to_rank_after_retrieval_by_the_score(loaded, monkeypatch):
    trained = loaded("NRHUB")
    monkeypatch.setattr(type(trained.model), "score", lambda *_: pytest.fail("ranked once more"))
    assert len(recommend(trained, k=3, names=["u1"], retrieve=3)["u1"]) == 3


@pytest.mark.parametrize("model", ["GSERec", "UnifiedSSR"])
def test_seen_items_are_excluded_before_the_retrieval(stored, loaded, model):
    plain = Plain(stored(model), random_files())
    found = recommend(loaded(model), k=9, retrieve=9)
    for user, entries in found.items():
        assert len(entries) == 9
        assert not plain.seen_by(user) & {item for item, _ in entries}
    with_seen = recommend(loaded(model), k=9, retrieve=9, exclude_seen=False)
    assert any(plain.seen_by(user) & {item for item, _ in entries} for user, entries in with_seen.items())


def test_users_who_have_seen_nearly_all_items_get_the_others(stored):
    """Of the candidates two are left to one user, who gets both, and all five to the others."""
    plain, trained = Plain(stored("GSERec"), random_files()), load_trained(stored("GSERec"))
    recommender = Recommender(trained)
    user, other = recommender.choose(["u1", "u2"]).users
    left = [item for item in plain.candidates() if item not in plain.seen_by("u1")][:2]
    touched = recommender._users.touched
    kept = [plain.items[item] for item in left]
    everything = np.setdiff1d(recommender._candidates, kept)
    users = np.concatenate([touched.interactions[0], np.full(len(everything), user)])
    items = np.concatenate([touched.interactions[1], everything])
    recommender._seen = type(recommender._seen)(users, items, len(recommender._users), recommender._candidates)
    found = by_user(recommender.recommend(np.array([user, other]), 5, retrieve=6))
    assert {item for item, _ in found["u1"]} == set(left)
    assert len(found["u2"]) == 5


def test_only_candidates_are_retrieved(stored, loaded):
    plain, trained = Plain(stored("GSERec"), random_files()), loaded("GSERec")
    every = [token for token in plain.items if token != "[PAD]"]
    only_searched = set(every) - set(plain.candidates())
    n = len(plain.candidates()) - 1
    usual = recommend(trained, k=n, retrieve=n, exclude_seen=False)
    assert not only_searched & {item for entries in usual.values() for item, _ in entries}
    found = recommend(trained, k=5, retrieve=15, names=["u3"], all_items=True, exclude_seen=False)["u3"]
    retrieved = retrieved_by_hand(plain, "u3", 15, exclude_seen=False, items=every)
    assert only_searched & set(retrieved)
    assert_same(found, best_by_hand(plain, "u3", 5, retrieved))


@pytest.mark.parametrize("model", ["GSERec", "UniSAR", "NRHUB"])
@pytest.mark.parametrize("how", [{}, {"max_scores": 50, "batch_size": 5}])
def test_ties_are_in_the_order_of_the_items(stored, model, how):
    trained = load_trained(stored(model))
    with torch.no_grad():
        trained.model.item_embedding.weight[1:] = trained.model.item_embedding.weight[1]
    plain = Plain(stored(model), random_files())
    found = recommend(trained, names=["u1", "u7"], k=4, retrieve=11, **how)
    for user, entries in found.items():
        left = [item for item in plain.candidates() if item not in plain.seen_by(user)]
        assert [item for item, _ in entries] == left[:4]


def test_scores_that_are_no_numbers_are_no_recommendations(stored):
    trained = load_trained(stored("GSERec"))
    with torch.no_grad():
        trained.model.item_embedding.weight[5] = torch.nan
    name = trained.dataset.field2id_token["item_id"][5]
    n = len({i for i in trained.raw.interactions[1]}) - 1
    # Not only among the retrieved: a user who took this item has a history of NaN.
    entries = recommend(trained, k=n, retrieve=n, names=["searcher"], exclude_seen=False)["searcher"]
    assert len(entries) == n
    assert name not in {item for item, _ in entries}


def test_users_without_a_valid_score_are_reported(stored):
    trained = load_trained(stored("GSERec"))
    with torch.no_grad():
        trained.model.item_embedding.weight.fill_(torch.nan)
    with pytest.raises(GSERecError, match="for user 'u3' the scores of all items are NaN or infinite"):
        recommend(trained, names=["u3"], retrieve=10)


def test_no_more_products_and_scores_than_the_bound_are_held(loaded, monkeypatch):
    trained, sizes = loaded("GSERec"), []
    score = type(trained.model).logits

    def counted(self, state, candidates):
        scores = score(self, state, candidates)
        sizes.append(scores.numel())
        return scores

    monkeypatch.setattr(type(trained.model), "logits", counted)
    n_users = len(recommend(trained, k=5, retrieve=10, max_scores=200))
    assert max(sizes) <= 200
    # Ten items, and six without meaning that make the width a multiple of 16.
    assert sum(sizes) == 16 * n_users


@pytest.mark.parametrize("model", ["GSERec", "KAR", "NRHUB"])
def test_recall_by_hand(stored, loaded, model):
    plain, names = Plain(stored(model), random_files()), ["u1", "u9", "u22", "u30", "searcher"]
    recommender = Recommender(loaded(model))
    users = recommender.choose(names).users
    for n in (5, 12):
        shares = []
        for user in names:
            best = {item for item, _ in plain.best(user, 5)}
            shares.append(len(best & set(retrieved_by_hand(plain, user, n))) / 5)
        np.testing.assert_allclose(recommender.retrieval_recall(users, 5, n), shares)
        if model == "NRHUB":
            assert shares == [1.0] * 5
        else:
            assert 0 < np.mean(shares) < 1


def test_the_same_call_gives_the_same_bytes(stored):
    first, second = (recommend(load_trained(stored("GSERec")), retrieve=10) for _ in range(2))
    assert first == second


def test_what_cannot_retrieve_is_refused(loaded, tmp_path):
    write_dataset(tmp_path / "dataset", "toy", **random_files())
    without = load_trained(store_model(tmp_path / "dataset", "GSERec"))
    for trained, problem in (
        (without, "this GSERec was trained without the next-item head.*Train with --lambda_next_item=1, or leave"),
        (loaded("SASRec"), "SASRec has no next-item head.*use a search-aware model.*--lambda_next_item=1"),
        (loaded("LightGCN"), "LightGCN has no next-item head"),
    ):
        recommender = Recommender(trained)
        users = recommender.choose(["u1"]).users
        with pytest.raises(SettingError, match=problem):
            list(recommender.recommend(users, 5, retrieve=10))
        with pytest.raises(SettingError, match=problem):
            recommender.retrieval_recall(users, 5, 10)


@pytest.mark.parametrize("retrieve", [-1, 1, 6])
def test_fewer_items_than_recommended_are_refused(loaded, retrieve):
    with pytest.raises(SettingError, match=f"retrieve is {retrieve}, but 7 items are recommended; .*or 0"):
        recommend(loaded("GSERec"), k=7, retrieve=retrieve)
