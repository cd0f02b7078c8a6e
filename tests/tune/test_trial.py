"""A trial by itself, without Ray: its record, its training, and taking over the weights of another one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from recbole.utils import get_model, init_seed

from recbole_gserec.errors import GSERecError
from recbole_gserec.tune.progress import Progress
from recbole_gserec.tune.request import TuneRequest, plan
from recbole_gserec.tune.training import EpochReport, _note, _trainer_class, train_trial
from recbole_gserec.tune.trial import _reporter
from recbole_gserec.tune.trial_record import (
    CHECKPOINT_FILE,
    FAILED,
    STATE_FILE,
    STOPPED,
    TrialRecord,
    damaged_trials,
    read_trials,
)

SMALL = {"hidden_size": 16, "inner_size": 16, "train_batch_size": 256, "epochs": 2, "train_neg_sample_args": None}


@pytest.fixture
def trial(tmp_path) -> Path:
    """Folder of a trial."""
    folder = tmp_path / "sweep" / "trials" / "a"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    "change", [{"scores": 3}, {"best_score": "high"}, {"settings": []}, {"seconds": None}, {"x": 1}]
)
def test_a_damaged_record_is_none(trial, change):
    TrialRecord("a", {}).write(trial)
    path = trial / "trial.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert TrialRecord.read(trial) is None
    assert damaged_trials(trial.parents[1]) == [trial] and not read_trials(trial.parents[1])


@pytest.mark.parametrize("began", [True, False])
def test_a_trial_whose_process_was_killed_is_told_as_failed(trial, began, caplog):
    """It could write neither its status nor its error."""
    if began:
        TrialRecord("a", {"n_layers": 1}, scores=[0.5], best_score=0.5).write(trial)
    on_ray = SimpleNamespace(
        trial_id="a", config={"n_layers": 1}, get_error=lambda: "the worker died\nand more", is_finished=lambda: True
    )
    with caplog.at_level("INFO"):
        Progress(trial.parent.parent, 1, 1).on_trial_error(0, [on_ray], on_ray)
    record = TrialRecord.read(trial)
    assert (record.status, record.error) == (FAILED, "its process ended: the worker died")
    assert record.settings == {"n_layers": 1} and record.best_score == (0.5 if began else None)
    assert "a failed: its process ended: the worker died" in caplog.text


def test_finishing_the_winner_loses_nothing_when_interrupted(random_dataset, trial, monkeypatch):
    """Its record stays until it is over, or a lesser trial could become the winner."""
    monkeypatch.chdir(trial)
    given = {**SMALL, "use_gpu": False}
    _, job = plan(TuneRequest("SASRec", "toy", random_dataset, trial.parents[1], settings=given))
    record = TrialRecord("a", {"learning_rate": 0.001}, STOPPED, scores=[0.9], best_score=0.9, best_epoch=0)
    record.write(trial)
    before = (trial / "trial.json").read_text()

    def interrupt(told) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_trial(job, trial, record, None, interrupt)
    assert (trial / "trial.json").read_text() == before


@pytest.fixture
def population(random_dataset, prepare, tmp_path):
    """Builds a trainer of a population; all share one file of a state."""

    def make(**settings):
        config, _, (train, valid, _) = prepare("SASRec", **{**SMALL, **settings})
        init_seed(1, True)
        network = get_model("SASRec")(config, train._dataset)
        trainer = _trainer_class(SimpleNamespace(population=True), config)(config, network)
        trainer.saved_model_file, trainer.state_file = str(tmp_path / "weights.pth"), tmp_path / "state.pth"
        return trainer, train, valid

    return make


def test_a_population_takes_over_weights_and_keeps_its_own_settings(population):
    donor, train, valid = population(hidden_dropout_prob=0.5, learning_rate=0.01, weight_decay=0.0)
    donor.fit(train, valid, verbose=False)
    trainer, train, valid = population(hidden_dropout_prob=0.1, learning_rate=0.001, weight_decay=0.1, epochs=3)
    trainer.fit(train, valid, verbose=False)
    assert trainer.resumed_epochs == 2 and len(trainer.valid_scores) == 3
    assert trainer.model.hidden_dropout_prob == trainer.model.dropout.p == 0.1
    assert [(group["lr"], group["weight_decay"]) for group in trainer.optimizer.param_groups] == [(0.001, 0.1)]


def test_weights_of_another_shape(population):
    donor, train, valid = population()
    donor.fit(train, valid, verbose=False)
    trainer, train, valid = population(hidden_size=32)
    with pytest.raises(GSERecError, match="settings that change their shapes cannot be tried"):
        trainer.fit(train, valid, verbose=False)


def test_epochs_without_a_validation_count():
    told = {"trained": 4, "best": 1, "valid_score": [0.1, 0.2], "seconds": [1.0] * 4, "validation_seconds": [0.5] * 2}
    record = TrialRecord("a", {})
    _note(record, SimpleNamespace(epoch_record=lambda: told, best_valid_score=0.2))
    assert (record.epochs, record.scores, record.best_epoch, record.seconds) == (4, [0.1, 0.2], 1, 5.0)


@pytest.mark.parametrize(("eval_step", "exchanged"), [(1, [4, 9, 14, 19]), (2, [5, 9, 15, 19]), (3, [5, 11, 14])])
def test_weights_are_exchanged_after_the_epochs_or_the_validation_that_follows(
    eval_step, exchanged, monkeypatch, tmp_path
):
    from ray import tune

    stored = []
    trainer = SimpleNamespace(eval_step=eval_step, store=lambda train_data, epoch: stored.append(epoch))
    monkeypatch.setattr(tune, "report", lambda metrics, checkpoint=None: None)
    for name in (STATE_FILE, CHECKPOINT_FILE):
        (tmp_path / name).write_text("")
    report = _reporter(None, tmp_path, 5)
    for epoch in range(eval_step - 1, 20, eval_step):
        report(EpochReport(epoch, 0.1, TrialRecord("a", {}), {}, trainer, None))
    assert stored == exchanged
