"""A trial by itself, without Ray: its record, its training, and taking over the weights of another one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from recbole.utils import get_model, init_seed

from recbole_gserec.compute.processes import write_to_log
from recbole_gserec.errors import GSERecError
from recbole_gserec.settings.config import make_config
from recbole_gserec.tune.request import TuneRequest, plan
from recbole_gserec.tune.space import Choice
from recbole_gserec.tune.sweep import (
    CHECKPOINT_FILE,
    FAILED,
    RUNNING,
    STATE_FILE,
    STOPPED,
    Sweep,
    TrialRecord,
    damaged_trials,
    drop_weights,
    read_trials,
    trial_folder,
)
from recbole_gserec.tune.trial import _reporter
from recbole_gserec.tune.trial_training import EpochReport, _note, _trainer_class, train_trial
from recbole_gserec.tune.tuner import Progress
from recbole_gserec.tune.winner import choose_winner

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
    # As an earlier version left it, without a checksum.
    path.write_text(json.dumps({**asdict(TrialRecord("a", {})), **change}))
    assert TrialRecord.read(trial) is None
    assert damaged_trials(trial.parents[1]) == [trial] and not read_trials(trial.parents[1])


def test_a_changed_record_is_none(trial):
    TrialRecord("a", {"n_layers": 1}, scores=[0.5], best_score=0.5).write(trial)
    path = trial / "trial.json"
    path.write_text(path.read_text().replace('"best_score": 0.5', '"best_score": 0.7'))
    assert TrialRecord.read(trial) is None


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("name", ["../../outside", "/absolute", "b", ".", ""])
def test_a_record_says_nothing_of_other_folders(trial, tmp_path, name, checksum):
    """Weights of trials that are not among the best are removed, and none besides."""
    name = f"{tmp_path}/outside" if name == "/absolute" else name
    folders = [tmp_path / "outside", trial.parent / "b", trial.parent, trial]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        (folder / CHECKPOINT_FILE).write_text("weights")
    record = TrialRecord(name, {}, STOPPED, best_score=0.5)
    record.write(trial)
    if not checksum:
        (trial / "trial.json").write_text(json.dumps(asdict(record)))
    sweep = trial.parents[1]
    assert read_trials(sweep) == [] and trial in damaged_trials(sweep)
    drop_weights(sweep, 0)
    assert all((folder / CHECKPOINT_FILE).exists() for folder in folders)


@pytest.mark.parametrize("linked", ["trial", "trials"])
def test_links_out_of_a_sweep_are_not_followed(trial, tmp_path, linked):
    other = tmp_path / "other" / "trials" / "a"
    other.parent.mkdir(parents=True)
    trial.rename(other)
    TrialRecord("a", {}, STOPPED, best_score=0.5).write(other)
    (other / CHECKPOINT_FILE).write_text("weights")
    link, target = (trial, other) if linked == "trial" else (trial.parent, other.parent)
    if linked == "trials":
        trial.parent.rmdir()
    link.symlink_to(target)
    sweep = trial.parents[1]
    drop_weights(sweep, 0)
    assert (other / CHECKPOINT_FILE).exists() and read_trials(sweep) == [] and damaged_trials(sweep) == []
    with pytest.raises(GSERecError, match="leads out of the sweep's folder"):
        trial_folder(sweep, "a")


def test_what_a_link_leads_to_is_not_written(random_dataset, trial, tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("kept")
    for name in ("settings.yaml", "log.txt"):
        (trial / name).symlink_to(outside)
    make_config("SASRec", "toy", {"epochs": 2}, {"data_path": random_dataset}, trial / "settings.yaml")
    assert (trial / "settings.yaml").read_text() == "epochs: 2\n"
    with pytest.raises(OSError, match="log.txt"):
        write_to_log(trial / "log.txt")
    assert outside.read_text() == "kept"


def test_weights_of_the_sweep_s_own_trials_are_dropped(trial):
    """But for those of the best, and of trials that are running."""
    for name, status, score in (("a", STOPPED, 0.5), ("b", STOPPED, 0.7), ("c", STOPPED, 0.6), ("d", RUNNING, 0.1)):
        folder = trial.with_name(name)
        folder.mkdir(exist_ok=True)
        TrialRecord(name, {}, status, best_score=score).write(folder)
        for file in (CHECKPOINT_FILE, STATE_FILE):
            (folder / file).write_text("weights")
    drop_weights(trial.parents[1], 1)
    assert sorted(path.parent.name for path in trial.parent.glob(f"*/{CHECKPOINT_FILE}")) == ["b", "d"]
    assert sorted(path.parent.name for path in trial.parent.glob(f"*/{STATE_FILE}")) == ["b", "d"]


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b", "..", ""])
def test_a_trial_lies_in_a_folder_of_the_sweep(trial, name):
    with pytest.raises(GSERecError, match="leads out of the sweep's folder"):
        trial_folder(trial.parents[1], name)
    assert trial_folder(trial.parents[1], "a_00001") == trial.with_name("a_00001")


def test_a_winner_has_settings_that_are_tried(trial, tmp_path):
    """Others, such as a path, would decide where files are written."""
    sweep = Sweep("SASRec", "toy", "", {"n_layers": Choice((1, 2))})
    TrialRecord("a", {"n_layers": 1, "code_path": f"{tmp_path}/x.code"}, STOPPED, best_score=0.5).write(trial)
    with pytest.raises(GSERecError, match="trial.json: its settings do not belong to the sweep. Delete"):
        choose_winner(trial.parents[1], sweep)
    TrialRecord("a", {"n_layers": 1}, STOPPED, best_score=0.5).write(trial)
    assert choose_winner(trial.parents[1], sweep).trial == "a"


@pytest.mark.parametrize("began", [True, False])
def test_a_trial_whose_process_was_killed_is_reported_as_failed(trial, began, caplog):
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
    requested = {**SMALL, "use_gpu": False}
    _, job = plan(TuneRequest("SASRec", "toy", random_dataset, trial.parents[1], settings=requested))
    record = TrialRecord("a", {"learning_rate": 0.001}, STOPPED, scores=[0.9], best_score=0.9, best_epoch=0)
    record.write(trial)
    before = (trial / "trial.json").read_text()

    def interrupt(described) -> None:
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
    with pytest.raises(GSERecError, match="cannot try settings that change their shapes"):
        trainer.fit(train, valid, verbose=False)


def test_epochs_without_a_validation_count():
    scores, seconds = {"valid_score": [0.1, 0.2]}, {"seconds": [1.0] * 4, "validation_seconds": [0.5] * 2}
    described = {"trained": 4, "best": 1, **scores, **seconds}
    record = TrialRecord("a", {})
    _note(record, SimpleNamespace(epoch_record=lambda: described, best_valid_score=0.2))
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
