"""Lists by original ids: the same for every model, checked against the rows of the files."""

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_gserec.errors import SettingError

MODELS = ["GSERec", "SASRec", "GRU4Rec", "LightGCN", "BPR"]
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}
PHASES = ("valid", "test")


def lists_of(loader):
    """(user, target) -> candidates in their order, all by original ids."""
    dataset = loader._dataset
    users = dataset.id2token("user_id", dataset.inter_feat["user_id"].numpy())
    items = dataset.id2token("item_id", loader.candidates.numpy())
    assert len({(user, row[0]) for user, row in zip(users, items, strict=True)}) == len(users)
    return {(user, row[0]): tuple(row[1:]) for user, row in zip(users, items, strict=True)}


def evaluation_lists(prepare, model, **settings):
    _, _, (_, valid, test) = prepare(model, **settings)
    return {"valid": lists_of(valid), "test": lists_of(test)}


def known_items(rows):
    """User -> items of ``.inter``, and user -> items of ``.inter`` or clicked in ``.search``."""
    interacted, known = {}, {}
    for user, item, _ in rows["inter"]:
        interacted.setdefault(user, []).append(item)
        known.setdefault(user, set()).add(item)
    for user, _, _, clicks in rows.get("search", []):
        known.setdefault(user, set()).update(clicks.split())
    return interacted, known


@pytest.fixture
def reference(random_dataset, prepare):
    return evaluation_lists(prepare, "GSERec")


def test_lists_are_new_to_the_user_and_hold_items_with_interactions(reference, random_rows):
    interacted, known = known_items(random_rows)
    catalogue = set().union(*interacted.values())
    assert any(items - catalogue for items in known.values()), "the dataset needs items of searches only"
    for phase, position in (("test", -1), ("valid", -2)):
        assert {user for user, _ in reference[phase]} == set(interacted)
        for (user, target), candidates in reference[phase].items():
            assert target == interacted[user][position]
            assert len(set(candidates)) == len(candidates) == 99
            assert set(candidates) <= catalogue - known[user]


@pytest.mark.parametrize("model", MODELS[1:])
def test_every_model_has_the_same_lists(reference, prepare, model):
    assert evaluation_lists(prepare, model) == reference


@pytest.mark.parametrize("suffixes", [[], ["query"]])
def test_a_search_aware_model_that_reads_no_searches_has_them_too(reference, prepare, suffixes):
    assert evaluation_lists(prepare, "GSERec", additional_feat_suffix=suffixes) == reference


@pytest.mark.parametrize("model", ["GSERec", "SASRec", "BPR"])
def test_popularity_lists_are_the_same_too(random_dataset, prepare, random_rows, model):
    popular = {"eval_args": {**LEAVE_ONE_OUT, "mode": "pop20"}}
    lists = evaluation_lists(prepare, model, **popular)
    assert lists == evaluation_lists(prepare, "GRU4Rec", **popular)
    # With one interaction of history there is no telling by its length which one is a user's first.
    assert lists == evaluation_lists(prepare, model, MAX_ITEM_LIST_LENGTH=1, **popular)
    interacted, known = known_items(random_rows)
    counts = {}
    for items in interacted.values():
        for item in items:
            counts[item] = counts.get(item, 0) + 1
    drawn = [counts[item] for phase in PHASES for items in lists[phase].values() for item in items]
    even = [count for item, count in counts.items() for items in known.values() if item not in items]
    assert np.mean(drawn) > 1.1 * np.mean(even)


def test_lists_do_not_depend_on_the_order_of_the_files(reference, prepare, write_files, random_rows, tmp_path):
    rng = np.random.default_rng(3)
    # The order of a user's own rows decides between equal times, so users move as a whole.
    users = sorted({row[0] for row in random_rows["inter"]}, key=lambda _: rng.random())
    inter = [row for user in users for row in random_rows["inter"] if row[0] == user]
    search = random_rows["search"][::-1]
    rows = {
        **random_rows,
        "inter": inter,
        "search": sorted(search, key=lambda row: row[2]),
        "code": random_rows["code"][::-1],
    }
    write_files(tmp_path / "dataset", "toy", **rows)
    for model in ("GSERec", "SASRec", "BPR"):
        _, dataset, _ = prepare(model)
        assert dataset.id2token("user_id", 1) == users[0]
        assert evaluation_lists(prepare, model) == reference


@pytest.mark.parametrize(
    "settings",
    [
        {"eval_batch_size": 7},
        {"train_batch_size": 50, "learning_rate": 0.1, "embedding_size": 8, "epochs": 3},
        {"MAX_ITEM_LIST_LENGTH": 3, "MAX_SEARCH_LIST_LENGTH": 2, "MAX_CLICK_LIST_LENGTH": 1},
        {"train_neg_sample_args": {"distribution": "popularity", "sample_num": 2}},
        {"topk": [3], "metrics": ["MRR"], "valid_metric": "MRR@3"},
        {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "search": None, "query": None, "code": None}},
    ],
)
def test_other_settings_leave_the_lists_alone(reference, prepare, settings):
    assert evaluation_lists(prepare, "GSERec", **settings) == reference
    if "load_col" not in settings:
        settings = {
            **settings,
            "train_neg_sample_args": settings.get("train_neg_sample_args", {"distribution": "uniform"}),
        }
        assert evaluation_lists(prepare, "SASRec", **settings, loss_type="BPR") == reference


def test_seeds(reference, prepare):
    other = evaluation_lists(prepare, "BPR", seed=1)
    fixed = [
        evaluation_lists(prepare, model, seed=seed, eval_candidate_seed=5)
        for model, seed in (("BPR", 1), ("GSERec", 2))
    ]
    assert fixed[0] == fixed[1]
    assert evaluation_lists(prepare, "BPR", seed=7, eval_candidate_seed=1) == other
    assert evaluation_lists(prepare, "BPR", seed=1, eval_candidate_seed=0) == evaluation_lists(
        prepare, "SASRec", seed=0
    )
    for lists in (other, fixed[0]):
        for phase in PHASES:
            assert lists[phase].keys() == reference[phase].keys()
            assert all(lists[phase][key] != reference[phase][key] for key in lists[phase])


def test_validation_and_test_have_lists_of_their_own(reference):
    by_user = [{user: items for (user, _), items in reference[phase].items()} for phase in PHASES]
    assert all(set(items) != set(by_user[1][user]) for user, items in by_user[0].items())


@pytest.mark.parametrize("model", ["GSERec", "SASRec", "BPR"])
def test_batches_bring_the_same_lists_before_and_after_training(reference, make_model, model):
    built, config, _, loaders = make_model(model, eval_batch_size=9, train_batch_size=256, epochs=1)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, built)

    def seen(loader):
        result = {}
        for batch in loader:
            assert len(batch) <= 9
            users = loader._dataset.id2token("user_id", batch.interaction["user_id"].numpy())
            items = loader._dataset.id2token("item_id", batch.candidates.numpy())
            result.update({(user, row[0]): tuple(row[1:]) for user, row in zip(users, items, strict=True)})
        return result

    for _ in range(2):
        assert {phase: seen(loader) for phase, loader in zip(PHASES, loaders[1:], strict=True)} == reference
        trainer.fit(loaders[0], loaders[1], saved=False, verbose=False)


def test_several_targets_of_a_user_have_lists_of_their_own(random_dataset, prepare, random_rows):
    ratio = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user", "mode": "uni20"}
    lists = evaluation_lists(prepare, "GSERec", eval_args=ratio)["test"]
    _, known = known_items(random_rows)
    by_user = {}
    for (user, _), items in lists.items():
        assert len(set(items)) == 20
        assert not set(items) & known[user]
        by_user.setdefault(user, []).append(items)
    assert max(map(len, by_user.values())) >= 4
    assert all(len(set(several)) == len(several) for several in by_user.values())


def test_users_who_know_almost_all_items_have_shorter_lists(prepare, write_files, tmp_path, caplog):
    everything = [f"i{index}" for index in range(12)]
    inter = [("all", item, time) for time, item in enumerate(everything)]
    inter += [("most", item, time) for time, item in enumerate(everything[:7])]
    inter += [("few", item, time) for time, item in enumerate(everything[:3])]
    search = [("most", "q", 5, "i7 i8 only-in-search"), ("few", "q", 1, "i2")]
    code = [(user, "a", "b") for user in ("all", "most", "few")]
    write_files(tmp_path / "dataset", "toy", inter=inter, search=search, query=[("q", "word")], code=code)
    expected = {"all": set(), "most": set(everything[9:]), "few": set(everything[3:])}
    for model in ("GSERec", "SASRec"):  # RecBole has its general models refuse a user who knows all items.
        for mode in ("uni9", "pop9"):
            caplog.clear()
            _, _, loaders = prepare(model, eval_args={**LEAVE_ONE_OUT, "mode": mode})
            assert (
                "2 test targets have fewer than 9 candidates: the catalogue has only 12 items. Use fewer" in caplog.text
            )
            assert (
                "--eval_args=\"{'mode': 'uni6'}\", or rank all items with --eval_args=\"{'mode': 'full'}\""
                in caplog.text
            )
            lists = {user: items for (user, _), items in lists_of(loaders[2]).items()}
            for user, items in lists.items():
                given = items[: len(expected[user])]
                assert set(given) == expected[user]
                assert set(items[len(given) :]) <= {"[PAD]"}
            assert set(lists) == set(expected)


def test_a_dataset_without_searches(prepare, write_files, random_rows, tmp_path):
    write_files(tmp_path / "dataset", "plain", inter=random_rows["inter"])
    settings = {"eval_args": {**LEAVE_ONE_OUT, "mode": "uni50"}, "load_col": None}
    _, _, (_, _, test) = prepare("BPR", "plain", **settings)
    lists = lists_of(test)
    interacted, _ = known_items({"inter": random_rows["inter"]})
    for (user, target), items in lists.items():
        assert target == interacted[user][-1]
        assert len(set(items)) == 50
        assert not set(items) & set(interacted[user])
    _, _, (_, _, test) = prepare("SASRec", "plain", **settings)
    assert lists_of(test) == lists


def test_the_stock_pipeline_gives_the_same_lists(reference, make_config):
    """As a user's own script would build them, another order of the calls and of random numbers."""
    config = make_config("SASRec")
    init_seed(99, True)
    dataset = create_dataset(config)
    torch.rand(5)
    loaders = data_preparation(config, dataset)
    get_model("SASRec")(config, loaders[0]._dataset)
    assert {phase: lists_of(loader) for phase, loader in zip(PHASES, loaders[1:], strict=True)} == reference


def test_targets_of_users_with_one_interaction_are_refused(prepare, random_rows, write_rows):
    """They have no list, and another user's would hold what they know, or the target."""
    write_rows(**{**random_rows, "inter": [*random_rows["inter"], *((f"one{n}", "i1", n) for n in range(40))]})
    ratio = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "none", "mode": "uni20"}
    with pytest.raises(SettingError, match=r"valid targets belong to users with a single interaction.*\[2,inf\)"):
        prepare("BPR", short_users="keep", eval_args=ratio)
    prepare("BPR", short_users="keep", eval_args={**ratio, "order": "TO", "group_by": "user"})


def test_a_large_catalogue_is_not_blamed(prepare, write_files, tmp_path, caplog):
    items = [f"i{index}" for index in range(30)]
    inter = [("all", item, time) for time, item in enumerate(items[:25])]
    inter += [(f"u{index}", item, time) for index in range(10) for time, item in enumerate(items[index : index + 20])]
    write_files(tmp_path / "dataset", "toy", inter=inter, search=[("all", "q", 5, "i1")], query=[("q", "word")])
    prepare("SASRec", eval_args={**LEAVE_ONE_OUT, "mode": "uni9"})
    assert "1 test targets have fewer than 9 candidates: their users interacted with almost all items" in caplog.text
