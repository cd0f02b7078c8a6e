"""Sweeps as a user makes them, on a small dataset."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from recbole_gserec.errors import DataError, GSERecError, SettingError
from recbole_gserec.preprocess.run import make_codes_from_config
from recbole_gserec.settings.config import make_config, without_arguments
from recbole_gserec.tune.request import TuneRequest, plan
from recbole_gserec.tune.search import run_sweep
from recbole_gserec.tune.sweep import FAILED, FINISHED, STOPPED, ComputeResources, TrialRecord, read_trials
from recbole_gserec.tune.tuner import Progress
from tests.conftest import random_files, write_dataset

SMALL = {
    "embedding_size": 16,
    "inner_size": 16,
    "mlp_hidden_size": [16],
    "train_batch_size": 256,
    "use_gpu": False,
    "n_codebooks": 2,
    "codebook_size": 4,
    "code_dim": 4,
    "rq_hidden_sizes": [8],
    "rq_epochs": 4,
    "rq_warmup_epochs": 0,
    "encoder_dim": 8,
}
SEQUENTIAL = {"hidden_size": 16, "inner_size": 16, "train_batch_size": 256, "use_gpu": False}
PLACE = ComputeResources(workers=2, cpus=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of a dataset without codes."""
    files = random_files()
    del files["code"]
    return write_dataset(tmp_path_factory.mktemp("data"), "toy", **files)


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_module():
    yield
    import ray

    ray.shutdown()


def space_file(folder: Path, space: dict) -> Path:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(space, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def swept(data, tmp_path_factory):
    """A grid over a setting of the offline stage and one of the model."""
    folder = tmp_path_factory.mktemp("tune")
    space = space_file(folder, {"lambda_rq_cl": [0.0001, 1.0], "learning_rate": [0.01, 0.001]})
    request = TuneRequest("GSERec", "toy", data, folder, space, {**SMALL, "epochs": 2}, search="grid", scheduler="fifo")
    return request, run_sweep(request, PLACE, n_kept=2)


def test_every_combination_is_a_trial(swept):
    request, result = swept
    trials = read_trials(request.folder)
    assert [record.status for record in trials] == [FINISHED] * 4 and result.n_failed == 0
    tried = {tuple(record.settings.values()) for record in trials}
    assert tried == {(codes, rate) for codes in (0.0001, 1.0) for rate in (0.01, 0.001)}
    assert trials == sorted(trials, key=lambda record: -record.best_score)
    for record in trials:
        assert len(record.scores) == 2 and record.best_score == max(record.scores)


def test_codes_are_made_once_for_each_setting(swept, data):
    codes = sorted((swept[0].folder / "codes").glob("*.code"))
    records = [json.loads(path.with_name(path.name + ".json").read_text()) for path in codes]
    assert sorted(record["settings"]["lambda_rq_cl"] for record in records) == [0.0001, 1.0]
    assert len({path.read_text() for path in codes}) == 2
    # Those of one setting with the dataset that all share; the dataset's own would be those of no trial.
    made = [path.read_text() for path in (swept[0].folder / "trials").glob("*/log.txt")]
    assert sum("It is made now" in text and "waiting for it" not in text for text in made) == 1
    assert not (data / "toy" / "toy.code").exists()
    # Summaries and vectors are kept where the dataset is.
    assert (data / "toy" / "toy.preprocess.sqlite3").is_file()
    assert not list((swept[0].folder / "codes").glob("*.sqlite3"))


def test_codes_of_the_dataset_may_be_of_other_settings(tmp_path):
    """Its own codes are none of the sweep's; those of a sweep that reads them are refused in a line."""
    data = write_dataset(tmp_path / "data", "toy", **random_files())
    make_codes_from_config(make_config("GSERec", "toy", SMALL, {"data_path": data}, tmp_path / "settings.yaml"))
    settings = {**SMALL, "epochs": 1, "rq_epochs": 3}
    space = space_file(tmp_path, {"lambda_rq_cl": [0.0001, 1.0]})
    request = TuneRequest("GSERec", "toy", data, tmp_path / "a", space, settings, search="grid", scheduler="fifo")
    assert run_sweep(request, PLACE).n_failed == 0
    space = space_file(tmp_path, {"learning_rate": [0.01]})
    request = TuneRequest("GSERec", "toy", data, tmp_path / "b", space, settings, search="grid", scheduler="fifo")
    with pytest.raises(DataError, match=r"toy.code: made with rq_epochs=\d+, but rq_epochs=3 was requested"):
        run_sweep(request, PLACE)


def test_codes_of_trials_differ_from_the_datasets_own_in_what_is_tried_alone(tmp_path):
    """The rest is as the record of the dataset's own says, which nothing else tells the sweep."""
    data = write_dataset(tmp_path / "data", "toy", **random_files())
    made = {**SMALL, "encoder_dim": 12, "rq_hidden_sizes": [10]}
    make_codes_from_config(make_config("GSERec", "toy", made, {"data_path": data}, tmp_path / "settings.yaml"))
    space = space_file(tmp_path, {"lambda_rq_cl": [1.0]})
    settings = {name: value for name, value in SMALL.items() if name not in ("encoder_dim", "rq_hidden_sizes")}
    settings["epochs"] = 1
    request = TuneRequest("GSERec", "toy", data, tmp_path / "a", space, settings, search="grid", scheduler="fifo")
    result = run_sweep(request, PLACE)
    (record,) = (request.folder / "codes").glob("*.code.json")
    own = json.loads((data / "toy" / "toy.code.json").read_text())["settings"]
    assert json.loads(record.read_text())["settings"] == {**own, "lambda_rq_cl": 1.0}
    assert yaml.safe_load(result.best_file.read_text())["rq_hidden_sizes"] == [10]
    assert result.found["encoder_dim"] == 12
    (data / "toy" / "toy.code.json").unlink()
    with pytest.raises(DataError, match="it is not known how the codes were made"):
        run_sweep(replace(request, output=tmp_path / "b"), PLACE)


def test_weights_of_the_best_are_kept(swept):
    trials, folder = read_trials(swept[0].folder), swept[0].folder / "trials"
    kept = [(folder / record.trial / "checkpoint.pth").is_file() for record in trials]
    assert kept == [True, True, False, False]


TRAIN_BY_FILE = """
import json, sys, torch
from recbole.quick_start import run_recbole
import recbole_gserec
file = sys.argv.pop()
torch.set_num_threads(1)
result = run_recbole(config_file_list=[file], config_dict={"show_progress": False})
print(json.dumps([result["best_valid_score"], dict(result["best_valid_result"]), dict(result["test_result"])]))
"""


def test_run_recbole_gives_the_winners_numbers(swept, tmp_path, monkeypatch):
    """From the file alone, in a process that knows nothing of the sweep."""
    _, result = swept
    winner = json.loads((result.best_file.parent / "winner.json").read_text())
    output = subprocess.run(
        [sys.executable, "-c", TRAIN_BY_FILE, str(result.best_file)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    score, valid, test = json.loads(output.splitlines()[-1])
    assert score == winner["score"] == max(record.best_score for record in read_trials(swept[0].folder))
    assert valid == winner["valid"] == result.valid
    assert test == winner["test"] == result.test


def test_report(swept):
    request, result = swept
    text = result.report.read_text()
    assert text.startswith("# GSERec on toy: 4 trials")
    assert all(f"{value:.4f}" in text for value in result.test.values())
    table = pd.read_csv(request.folder / "trials.csv")
    assert list(table["score"]) == [record.best_score for record in read_trials(request.folder)]
    assert list(table["status"]) == [FINISHED] * 4 and table["error"].isna().all()
    for name in ("settings.png", "settings.pdf"):
        assert (request.folder / name).stat().st_size > 1000
    assert list((request.folder / "ray").glob("*/events.out.tfevents.*")), "nothing for TensorBoard"


def test_the_same_call_again_trains_nothing(swept):
    request, result = swept
    files = {path: path.stat().st_mtime_ns for path in (request.folder / "trials").rglob("*") if path.is_file()}
    assert run_sweep(request, PLACE, n_kept=2) == result
    assert files == {path: path.stat().st_mtime_ns for path in (request.folder / "trials").rglob("*") if path.is_file()}


@pytest.fixture
def moved(swept, tmp_path):
    """A copy of the finished sweep in another folder, to damage."""
    request, result = swept
    shutil.copytree(request.folder, tmp_path / "toy" / "GSERec")
    return TuneRequest(**{**vars(request), "output": tmp_path}), result


@pytest.mark.parametrize("damage", ["[1", '{"trial": "TRIAL"}', '{"trial": "TRIAL", "settings": 3}'])
def test_a_damaged_winner_is_tested_again(swept, moved, damage, monkeypatch):
    request, before = moved
    trial = read_trials(request.folder)[0].trial
    recorded = json.loads((request.folder / "winner.json").read_text())
    recorded = {name: recorded[name] for name in ("valid", "test", "metric")}
    (request.folder / "winner.json").write_text(damage.replace("TRIAL", trial))
    made = []
    monkeypatch.setattr("recbole_gserec.tune.search.run_trials", lambda *args, **kwargs: None)
    monkeypatch.setattr("recbole_gserec.tune.search.finish_winner", lambda *args: made.append(args[-1]) or recorded)
    assert run_sweep(request, PLACE).test == before.test and made == [trial]
    # Known, it is not tested once more, though failed trials are made again.
    failed = TrialRecord("other", {}, FAILED, error="no reason")
    failed.write(request.folder / "trials" / "other")
    assert run_sweep(request, PLACE).n_failed == 1 and made == [trial]


def test_what_ray_keeps_is_damaged(moved):
    request, _ = moved
    (request.folder / "winner.json").unlink()
    (request.folder / "ray" / "tuner.pkl").write_bytes(b"cut of")
    with pytest.raises(GSERecError, match="Ray's state of the sweep is damaged. Delete .* to start again"):
        run_sweep(request, PLACE)


@pytest.mark.parametrize("missing", ["ray/experiment_state-*", "trials/*"])
def test_a_sweep_killed_before_its_first_snapshot_or_trial_begins_anew(data, tmp_path, missing):
    space = space_file(tmp_path, {"learning_rate": [0.01]})
    request = TuneRequest("SASRec", "toy", data, tmp_path, space, {**SEQUENTIAL, "epochs": 1}, scheduler="fifo")
    first = run_sweep(request, PLACE)
    first.best_file.with_name("winner.json").unlink()
    for path in request.folder.glob(missing):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run_sweep(request, PLACE).valid == first.valid
    assert len(read_trials(request.folder)) == 1


@pytest.mark.parametrize("link", ["codes", "trials/a"])
def test_links_in_a_sweep_are_refused_at_once(data, tmp_path, link):
    (tmp_path / "elsewhere").mkdir()
    request = TuneRequest("SASRec", "toy", data, tmp_path)
    (request.folder / "trials").mkdir(parents=True)
    (request.folder / link).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=f"{link}: a link; files outside the run's folder must not change"):
        run_sweep(request, PLACE)


def test_another_sweep_in_the_same_folder(swept):
    request, _ = swept
    with pytest.raises(SettingError, match="has a sweep with other settings and seed: name another folder"):
        run_sweep(TuneRequest(**{**vars(request), "seed": 1, "settings": {**SMALL, "epochs": 3}}), PLACE)


def test_a_trial_that_fails_does_not_stop_the_others(data, tmp_path):
    space = space_file(tmp_path, {"n_heads": [3, 2]})
    request = TuneRequest(
        "SASRec", "toy", data, tmp_path, space, {**SEQUENTIAL, "epochs": 1}, search="grid", scheduler="fifo"
    )
    result = run_sweep(request, PLACE)
    good, bad = read_trials(request.folder)
    assert (good.status, good.settings, bad.status, bad.settings) == (FINISHED, {"n_heads": 2}, FAILED, {"n_heads": 3})
    assert result.n_failed == 1 and "heads" in bad.error
    assert bad.error in result.report.read_text()
    # Failed trials are made again, or not, as the user says.
    before = (request.folder / "trials" / bad.trial / "log.txt").stat().st_mtime_ns
    assert run_sweep(request, PLACE, retry_failed=False) == result
    assert (request.folder / "trials" / bad.trial / "log.txt").stat().st_mtime_ns == before
    assert run_sweep(request, PLACE).n_failed == 1
    assert (request.folder / "trials" / bad.trial / "log.txt").stat().st_mtime_ns > before


def test_all_trials_fail(data, tmp_path):
    space = space_file(tmp_path, {"n_heads": [3]})
    request = TuneRequest("SASRec", "toy", data, tmp_path, space, {**SEQUENTIAL, "epochs": 1}, scheduler="fifo")
    with pytest.raises(GSERecError, match=r"no trial of the sweep in .* has a score: .*heads"):
        run_sweep(request, PLACE)


DRIVER = """
import json, logging, signal, sys
# A process that was started in the background may ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
logging.basicConfig(level=logging.INFO)
from recbole_gserec.tune.request import TuneRequest
from recbole_gserec.tune.sweep import ComputeResources
from recbole_gserec.tune.search import run_sweep
data, output, space, settings = sys.argv[1:5]
sys.argv[1:] = []
how = {"scheduler": "fifo", "search": "grid"}
request = TuneRequest("SASRec", "toy", Path(data), Path(output), Path(space), json.loads(settings), **how)
run_sweep(request, ComputeResources(workers=1, cpus=1))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_sweep_goes_on(data, tmp_path, number):
    """Trials that were over are not made again; numbers are those of a sweep that was not killed."""
    space = space_file(tmp_path, {"learning_rate": [0.01, 0.003, 0.001]})
    settings = {**SEQUENTIAL, "epochs": 3}
    outputs = {name: tmp_path / name for name in ("whole", "killed")}
    requests = {
        name: TuneRequest("SASRec", "toy", data, output, space, settings, search="grid", scheduler="fifo")
        for name, output in outputs.items()
    }
    command = [sys.executable, "-c", DRIVER, str(data), str(outputs["killed"]), str(space), json.dumps(settings)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    driver = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    folder = requests["killed"].folder
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and driver.poll() is None:
        if sum(record.status == FINISHED for record in read_trials(folder)) >= 1:
            break
        time.sleep(0.2)
    assert driver.poll() is None
    os.killpg(driver.pid, number) if number == signal.SIGKILL else driver.send_signal(number)
    assert driver.wait(60) != 0
    # Of a sweep that is not over there is no winner.
    assert not (folder / "winner.json").exists()
    over = [record for record in read_trials(folder) if record.status == FINISHED]
    assert 1 <= len(over) < 3
    logs = {record.trial: (folder / "trials" / record.trial / "log.txt").stat().st_mtime_ns for record in over}
    again = run_sweep(requests["killed"], ComputeResources(workers=1, cpus=1))
    whole = run_sweep(requests["whole"], ComputeResources(workers=1, cpus=1))
    assert logs == {trial: (folder / "trials" / trial / "log.txt").stat().st_mtime_ns for trial in logs}
    scores = [
        sorted((record.settings["learning_rate"], record.scores) for record in read_trials(request.folder))
        for request in requests.values()
    ]
    assert scores[0] == scores[1] and len(scores[0]) == 3
    assert (again.valid, again.test) == (whole.valid, whole.test)


def test_a_record_that_cannot_be_written_ends_the_sweep(data, tmp_path, monkeypatch):
    """Ray turns what its callbacks raise into a page of text."""
    no_room = OSError(errno.ENOSPC, "No space left on device", "trial.json")

    def tell(self, trials, trial):
        raise no_room

    monkeypatch.setattr(Progress, "_report", tell)
    space = space_file(tmp_path, {"learning_rate": [0.01]})
    how = {"search": "grid", "scheduler": "fifo"}
    with pytest.raises(OSError) as caught:
        run_sweep(TuneRequest("SASRec", "toy", data, tmp_path, space, {**SEQUENTIAL, "epochs": 1}, **how), PLACE)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "trial.json")


def test_weak_trials_are_stopped_and_the_winner_is_trained_to_its_end(data, tmp_path):
    space = space_file(tmp_path, {"learning_rate": [0.01, 1e-9, 2e-9, 3e-9, 4e-9, 5e-9]})
    request = TuneRequest(
        "SASRec",
        "toy",
        data,
        tmp_path,
        space,
        {**SEQUENTIAL, "epochs": 4, "stopping_step": 10},
        search="grid",
        grace_period=1,
    )
    run_sweep(request, ComputeResources(workers=1, cpus=1))
    trials = read_trials(request.folder)
    assert trials[0].status == FINISHED and len(trials[0].scores) == 4
    stopped = [record for record in trials if record.status == STOPPED]
    assert stopped and all(len(record.scores) < 4 for record in stopped)


@pytest.mark.parametrize(("how", "scheduler", "grace_period"), [("optuna", "asha", 1), ("random", "pbt", 2)])
def test_other_searches(data, tmp_path, how, scheduler, grace_period):
    space = space_file(tmp_path, {"learning_rate": {"loguniform": [0.001, 0.01]}, "hidden_dropout_prob": [0.1, 0.5]})
    request = TuneRequest(
        "SASRec",
        "toy",
        data,
        tmp_path,
        space,
        {**SEQUENTIAL, "epochs": 4, "stopping_step": 10},
        search=how,
        scheduler=scheduler,
        n_samples=4,
        grace_period=grace_period,
    )
    result = run_sweep(request, PLACE)
    trials = read_trials(request.folder)
    assert len(trials) == 4 and all(0.001 <= record.settings["learning_rate"] <= 0.01 for record in trials)
    best = yaml.safe_load(result.best_file.read_text())
    assert best["learning_rate"] == trials[0].settings["learning_rate"]
    assert result.valid["ndcg@5"] == trials[0].best_score


@pytest.mark.slow
def test_two_machines(data, tmp_path):
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    try:
        space = space_file(tmp_path, {"learning_rate": [0.01, 0.001]})
        request = TuneRequest(
            "SASRec", "toy", data, tmp_path, space, {**SEQUENTIAL, "epochs": 2}, search="grid", scheduler="fifo"
        )
        run_sweep(request, ComputeResources(address=cluster.address))
        assert [record.status for record in read_trials(request.folder)] == [FINISHED] * 2
        results = list((request.folder / "ray").glob("*/result.json"))
        recorded = [json.loads(path.read_text().splitlines()[-1]) for path in results]
        assert len({result["pid"] for result in recorded}) == 2
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": "SASrec"}, "Did you mean 'SASRec'"),
        ({"dataset": "../toy"}, "is not a dataset name"),
        ({"scheduler": "best"}, "--scheduler is 'best'; choose from: asha, fifo, pbt"),
        ({"search": "best"}, "--search is 'best'; choose from: .*grid, .*optuna.*random"),
        ({"search": "hebo"}, "--search hebo needs a library that is not installed"),
        ({"settings": {"seed": 3}}, "'seed' cannot be set for the trials of a sweep: use --seed"),
        ({"settings": {"learning_rat": 3}}, "learning_rat"),
        ({"settings": {"hidden_dropout_prob": 0.1, "learning_rate": 0.1, "weight_decay": 0}}, "nothing to try"),
        ({"settings": {"gpu_id": "1"}}, "gpu_id: Ray assigns GPUs"),
        (
            {"model": "NCL", "scheduler": "pbt", "space": {"learning_rate": [0.1, 0.01]}},
            "--scheduler pbt: NCL has its own training loop",
        ),
        ({"settings": {"eval_step": 0}}, "eval_step is 0; it must be at least 1"),
        (
            {"model": "NRHUB", "scheduler": "pbt", "settings": {"reduce_lr_on_plateau": {"patience": 1}}},
            "pbt sets learning rates itself",
        ),
        (
            {"model": "NRHUB", "scheduler": "pbt", "space": {"reduce_lr_on_plateau": [None, {"patience": 1}]}},
            "pbt sets learning rates itself",
        ),
        (
            {"model": "GSERec", "space": {"lambda_rq_cl": [1, 2]}, "settings": {"code_path": "a.code"}},
            "code_path names one file of codes, and lambda_rq_cl",
        ),
        ({"space": {"learning_rat": [1]}}, "learning_rat"),
        ({"model": "GSERec", "space": {"n_heads": [1, 0]}}, "n_heads is 0; it must be a whole number of at least 1"),
        ({"space": {"learning_rate": {"uniform": [0.1, 1]}}, "search": "grid"}, "learning_rate has a range"),
        ({"model": "BPR"}, "no search space for BPR"),
        ({"model": "NRHUB", "space": {"lambda_rq_cl": [1, 2]}}, "lambda_rq_cl"),
    ],
)
def test_requests_that_cannot_be_run(data, tmp_path, changes, problem):
    arguments = {"model": "SASRec", "dataset": "toy", "data_path": data, "output": tmp_path, **changes}
    if isinstance(arguments.get("space"), dict):
        arguments["space"] = space_file(tmp_path, arguments["space"])
    with pytest.raises(GSERecError, match=problem):
        plan(TuneRequest(**arguments))
    assert not list(tmp_path.glob("toy/*/trials"))


def test_settings_given_are_not_tried(data, tmp_path):
    sweep, job = plan(TuneRequest("SASRec", "toy", data, tmp_path, settings={"learning_rate": 0.01}))
    assert set(sweep.space) == {"hidden_dropout_prob", "weight_decay"} and job.requested == {"learning_rate": 0.01}


def test_a_falling_learning_rate_can_be_tried(data, tmp_path):
    space = space_file(tmp_path, {"reduce_lr_on_plateau": [None, {"factor": 0.5, "patience": 1}]})
    sweep, _ = plan(TuneRequest("NRHUB", "toy", data, tmp_path, space))
    assert sorted(map(str, (point["reduce_lr_on_plateau"] for point in sweep.points()))) == [
        "None",
        "{'factor': 0.5, 'patience': 1}",
    ]


def test_hyper_tuning_of_recbole(data, tmp_path, monkeypatch):
    """RecBole's own search works with our models, and reads the same kind of file."""
    pytest.importorskip("hyperopt")
    from recbole.quick_start import objective_function
    from recbole.trainer import HyperTuning

    monkeypatch.chdir(tmp_path)
    shutil.copytree(data / "toy", tmp_path / "dataset" / "toy")
    (tmp_path / "hyper.test").write_text("learning_rate choice [0.01, 0.001]\n")
    (tmp_path / "fixed.yaml").write_text(
        yaml.safe_dump({**SMALL, "model": "GSERec", "dataset": "toy", "epochs": 1, "show_progress": False})
    )
    with without_arguments():
        tuning = HyperTuning(
            objective_function,
            algo="exhaustive",
            params_file=str(tmp_path / "hyper.test"),
            fixed_config_file_list=[str(tmp_path / "fixed.yaml")],
        )
        tuning.run()
    assert len(tuning.params2result) == 2
    assert tuning.best_score == max(result["best_valid_score"] for result in tuning.params2result.values())


def test_records(tmp_path):
    record = TrialRecord("a", {"x": 1}, scores=[0.1, 0.2], best_score=0.2, best_epoch=1)
    (tmp_path / "trials" / "a").mkdir(parents=True)
    record.write(tmp_path / "trials" / "a")
    TrialRecord("b", {"x": 2}).write(tmp_path / "trials" / "b")
    (tmp_path / "trials" / "c").mkdir()
    (tmp_path / "trials" / "c" / "trial.json").write_text("{")
    assert [found.trial for found in read_trials(tmp_path)] == ["a", "b"]
    assert read_trials(tmp_path)[0] == record
    smaller = [TrialRecord(name, {}, bigger=False, best_score=score) for name, score in (("x", 2.0), ("y", 1.0))]
    assert min(smaller, key=lambda found: found.rank).trial == "y"
