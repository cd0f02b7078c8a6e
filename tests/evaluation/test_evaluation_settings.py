"""Settings of the evaluation that are refused before anything is trained."""

import pytest

from recbole_gserec.errors import SettingError
from recbole_gserec.evaluation.protocol import check_evaluation

SETTINGS = {
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni99"},
    "metrics": ["Hit", "GAUC"],
    "topk": [5, 10],
    "valid_metric": "Hit@5",
}


def check(is_ours=True, **settings):
    check_evaluation({**SETTINGS, **settings}, is_ours=is_ours)


def with_mode(mode):
    return {"eval_args": {**SETTINGS["eval_args"], "mode": mode}}


def test_valid_metric_must_be_computed():
    for metric in ("Hit@5", "hit@10", "GAUC"):
        check(valid_metric=metric)
    check(metrics="MRR", topk=3, valid_metric="MRR@3")
    for metric in ("Hit@1", "NDCG@5", "NDCG"):
        with pytest.raises(SettingError, match=f"^valid_metric is '{metric}', which is not computed: metrics are"):
            check(valid_metric=metric)


@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize("mode", ["uni0", "pop0", "uni9x", "uni", "uni-1", "uni01", "universe", "all", 99, None])
def test_modes_that_there_are_not(is_ours, mode):
    for given in (mode, {"valid": mode}, {"valid": "uni99", "test": mode}):
        with pytest.raises(SettingError, match=f"^eval_args has the mode {mode!r}; it must be 'full'.*as in 'uni99'$"):
            check(is_ours, **with_mode(given))


@pytest.mark.parametrize("mode", ["full", "uni1", "pop20", {"valid": "uni99", "test": "full"}, {"test": "full"}])
def test_modes_that_there_are(mode):
    check(**with_mode(mode))
    check(eval_args={"split": {"RS": [8, 1, 1]}})


def test_labels_are_for_recboles_models():
    values = {"metrics": ["AUC"], "valid_metric": "AUC", **with_mode("labeled")}
    check(is_ours=False, **values)
    with pytest.raises(SettingError, match="eval_args has the mode 'labeled'"):
        check(**values)
    with pytest.raises(SettingError, match="metrics has 'AUC': search-aware models are evaluated by ranking metrics"):
        check(metrics=["AUC"], valid_metric="AUC")


@pytest.mark.parametrize(
    ("eval_args", "message"),
    [
        ({"mod": "full"}, "eval_args has an unknown key 'mod'. Did you mean 'mode'?"),
        ({"xyz": 1}, "eval_args has an unknown key 'xyz'. Its keys are split, order, group_by, mode."),
        ({"mode": {"vaild": "full"}}, "the mode of eval_args has an unknown key 'vaild'. Did you mean 'valid'?"),
        ("uni99", "eval_args is 'uni99'; it must be a dict"),
    ],
)
def test_unknown_keys(eval_args, message):
    with pytest.raises(SettingError) as error:
        check(eval_args=eval_args)
    assert str(error.value) == message


@pytest.mark.parametrize("topk", [0, -1, [5, 0], [], ["5"], [2.5], True, None, "5"])
def test_depths(topk):
    with pytest.raises(SettingError) as error:
        check(topk=topk)
    assert str(error.value) == f"topk is {topk!r}; it must be a whole number of at least 1, or a list of them"


def test_unknown_metrics_are_named_with_the_nearest():
    for metrics in ("Hitt", ["NDCG", "Hitt"]):
        with pytest.raises(SettingError, match="^metrics has 'Hitt', .*. Did you mean 'Hit'?"):
            check(metrics=metrics)
    for metrics in (None, [], 3):
        with pytest.raises(SettingError, match="^metrics is .*; it must be a metric's name, or a list of them$"):
            check(metrics=metrics)


@pytest.mark.parametrize("model", ["GSERec", "BPR", "SASRec"])
def test_every_model_on_searchable_data_is_checked(random_dataset, make_config, model):
    with pytest.raises(SettingError, match="eval_args has the mode 'uni0'"):
        make_config(model, eval_args={"mode": "uni0"})
    with pytest.raises(SettingError, match="eval_args has an unknown key 'mod'"):
        make_config(model, eval_args={"mod": "full"})
    with pytest.raises(SettingError, match="valid_metric is 'NDCG@5'"):
        make_config(model, topk=[10])


def test_plain_data_is_recboles_alone(make_config):
    config = make_config("BPR", "ml-100k", eval_args={"mode": "uni0", "note": 1})
    assert config["eval_args"]["mode"] == {"valid": "uni0", "test": "uni0"}


@pytest.mark.parametrize("is_ours", [True, False])
def test_lists_shorter_than_metrics_of_their_items_need(is_ours):
    items = {"metrics": ["NDCG", "itemcoverage"], "valid_metric": "NDCG@5"}
    check(is_ours, **items, topk=[5, 100])
    check(is_ours, **items, topk=[5, 500], **with_mode("full"))
    check(is_ours, metrics=["NDCG"], valid_metric="NDCG@5", topk=[5, 500])
    message = (
        "^topk has 101, but with the mode 'uni99' a list has only 100 items, and 'itemcoverage' needs complete lists"
    )
    for mode in ("uni99", {"valid": "full", "test": "uni99"}):
        with pytest.raises(SettingError, match=message):
            check(is_ours, **items, topk=[5, 101], **with_mode(mode))
