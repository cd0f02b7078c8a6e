"""Searches as a task: which searches are evaluated, what is kept from training, and how models score them."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recbole.utils import get_trainer

from recbole_gserec.analyze.group_results import training_counts
from recbole_gserec.data.search_rows import QUERY, SEARCH
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.recommend.trained import load_evaluation, load_trained
from recbole_gserec.runs.record import evaluation_mode
from tests.conftest import random_files, write_dataset
from tests.recommend.stored_models import randomise, store_model

pytestmark = pytest.mark.usefixtures("random_dataset")

MODELS = ("JSR", "USER", "UnifiedSSR", "UniSAR")
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}


def searches_of(rows):
    """Each user's searches in the order of time: (time, query, clicked items)."""
    searches = defaultdict(list)
    for user, query, time, items in rows["search"]:
        searches[user].append((time, query, items.split()))
    return {user: sorted(own, key=lambda search: search[0]) for user, own in searches.items()}


def evaluated(rows):
    """For each user the validation and the test search, each with the clicked item that is its target."""
    catalogue = {item for _, item, _ in rows["inter"]}
    found = {}
    for user, own in searches_of(rows).items():
        clicked = [
            (search, [item for item in search[2] if item in catalogue][-1])
            for search in own
            if any(item in catalogue for item in search[2])
        ]
        if len(clicked) >= 3:
            found[user] = clicked[-2:]
    return found


def rows_of(dataset, loader):
    """The rows of a part in original ids."""
    feat = loader._dataset.inter_feat
    return list(
        zip(
            dataset.id2token("user_id", feat["user_id"]).tolist(),
            dataset.id2token("item_id", feat["item_id"]).tolist(),
            feat[SEARCH].tolist(),
            strict=True,
        )
    )


def test_the_last_two_searches_with_a_click_are_evaluated(prepare, random_rows):
    _, dataset, (_, valid, test) = prepare("JSR", eval_task="search")
    expected = evaluated(random_rows)
    assert 10 < len(expected) < 35
    for place, loader in enumerate((valid, test)):
        found = rows_of(dataset, loader)
        assert {user: item for user, item, _ in found} == {user: own[place][1] for user, own in expected.items()}
        assert len(found) == len(expected)
        queries = dataset.id2token("query_id", dataset.events.queries[[search for *_, search in found]]).tolist()
        assert queries == [expected[user][place][0][1] for user, *_ in found]


def test_histories_and_queries_are_those_before_the_search(prepare, random_rows):
    _, dataset, (_, valid, test) = prepare("UniSAR", eval_task="search")
    expected, searches = evaluated(random_rows), searches_of(random_rows)
    n_events = 0
    for place, loader in enumerate((valid, test)):
        for batch in loader:
            rows = batch.interaction
            users = dataset.id2token("user_id", rows["user_id"]).tolist()
            assert dataset.id2token("query_id", rows[QUERY]).tolist() == [expected[u][place][0][1] for u in users]
            for row, user in enumerate(users):
                time = expected[user][place][0][0]
                interactions = sorted((row for row in random_rows["inter"] if row[0] == user), key=lambda r: r[2])
                before = [item for _, item, at in interactions if at < time][-20:]
                shown = rows["item_id_list"][row][: rows["item_length"][row]]
                assert dataset.field2id_token["item_id"][shown.numpy()].tolist() == before
                past = [query for at, query, _ in searches[user] if at < time]
                shown = rows["search_query_id_list"][row][: rows["search_length"][row]]
                assert dataset.field2id_token["query_id"][shown.numpy()].tolist() == past[-20:]
                n_events += len(before) + len(past)
    assert n_events > 300


def test_nothing_at_or_after_the_validation_search_trains(prepare, random_rows):
    config, dataset, (train, _, _) = prepare("UniSAR", eval_task="search", train_batch_size=64)
    expected = evaluated(random_rows)
    times = {(user, item): time for user, item, time in random_rows["inter"]}
    begun = {user: own[0][0][0] for user, own in expected.items()}
    search_rows, pairs = [], set()
    for batch in train:
        for user, item in zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True):
            pairs.add((dataset.id2token("user_id", user), dataset.id2token("item_id", item)))
        rows = batch.search
        assert SEARCH not in rows
        names = (dataset.field2id_token[field][rows[field].numpy()] for field in ("user_id", QUERY, "item_id"))
        search_rows += zip(*(part.tolist() for part in names), strict=True)
    assert all(times[pair] < begun.get(pair[0], np.inf) for pair in pairs)
    allowed = defaultdict(list)
    for user, item, time in sorted(random_rows["inter"], key=lambda row: row[2]):
        if time < begun.get(user, np.inf):
            allowed[user].append((user, item))
    # All that may be trained on but each user's first interaction, which has no history.
    assert pairs == {pair for own in allowed.values() for pair in own[1:]}
    searched = [
        (user, query, item)
        for user, own in searches_of(random_rows).items()
        for time, query, items in own
        if time < begun.get(user, np.inf)
        for item in items[-5:]
    ]
    assert sorted(search_rows) == sorted(searched) and len(searched) > 50


def test_candidates_are_items_that_the_user_neither_knows_nor_clicked(prepare, random_rows):
    _, dataset, (_, _, test) = prepare("JSR", eval_task="search")
    known = defaultdict(set)
    for user, item, _ in random_rows["inter"]:
        known[user].add(item)
    for user, own in searches_of(random_rows).items():
        known[user].update(item for search in own for item in search[2])
    catalogue = {item for _, item, _ in random_rows["inter"]}
    for user, target, others in zip(
        dataset.id2token("user_id", test._dataset.inter_feat["user_id"]).tolist(),
        test._dataset.inter_feat["item_id"].tolist(),
        test.candidates.tolist(),
        strict=True,
    ):
        assert others[0] == target
        drawn = set(dataset.id2token("item_id", others[1:]).tolist())
        assert len(drawn) == 99 and drawn <= catalogue - known[user]
    again = prepare("UniSAR", eval_task="search", eval_candidate_seed=2020)[2][2]
    assert torch.equal(again.candidates, test.candidates)


def test_users_with_a_single_interaction_are_evaluated_too(make_config, tmp_path):
    rows = random_files()
    rows["inter"] += [("single", "i3", 1)]
    rows["search"] += [("single", f"q{query}", 10 + query, f"i{query + 4}") for query in range(3)]
    rows["code"] = None
    data = write_dataset(tmp_path / "other", "toy", **{name: part for name, part in rows.items() if part})
    from recbole.data import create_dataset, data_preparation

    config = make_config("JSR", data_path=str(data), eval_task="search", short_users="keep")
    dataset = create_dataset(config)
    _, _, test = data_preparation(config, dataset)
    assert ("single", "i6") in [(user, item) for user, item, _ in rows_of(dataset, test)]
    assert (test.candidates[:, -1] > 0).all()


def ready(make_model, name, **settings):
    model, config, dataset, loaders = make_model(name, eval_task="search", **NO_DROPOUT, **settings)
    randomise(model, 3)
    # Large weights make rounding errors of 32-bit numbers large.
    return model.double().eval(), config, dataset, loaders


@pytest.mark.parametrize("name", MODELS)
def test_scores_do_not_depend_on_the_target_or_the_batch(make_model, name):
    model, _, _, (_, _, test) = ready(make_model, name)
    (batch,) = list(test)
    rows, candidates = batch.interaction, batch.candidates
    with torch.no_grad():
        scores = model.score_candidates(rows, candidates)
        assert scores.std(1).min() > 0
        for row in (0, 7):
            one = test.collate_fn([row]).interaction
            alone = model.score_candidates(one, candidates[[row]])[0]
            torch.testing.assert_close(alone, scores[row], check_dtype=False)
        all_items = model.full_sort_predict(rows)
        torch.testing.assert_close(all_items.gather(1, candidates), scores)
        rows["item_id"][:] = 5
        torch.testing.assert_close(model.score_candidates(rows, candidates), scores)


@pytest.mark.parametrize("name", MODELS)
def test_scores_depend_on_the_query(make_model, name):
    model, _, _, (_, _, test) = ready(make_model, name)
    (batch,) = list(test)
    with torch.no_grad():
        before = model.score_candidates(batch.interaction, batch.candidates)
        batch.interaction[QUERY] = batch.interaction[QUERY].roll(1)
        changed = (model.score_candidates(batch.interaction, batch.candidates) - before).abs().amax(1) > 1e-6
    assert changed.float().mean() > 0.8


@pytest.mark.parametrize("name", ["JSR", "USER", "UniSAR"])
def test_the_search_loss_is_that_of_the_scores(make_model, name):
    model, _, _, (train, _, _) = ready(make_model, name, train_batch_size=64)
    rows = next(iter(train)).search
    with torch.no_grad():
        candidates = model.training_candidates(rows)
        logits = model.score_search(model.encode_search(rows), candidates).double()
        loss = next(iter(model.search_losses(rows).values()))
    losses = torch.cat([F.softplus(-logits[:, :1]), F.softplus(logits[:, 1:])], dim=1)
    assert float(loss) == pytest.approx(float(losses.mean()), rel=1e-4)


def test_unifiedssr_mixes_its_branches(make_model):
    model, _, _, (_, _, test) = ready(make_model, "UnifiedSSR")
    (batch,) = list(test)
    with torch.no_grad():
        clicks, queries, packing = model.search_history(batch.interaction)
        branches = model.encode_branches(batch.interaction["user_id"], clicks, queries, packing)
        weight = 0.1 + 0.8 * torch.sigmoid(model.mix)
        by_products, by_queries = (model.score(packing.last(states), batch.candidates) for states in branches)
        expected = weight * by_products + (1 - weight) * by_queries
        found = model.score_candidates(batch.interaction, batch.candidates)
        torch.testing.assert_close(found, expected.float())


@pytest.mark.parametrize("name", MODELS)
def test_a_weight_of_0_leaves_out_recommendation(make_model, name):
    model, _, _, (train, _, _) = make_model(name, eval_task="search", lambda_rec=0, **NO_DROPOUT)
    batch = next(iter(train))
    losses = model.calculate_loss(batch)
    assert losses and all(term.startswith("src_") for term in model.loss_names)
    terms = {}
    for weight in (0.5, 1):
        model = make_model(name, eval_task="search", lambda_rec=weight, **NO_DROPOUT)[0]
        torch.manual_seed(1)
        values = [value.item() for value in model.calculate_loss(batch)]
        terms[weight] = dict(zip(model.loss_names, values, strict=True))
    for term, value in terms[0.5].items():
        assert value == pytest.approx(terms[1][term] * (1 if term.startswith("src_") else 0.5), rel=1e-5)


@pytest.mark.parametrize(
    ("model", "settings"),
    [("GSERec", {}), ("SASRec", {}), ("UniSAR", {"lambda_src": 0}), ("JSR", {"jsr_variant": "text20"})],
)
def test_models_that_do_not_rank_searches_are_refused(prepare, model, settings):
    with pytest.raises(SettingError, match=f"eval_task is 'search', but {model}, as it is set, does not learn"):
        prepare(model, eval_task="search", **settings)


def test_unknown_tasks_and_other_splits_are_refused(prepare):
    for model in ("JSR", "BPR"):
        with pytest.raises(SettingError, match="eval_task is 'searches'; it must be 'recommendation' or 'search'"):
            prepare(model, eval_task="searches")
    split = {"RS": [0.8, 0.1, 0.1]}
    with pytest.raises(SettingError, match=r"split .*0.8.*; with eval_task 'search' it must be .*valid_and_test"):
        prepare(
            "JSR", eval_task="search", eval_args={"split": split, "order": "TO", "group_by": "user", "mode": "uni9"}
        )


def test_recommendation_that_is_not_learnt_is_refused(make_model):
    with pytest.raises(SettingError, match="lambda_rec is 0, so recommendation is not learnt"):
        make_model("UniSAR", lambda_rec=0)
    with pytest.raises(SettingError, match="pretrain_epochs is above 0: searches, which are evaluated"):
        make_model("UnifiedSSR", eval_task="search", pretrain_epochs=1)
    path = store_model(Path.cwd() / "dataset", "JSR", eval_task="search", lambda_rec=0)
    with pytest.raises(SettingError, match="has learnt to rank searches alone"):
        load_trained(path)
    assert set(load_evaluation(path).parts) == {"valid", "test"}


def test_batches_without_search_rows_train_nothing_but_fail_in_nothing(make_model):
    model, config, _, (train, valid, _) = make_model("JSR", eval_task="search", lambda_rec=0, train_batch_size=1)
    sizes = [len(batch.search) for batch in train]
    assert 0 in sizes and 1 in sizes
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    before = model.item_embedding.weight.detach().clone()
    trainer._train_epoch(train, 0)
    assert not torch.equal(before, model.item_embedding.weight)


def test_too_few_searches_are_told(make_config, tmp_path):
    from recbole.data import create_dataset, data_preparation

    rows = random_files()
    rows["search"], rows["code"] = rows["search"][:1], None
    data = write_dataset(tmp_path / "other", "toy", **{name: part for name, part in rows.items() if part})
    config = make_config("JSR", data_path=str(data), eval_task="search")
    with pytest.raises(DataError, match=r"toy.search: no user has 3 searches with a click"):
        data_preparation(config, create_dataset(config))


def test_reports_tell_the_tasks_apart(make_config):
    assert evaluation_mode(make_config("JSR", eval_task="search")) == "uni99 of searches"
    assert evaluation_mode(make_config("JSR")) == "uni99"


def test_groups_are_by_what_comes_before_the_validation_search(random_dataset, random_rows):
    requested = {"eval_task": "search"}
    expected, searches = evaluated(random_rows), searches_of(random_rows)
    counts = training_counts("toy", random_dataset, requested, "searches")
    for user, own in expected.items():
        assert counts[user] == sum(time < own[0][0][0] for time, *_ in searches[user])
    counts = training_counts("toy", random_dataset, requested, "interactions")
    for user, own in expected.items():
        times = [time for u, _, time in random_rows["inter"] if u == user]
        assert counts[user] == sum(time < own[0][0][0] for time in times)
