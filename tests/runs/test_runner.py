"""Which runs are made, and what becomes of those that fail, are killed, interrupted, or made elsewhere."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
from filelock import FileLock

from recbole_gserec.errors import DataError, GSERecError
from recbole_gserec.runs import record as outcomes
from recbole_gserec.runs import runner
from recbole_gserec.runs.plan import Request
from recbole_gserec.runs.prepare import Prepared, dataset_digest
from recbole_gserec.runs.run_processes import Job, note_failure, run_child
from recbole_gserec.runs.run_store import BUSY, Run, Spec, read_run, read_status, write_run
from recbole_gserec.runs.runner import run_benchmark
from recbole_gserec.runs.worker import clean, make_run
from recbole_gserec.settings.config import make_config
from tests.runs.stored_runs import write_ranks

REQUESTED = {"epochs": 1, "embedding_size": 8, "metrics": ["Hit"], "topk": [5], "valid_metric": "Hit@5"}
HERE = {"gpu_id": ""}


@pytest.fixture
def make_spec(random_dataset, tmp_path):
    """A run of LightGCN on the toy dataset."""

    def make(name="run", **changes) -> Spec:
        folder = tmp_path / name
        folder.mkdir()
        config = make_config(
            "LightGCN", "toy", REQUESTED, {**HERE, "data_path": random_dataset}, tmp_path / "config.yaml"
        )
        run = {
            "dataset": "toy",
            "dataset_digest": dataset_digest(config),
            "model": "LightGCN",
            "seed": 1,
            "requested": REQUESTED,
        }
        return Spec(Run(**{**run, **changes}), folder, random_dataset, HERE)

    return make


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


# ---- which runs are made --------------------------------------------------------------------------------------------


class FakePool:
    """Notes what it is asked to make; ``becomes`` tells the status of each run."""

    def __init__(self, becomes=lambda run: "finished", n_epochs=3):
        self.becomes, self.n_epochs, self.made = becomes, n_epochs, []

    def run(self, specs, on_start):
        for index, spec in enumerate(specs):
            on_start(index)
            status = self.becomes(spec.run)
            self.made.append((spec.run.dataset, spec.run.model, spec.run.seed))
            if isinstance(status, BaseException):
                raise status
            if status in ("finished", "failed"):
                record = {"format": 1, "status": status, "error": "no luck", "wall_seconds": 2.4}
                record |= {"settings": {"valid_metric": "NDCG@5"}, "valid": {"ndcg@5": 0.25}, "test": {"ndcg@5": 0.125}}
                write_run(spec.folder, {**record, "epochs": {"trained": self.n_epochs}})
                write_ranks(spec.folder / "ranks.parquet", [1])
            yield index, status


@pytest.fixture
def make(monkeypatch, tmp_path, caplog):
    """Runs the benchmark of two models with two seeds by a pool, on a dataset without content."""
    digests = {"toy": "d1"}
    caplog.set_level(logging.INFO, "recbole_gserec")

    def prepare_all(entries, data_path):
        assert data_path == tmp_path / "dataset"
        derived = {"GSERec": {"toy.code": "c1"}}
        return [Prepared(digests[entry.dataset], derived.get(entry.model, {})) for entry in entries]

    monkeypatch.setattr(runner, "prepare_all", prepare_all)

    def run(pool, retry_failed=True, **changes):
        request = {"datasets": ["toy"], "models": ["SASRec", "GSERec"], "seeds": [1, 2]}
        request = Request(**{**request, "data_path": tmp_path / "dataset", **changes})
        for dataset in request.datasets:
            # That it is there is all that is looked at.
            (request.data_path / dataset).mkdir(parents=True, exist_ok=True)
            (request.data_path / dataset / f"{dataset}.inter").touch()
        return run_benchmark(request, tmp_path / "out", lambda: pool, retry_failed=retry_failed)

    run.digests = digests
    return run


ALL = [("toy", "SASRec", 1), ("toy", "GSERec", 1), ("toy", "SASRec", 2), ("toy", "GSERec", 2)]


def test_runs_are_made_once(make, tmp_path):
    first, second = FakePool(), FakePool()
    assert make(first)[:3] == (4, 0, 0)
    assert first.made == ALL
    assert len(list((tmp_path / "out" / "runs" / "toy").glob("*/*/run.json"))) == 4
    assert make(second)[:3] == (4, 0, 0)
    assert second.made == []


def damage(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("name", ["run.json", "ranks.parquet"])
@pytest.mark.parametrize("harm", [damage, lambda path: path.unlink()])
def test_a_run_whose_files_are_damaged_is_made_again(make, tmp_path, name, harm):
    make(FakePool())
    (folder,) = (tmp_path / "out" / "runs" / "toy" / "GSERec").glob("2-*")
    harm(folder / name)
    again = FakePool()
    assert make(again)[:3] == (4, 0, 0)
    assert again.made == [("toy", "GSERec", 2)]


def test_a_changed_bit_of_a_rank_is_reported_and_the_run_made_again(make, tmp_path, caplog):
    make(FakePool())
    (folder,) = (tmp_path / "out" / "runs" / "toy" / "GSERec").glob("2-*")
    frame = pd.DataFrame({"user": [1, 2], "item": [1, 2], "rank": [1, 2]})
    tokens = {"user": ["[PAD]", "a", "b"], "item": ["[PAD]", "x", "y"]}
    dataset = SimpleNamespace(uid_field="user", iid_field="item", field2id_token=tokens)
    outcomes.write_ranks(folder / "ranks.parquet", {"test": frame}, dataset)
    again = FakePool()
    assert make(again)[:3] == (4, 0, 0) and again.made == []
    data = bytearray((folder / "ranks.parquet").read_bytes())
    data[len(data) // 3] ^= 4
    (folder / "ranks.parquet").write_bytes(data)
    assert make(again)[:3] == (4, 0, 0) and again.made == [("toy", "GSERec", 2)]
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    reported = f"{folder / 'ranks.parquet'}: damaged: its checksum does not match"
    assert line == f"GSERec on toy, seed 2: repeated, because {reported}"


def test_a_link_is_no_folder_of_a_run(make, tmp_path):
    """What lies in such a folder is removed when the run is made."""
    make(FakePool())
    (folder,) = (tmp_path / "out" / "runs" / "toy" / "GSERec").glob("2-*")
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    run = Run("toy", "d1", "GSERec", 2, {})
    with pytest.raises(DataError, match="2-.*: a link; files outside the run's folder must not change. Delete"):
        Spec(run, folder, tmp_path / "dataset", {}).write()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.txt").symlink_to(tmp_path / "elsewhere" / "run.json")
    with pytest.raises(DataError, match="run/log.txt: a link"):
        Spec(run, tmp_path / "run", tmp_path / "dataset", {}).write()
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {"run.json", "ranks.parquet"}


def test_new_seeds_models_settings_and_data_are_new_runs(make):
    make(FakePool())
    added = FakePool()
    make(added, models=["SASRec", "GSERec", "BPR"], seeds=[1, 2, 3])
    assert added.made == [
        ("toy", "BPR", 1),
        ("toy", "BPR", 2),
        ("toy", "SASRec", 3),
        ("toy", "GSERec", 3),
        ("toy", "BPR", 3),
    ]
    changed = FakePool()
    make(changed, settings={"epochs": 7})
    assert changed.made == ALL
    of_one_model = FakePool()
    make(of_one_model, settings_of=lambda model, dataset: {"n_heads": 1} if model == "GSERec" else {})
    assert of_one_model.made == [ALL[1], ALL[3]]
    make.digests["toy"] = "d2"
    on_other_data = FakePool()
    make(on_other_data)
    assert on_other_data.made == ALL


def test_other_machine_settings_are_no_new_runs(make):
    make(FakePool())
    again = FakePool()
    make(again, settings={"gpu_id": 1, "show_progress": True})
    assert again.made == []


def test_failed_runs_stop_nothing_and_are_made_again(make):
    pool = FakePool(lambda run: "failed" if run.model == "SASRec" else "finished")
    assert make(pool)[:3] == (2, 2, 0)
    assert pool.made == ALL
    left = FakePool()
    assert make(left, retry_failed=False)[:3] == (2, 2, 0)
    assert left.made == []
    again = FakePool()
    assert make(again)[:3] == (4, 0, 0)
    assert again.made == [ALL[0], ALL[2]]


def test_what_was_finished_before_an_interruption_stays(make):
    interrupted = FakePool(lambda run: KeyboardInterrupt() if run.seed == 2 else "finished")
    with pytest.raises(KeyboardInterrupt):
        make(interrupted)
    rest = FakePool()
    make(rest)
    assert rest.made == ALL[2:]


def test_runs_that_others_make_are_counted(make):
    assert make(FakePool(lambda run: "elsewhere" if run.seed == 2 else "finished"))[:3] == (2, 0, 2)


def test_stored_runs_with_the_same_settings_belong_to_the_comparison(make, tmp_path):
    first = make(FakePool(), seeds=[1], settings={"epochs": 7}).keys
    make(FakePool(), seeds=[1, 2])
    both = make(FakePool(), seeds=[3], settings={"epochs": 7}).keys
    assert len(first) == 2 and len(both) == 4 and first < both
    stored = {path.parent.name.rpartition("-")[2] for path in (tmp_path / "out").glob("runs/*/*/*/run.json")}
    assert len(stored) == 8 and both < stored


def test_what_is_reported(make, caplog, tmp_path):
    becomes = {"SASRec": "finished", "GSERec": "failed"}
    make(FakePool(lambda run: "elsewhere" if run.seed == 2 else becomes[run.model]))
    reported = [record.getMessage() for record in caplog.records if record.name.startswith("recbole_gserec.runs")]
    assert reported[0] == f"runs in {tmp_path / 'out'}: 4, 0 of them already made"
    assert reported[1].startswith("SASRec on toy, seed 1: started; its log is ") and reported[1].endswith("log.txt")
    assert reported[2] == "[1/4] SASRec on toy, seed 1: NDCG@5 0.2500 (valid), 0.1250 (test), 3 epochs, 2 s"
    assert reported[4] == "[2/4] GSERec on toy, seed 1: failed: no luck"
    assert reported[6] == "[3/4] SASRec on toy, seed 2: skipped: another process is making it"
    make(FakePool(n_epochs=1), models=["BPR"], seeds=[1])
    assert caplog.records[-1].getMessage().endswith(", 1 epoch, 2 s")


def test_sigterm_ends_it_as_an_exception_does(make):
    def kill(run):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        make(FakePool(kill))
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


# ---- one run in a process of its own --------------------------------------------------------------------------------


def test_a_killed_process_fails_its_run_and_can_be_repeated(make_spec):
    spec = make_spec()
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(run_child(Job(spec, threads=1))))
    thread.start()
    wait_for((spec.folder / "log.txt").exists)
    (process,) = psutil.Process().children()
    process.send_signal(signal.SIGKILL)
    thread.join(60)
    assert statuses == ["failed"]
    record = read_run(spec.folder)
    assert record["error"] == "its process was killed by SIGKILL, perhaps because memory ran out"
    assert (record["model"], record["test"], record["epochs"]) == ("LightGCN", None, None)

    (spec.folder / "left-over").write_text("of the first attempt")
    assert run_child(Job(spec, threads=1)) == "finished"
    assert read_run(spec.folder)["epochs"]["trained"] == 1
    assert not (spec.folder / "left-over").exists()


def test_a_new_attempt_leaves_alone_what_another_process_is_writing(tmp_path):
    for name in (".spec-abc.json", "spec.json", ".lock", ".run-abc.json", "ranks.parquet"):
        (tmp_path / name).write_text("")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "kept").write_text("")
    elsewhere = tmp_path.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("")
    (tmp_path / "link").symlink_to(elsewhere)
    clean(tmp_path)
    assert (elsewhere / "kept").exists()
    assert {path.name for path in tmp_path.iterdir()} == {".spec-abc.json", "spec.json", ".lock"}


def test_an_error_fails_the_run(make_spec):
    spec = make_spec(requested={**REQUESTED, "n_layers": "many"})
    assert run_child(Job(spec, threads=1)) == "failed"
    record = read_run(spec.folder)
    assert record["error"].startswith("n_layers is 'many'") and "\n" not in record["error"]
    assert "values.py" in record["traceback"]
    assert record["traceback"] in (spec.folder / "log.txt").read_text()


def test_a_process_that_cannot_start_fails_the_run(make_spec, monkeypatch):
    spec = make_spec()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert run_child(Job(spec)) == "failed"
    assert read_run(spec.folder)["error"] == "its process ended with status 1"


def test_a_run_that_another_process_makes_is_left_alone(make_spec):
    spec = make_spec()
    with FileLock(spec.folder / ".lock"):
        assert make_run(spec.write()) == BUSY
    assert {path.name for path in spec.folder.iterdir()} == {".lock", "spec.json"}


def test_a_finished_run_is_not_made_again(make_spec):
    spec = make_spec()
    write_run(spec.folder, {"format": 1, "status": "finished"})
    write_ranks(spec.folder / "ranks.parquet", [1])
    assert make_run(spec.write()) == 0
    assert note_failure(spec, "too late", None) == "finished"
    assert read_run(spec.folder) == {"format": 1, "status": "finished"}


# ---- interruption ---------------------------------------------------------------------------------------------------

# The second run takes for ever.
PARENT = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from recbole_gserec.runs import runner
from recbole_gserec.runs.run_store import Spec
specs = [Spec.read(Path(path)) for path in sys.argv[1:]]
runner.plan_runs = lambda request, output: specs
try:
    print(runner.run_benchmark(None, Path("out")))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_benchmark_that_is_ended_ends_its_run(make_spec, tmp_path, sent, status):
    first, second = (
        make_spec("first"),
        make_spec("second", requested={**REQUESTED, "epochs": 10**6, "stopping_step": 10**6}),
    )
    write_run(first.folder, {"format": 1, "status": "finished"})
    paths = [str(spec.write()) for spec in (first, second)]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *paths], cwd=tmp_path)
    try:
        log = second.folder / "log.txt"
        wait_for(lambda: log.exists() and "epoch 0 training" in log.read_text())
        (process,) = psutil.Process(parent.pid).children()
        # To the benchmark alone; a terminal would send it to both.
        parent.send_signal(sent)
        assert parent.wait(60) == status
        # Killed, it can end nothing: the run does so itself, a little later.
        psutil.wait_procs([process], timeout=60 if sent == signal.SIGKILL else 0)
        assert not process.is_running()
    finally:
        # Asked to, it ends what it has started.
        parent.terminate()
        parent.wait(60)
    assert read_status(first.folder) == "finished"
    assert not (second.folder / "run.json").exists()


# ---- what runs share ------------------------------------------------------------------------------------------------


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """Prepares models on datasets in this process."""
    from recbole_gserec.runs import prepare as module
    from recbole_gserec.runs.plan import plan_entries

    monkeypatch.chdir(tmp_path)

    def run(datasets, models, **settings):
        request = Request(datasets, models, [1], tmp_path / "dataset", settings)
        return module._prepare(plan_entries(request), tmp_path / "dataset", tmp_path / "settings.yaml")

    return run


OFFLINE = {"codebook_size": 8, "rq_epochs": 2, "rq_warmup_epochs": 1}


def test_missing_codes_are_made_once_and_for_models_that_read_them(prepare, write_rows, random_rows):
    folder = write_rows(**{name: rows for name, rows in random_rows.items() if name != "code"})
    sasrec, gserec, unisar = prepare(["toy"], ["SASRec", "GSERec", "UniSAR"], **OFFLINE)
    assert sasrec.dataset_digest == gserec.dataset_digest == unisar.dataset_digest
    assert sasrec.derived == unisar.derived == {}
    made = (folder / "toy.code").stat()
    assert list(gserec.derived) == ["toy.code"]
    assert prepare(["toy"], ["SASRec", "GSERec"], **OFFLINE) == [sasrec, gserec]
    assert (folder / "toy.code").stat().st_mtime_ns == made.st_mtime_ns


def test_nothing_is_made_when_a_setting_is_wrong(prepare, write_rows, random_rows):
    folder = write_rows(**{name: rows for name, rows in random_rows.items() if name != "code"})
    with pytest.raises(GSERecError, match=r"^UniSAR on toy: lambda_src is 'big'"):
        prepare(["toy"], ["GSERec", "UniSAR"], lambda_src="big")
    assert not (folder / "toy.code").exists()


def test_a_dataset_that_is_not_there_is_refused(prepare, random_dataset):
    with pytest.raises(GSERecError, match="toys: no such dataset"):
        prepare(["toy", "toys"], ["LightGCN"])


def test_errors_of_the_preparing_process_come_back(tmp_path, random_dataset):
    from recbole_gserec.runs.plan import Entry
    from recbole_gserec.runs.prepare import prepare_all

    entries = [Entry("toy", "LightGCN", REQUESTED, HERE), Entry("toys", "LightGCN", REQUESTED, HERE)]
    with pytest.raises(GSERecError, match="toys: no such dataset"):
        prepare_all(entries, random_dataset)
