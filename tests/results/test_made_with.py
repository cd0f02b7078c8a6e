"""What the report tells of the settings that models took."""

import pytest

from recbole_gserec.results.load import choose_runs, load_runs
from recbole_gserec.results.origins import settings_markdown
from tests.runs.stored_runs import store_run

NEGATIVES = {"distribution": "uniform", "sample_num": 4, "dynamic": False}


@pytest.fixture
def reported(tmp_path):
    """What is told of runs with some settings."""

    def reported(**settings_of_models):
        for model, settings in settings_of_models.items():
            for seed in (1, 2):
                store_run(tmp_path, "toys", model, seed, [1, 2, 3], settings={"metric_decimal_place": 4, **settings})
        return settings_markdown("toys", list(choose_runs(load_runs(tmp_path)).values()))

    return reported


def test_unequal_defaults_are_reported(reported):
    text = reported(
        GSERec={
            "clip_grad_norm": {"max_norm": 5},
            "weight_decay": 1e-5,
            "train_neg_sample_args": NEGATIVES,
            "embedding_size": 64,
            "tau_2": 0.1,
        },
        SASRec={
            "clip_grad_norm": None,
            "weight_decay": 0,
            "train_neg_sample_args": {**NEGATIVES, "sample_num": 1},
            "hidden_size": 64,
        },
        BPR={"weight_decay": 0.0, "train_neg_sample_args": NEGATIVES, "embedding_size": 64},
    )
    _, _, defaults = text.partition("Where the models' defaults differ:\n\n")
    lines = defaults.splitlines()
    assert sorted(lines[0].removeprefix("- `weight_decay`: ").split("; ")) == ["`0` BPR, SASRec", "`1e-05` GSERec"]
    assert lines[1].startswith("- `clip_grad_norm`: ") and "null" in lines[1]
    assert "sample_num" in lines[2] and "distribution" not in lines[2]
    assert len(lines) == 3


def test_equal_defaults_and_given_settings_are_not(reported):
    text = reported(GSERec={"learner": "adam", "epochs": 100}, SASRec={"learner": "adam", "epochs": 50})
    assert "defaults" not in text


def test_what_one_model_was_given_hides_no_defaults_of_the_others(tmp_path):
    for model, size, given in (("GSERec", 64, {}), ("UniSAR", 32, {}), ("JSR", 16, {"embedding_size": 16})):
        settings = {"metric_decimal_place": 4, "embedding_size": size}
        store_run(tmp_path, "toys", model, 1, [1, 2, 3], settings=settings, given=given)
    text = settings_markdown("toys", list(choose_runs(load_runs(tmp_path)).values()))
    (line,) = [line for line in text.splitlines() if line.startswith("- `embedding_size`: `")]
    assert sorted(line.removeprefix("- `embedding_size`: ").split("; ")) == ["`32` UniSAR", "`64` GSERec"]
