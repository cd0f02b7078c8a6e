"""Runs side by side on a real Ray of this machine."""

import threading
import time

import psutil
import pytest

from recbole_gserec.errors import SettingError
from recbole_gserec.runs.prepare import dataset_digest
from recbole_gserec.runs.run_processes import RayPool
from recbole_gserec.runs.run_store import Run, Spec, read_run, read_status
from recbole_gserec.settings.config import make_config

REQUESTED = {"epochs": 1, "embedding_size": 8, "metrics": ["Hit"], "topk": [5], "valid_metric": "Hit@5"}
FOREVER = {**REQUESTED, "epochs": 10**6, "stopping_step": 10**6}


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    # As :func:`connect` does: else workers wait for all other processes, on a busy machine for minutes.
    nice = {"worker_niceness": 0}
    ray.init("local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False, _system_config=nice)
    yield ray
    ray.shutdown()


@pytest.fixture
def make_spec(ray, random_dataset, tmp_path):
    """A run of LightGCN on the toy dataset."""

    def make(seed, requested=REQUESTED) -> Spec:
        config = make_config("LightGCN", "toy", REQUESTED, {"data_path": random_dataset}, tmp_path / "config.yaml")
        run = Run("toy", dataset_digest(config), "LightGCN", seed, requested)
        return Spec(run, run.folder(tmp_path), random_dataset, {})

    return make


def pool(workers=2, cpus=1, gpus=0):
    return RayPool(workers, None, cpus, gpus)


def test_runs_are_made_and_failures_come_back(make_spec):
    specs = [make_spec(1), make_spec(2, {**REQUESTED, "n_layers": "many"})]
    started = []
    assert dict(pool().run(specs, started.append)) == {0: "finished", 1: "failed"}
    assert started == [0, 1]
    record = read_run(specs[0].folder)
    assert (record["seed"], record["threads"], record["device"]) == (1, 1, "cpu")
    assert record["settings"]["gpu_id"] == ""
    assert read_run(specs[1].folder)["error"].startswith("n_layers is 'many'")


def test_a_task_that_fails_fails_its_run(make_spec):
    spec = make_spec(3)
    # No process can be started from there.
    spec.folder.mkdir(parents=True)
    (spec.folder / "spec.json").mkdir()
    assert dict(pool().run([spec], lambda index: None)) == {0: "failed"}
    assert read_run(spec.folder)["error"].startswith("its task on Ray failed: ")


def is_running(spec):
    arguments = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return any(str(spec.folder / "spec.json") in line for line in arguments)


def test_an_interruption_ends_the_processes(make_spec):
    specs = [make_spec(1, FOREVER), make_spec(2, FOREVER)]
    interrupted = threading.Event()

    def on_start(index):
        if index == 1:
            while not (specs[0].folder / "log.txt").exists():
                time.sleep(0.01)
            interrupted.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(pool().run(specs, on_start))
    assert interrupted.is_set()
    # Ray ends them from processes of its own, which a busy machine keeps waiting.
    patience = time.monotonic() + 120
    while is_running(specs[0]) and time.monotonic() < patience:
        time.sleep(0.1)
    assert not is_running(specs[0])
    assert read_status(specs[0].folder) is None and not specs[1].folder.exists()


def test_more_than_there_is_is_refused(ray):
    with pytest.raises(
        SettingError, match=r"a run needs 64 CPU \(--cpus-per-run, --gpus-per-run\), but no Ray machine has that much"
    ):
        pool(cpus=64)
    with pytest.raises(SettingError, match="a run needs 1 CPU and 0.5 GPU"):
        pool(gpus=0.5)


def test_no_more_at_once_than_there_is_room_for(ray):
    assert pool(workers=8, cpus=1)._limit == 2
    assert pool(workers=8, cpus=2)._limit == 1
    assert pool(workers=1, cpus=1)._limit == 1
    assert RayPool(None, None, 1, None)._wanted == {"CPU": 1, "GPU": 0.0}
