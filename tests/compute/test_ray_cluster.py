import os
import subprocess
import sys
import types

import pytest
import torch

from recbole_gserec.compute import processes, ray_cluster
from recbole_gserec.compute.ray_cluster import connect, connect_with_share
from recbole_gserec.errors import SettingError


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.0.0.1:6379", r"^--address: cannot join Ray at '10.0.0.1:6379' \(wrong token\)$"),
        (None, r"^Ray does not start on this machine \(wrong token\)$"),
    ],
)
def test_why_there_is_no_ray_is_reported_in_a_line(monkeypatch, address, message):
    def refuse(**arguments):
        assert arguments["address"] == (address or "local")
        raise ConnectionError("wrong\ntoken")

    monkeypatch.setattr(ray_cluster, "ray", types.SimpleNamespace(is_initialized=lambda: False, init=refuse))
    with pytest.raises(SettingError, match=message):
        connect(address, 1)


@pytest.mark.parametrize(
    ("workers", "address", "gpus", "chosen", "cpus", "at_once"),
    [
        (None, None, 0, None, 1, 8),
        (None, None, None, None, 4, 2),
        (None, None, 0.5, None, 2, 4),
        (None, None, 0.5, "1", 1, 8),
        (3, None, 0, None, 2, 3),
        (3, None, 0, "1", 1, 3),
        (3, None, 0, "4", 2, 3),
        (1, None, 1, "0", 8, 1),
        (1, None, 0, "2,4", 8, 1),
        (3, "auto", 0, "4", 1, None),
    ],
)
def test_tasks_share_the_processors(monkeypatch, workers, address, gpus, chosen, cpus, at_once):
    """One each, or evenly among those of this machine's two GPUs, but not more than the user's number of threads."""
    asked = {}
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    monkeypatch.setattr(ray_cluster, "usable_cores", lambda: 8)
    monkeypatch.setattr(ray_cluster, "connect", lambda address, n_cpus: asked.update(n_cpus=n_cpus))
    monkeypatch.setattr(ray_cluster, "machines", lambda: [{"GPU": 2}])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert connect_with_share(workers, address, None, gpus) == {"CPU": cpus, "GPU": 1 if gpus is None else gpus}
    assert asked["n_cpus"] == (at_once and cpus * at_once)


def test_an_even_share_on_a_busy_machine_is_warned_of(monkeypatch, caplog):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(ray_cluster, "connect", lambda address, n_cpus: None)
    for module in (ray_cluster, processes):
        monkeypatch.setattr(module, "usable_cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(processes, "_LOAD", 7.0)
    connect_with_share(None, None, None, 0)
    assert not caplog.text
    connect_with_share(2, None, None, 0)
    assert "4 threads of a training would wait for each other" in caplog.text


@pytest.mark.parametrize(("chosen", "niceness"), [(None, 0), ("3", 3)])
def test_workers_are_not_put_behind_other_programs(chosen, niceness):
    """In a process of its own: Ray reads the environment when it is loaded."""
    pytest.importorskip("ray")
    script = (
        "import os, ray\n"
        "from recbole_gserec.compute.ray_cluster import connect\n"
        "connect(None, 1)\n"
        "print(ray.get(ray.remote(lambda: os.nice(0)).remote()))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAY_worker_niceness"}
    if chosen:
        environment["RAY_worker_niceness"] = chosen
    printed = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert int(printed.stdout.splitlines()[-1]) == niceness


@pytest.mark.parametrize(
    "error", [Exception("The current node timed out during startup"), OSError(28, "No space"), TimeoutError()]
)
def test_a_ray_that_does_not_start_is_reported_whatever_it_raises(monkeypatch, error):
    def refuse(**_):
        raise error

    monkeypatch.setattr(ray_cluster, "ray", types.SimpleNamespace(is_initialized=lambda: False, init=refuse))
    with pytest.raises(SettingError, match=r"^Ray does not start on this machine \(.+\)$"):
        connect(None, 1)
