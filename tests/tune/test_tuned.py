"""``--tune``: the same number of trials for every model, and runs with what they found."""

import json

import pytest

from recbole_gserec.runs.plan import Request, plan_entries, with_objective
from recbole_gserec.runs.runner import LocalPool, run_benchmark
from recbole_gserec.tune import request as asked_for
from recbole_gserec.tune import search as module
from recbole_gserec.tune.search import SweepResult, tune_models
from recbole_gserec.tune.space import Choice
from recbole_gserec.tune.sweep import ComputeResources, read_trials

SMALL = {"epochs": 1, "train_batch_size": 256, "hidden_size": 8, "inner_size": 8, "embedding_size": 8, "use_gpu": False}


@pytest.fixture
def sweeps(monkeypatch):
    """Stands for the search: tells what was asked, and always finds a rate of 0.5."""
    asked = []

    def search(request, resources):
        asked.append(request)
        return SweepResult({"learning_rate": 0.5}, {}, {}, request.output, request.output, 0)

    monkeypatch.setattr(module, "run_sweep", search)
    return asked


def test_every_model_gets_the_same_effort(sweeps, tmp_path, caplog):
    own = {"SASRec": {"n_layers": 1}}
    request = Request(
        ["toy", "play"],
        ["SASRec", "GSERec", "BPR"],
        [7, 8],
        tmp_path,
        {"epochs": 3},
        lambda model, dataset: own.get(model, {}),
    )
    found = tune_models(request, tmp_path / "out", 5, ComputeResources(1))
    assert {(asked.model, asked.dataset) for asked in sweeps} == {
        (model, dataset) for model in ("SASRec", "GSERec") for dataset in ("toy", "play")
    }
    assert "BPR has no search space" in caplog.text
    for asked in sweeps:
        assert (asked.n_samples, asked.seed, asked.search, asked.scheduler) == (5, 7, "random", "asha")
        assert asked.output == tmp_path / "out" / "tune"
        # The protocol, and what was given, hold in the search as in the runs.
        assert (asked.settings["epochs"], asked.settings["eval_candidate_seed"]) == (3, 2020)
        assert asked.settings.get("n_layers") == (1 if asked.model == "SASRec" else None)
    for entry in plan_entries(found):
        assert entry.requested.get("learning_rate") == (None if entry.model == "BPR" else 0.5)
        assert entry.requested.get("n_layers") == (1 if entry.model == "SASRec" else None)


def test_settings_given_for_a_model_outrank_what_was_found(sweeps, tmp_path):
    request = Request(["toy"], ["SASRec"], [7], tmp_path, settings_of=lambda *_: {"learning_rate": 0.1})
    (entry,) = plan_entries(tune_models(request, tmp_path, 5, ComputeResources(1)))
    assert entry.requested["learning_rate"] == 0.1


def test_a_model_with_all_settings_given_is_not_tuned(sweeps, tmp_path, caplog):
    requested = {"learning_rate": 0.1, "weight_decay": 0, "hidden_dropout_prob": 0.2}
    request = Request(["toy"], ["SASRec"], [7], tmp_path, settings_of=lambda *_: requested)
    with caplog.at_level("INFO"):
        (entry,) = plan_entries(tune_models(request, tmp_path, 5, ComputeResources(1)))
    assert not sweeps and requested.items() <= entry.requested.items()
    assert "SASRec on toy is not tuned: all settings of its search space already have values" in caplog.text


def test_one_objective_is_not_tuned(sweeps, monkeypatch, tmp_path):
    space = {"loss_type": Choice(("BCE", "CE")), "learning_rate": Choice((0.1, 0.5))}
    for where in (module, asked_for):
        monkeypatch.setattr(where, "default_space", lambda model: space)
    request = with_objective(Request(["toy"], ["SASRec", "GSERec"], [7], tmp_path), "gBCE")
    found = tune_models(request, tmp_path / "out", 5, ComputeResources(1))
    assert [asked.settings["loss_type"] for asked in sweeps] == ["gBCE", "gBCE"]
    for asked in sweeps:
        assert asked_for._space(asked, asked.settings).keys() == {"learning_rate"}
    assert [entry.requested["loss_type"] for entry in plan_entries(found)] == ["gBCE", "gBCE"]


def test_a_tuned_run_has_the_winners_numbers(random_dataset, tmp_path):
    """With the seed of the search, the run's validation is that of the winning trial."""
    import ray

    requested = {name: value for name, value in SMALL.items() if name != "embedding_size"}
    request = Request(["toy"], ["SASRec"], [3], random_dataset, requested)
    try:
        found = tune_models(request, tmp_path / "out", 2, ComputeResources(workers=2, cpus=1))
    finally:
        ray.shutdown()
    trials = read_trials(tmp_path / "out" / "tune" / "toy" / "SASRec")
    assert len(trials) == 2
    assert run_benchmark(found, tmp_path / "out", lambda: LocalPool(threads=1)).finished == 1
    (path,) = (tmp_path / "out" / "runs").rglob("run.json")
    record = json.loads(path.read_text())
    assert trials[0].settings.items() <= record["given"].items()
    assert max(record["epochs"]["valid_score"]) == trials[0].best_score
