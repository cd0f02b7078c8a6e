"""What the report tells of the settings that models took."""

import pytest

from recbole_gserec.benchmark.made_with import settings_markdown
from recbole_gserec.benchmark.model_runs import choose_runs
from recbole_gserec.benchmark.results import load_runs
from tests.benchmark.stored_runs import store_run

NEGATIVES = {"distribution": "uniform", "sample_num": 4, "dynamic": False}


@pytest.fixture
def told(tmp_path):
    """What is told of runs with some settings."""

    def told(**settings_of_models):
        for model, settings in settings_of_models.items():
            for seed in (1, 2):
                store_run(tmp_path, "toys", model, seed, [1, 2, 3], settings={"metric_decimal_place": 4, **settings})
        return settings_markdown("toys", list(choose_runs(load_runs(tmp_path)).values()))

    return told


def test_unequal_defaults_are_told(told):
    text = told(
        GSERec={"weight_decay": 1e-5, "train_neg_sample_args": NEGATIVES, "embedding_size": 64, "tau_2": 0.1},
        SASRec={"weight_decay": 0.0, "train_neg_sample_args": {**NEGATIVES, "sample_num": 1}, "hidden_size": 64},
        BPR={"weight_decay": 0.0, "train_neg_sample_args": NEGATIVES, "embedding_size": 64, "hidden_size": None},
    )
    _, _, defaults = text.partition("Where the models' defaults differ:\n\n")
    lines = defaults.splitlines()
    assert sorted(lines[0].removeprefix("- `weight_decay`: ").split("; ")) == ["`0.0` BPR, SASRec", "`1e-05` GSERec"]
    assert "sample_num" in lines[1] and "distribution" not in lines[1]
    assert len(lines) == 2


def test_equal_defaults_and_given_settings_are_not(told):
    text = told(GSERec={"learner": "adam", "epochs": 100}, SASRec={"learner": "adam", "epochs": 50})
    assert "defaults" not in text
