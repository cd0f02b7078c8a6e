"""Connects to Ray, on this machine or a cluster, and finds how many tasks it can run."""

import logging
import os

import ray
import torch

from recbole_gserec.compute.interruptions import kept
from recbole_gserec.compute.processes import chosen_threads, usable_cores, warn_if_busy
from recbole_gserec.errors import SettingError, one_line
from recbole_gserec.settings import model_files_environment


def connect(address: str | None, n_cpus: int | None, *, option: str = "--address", join_running: bool = False) -> None:
    """Join the cluster at an address, or start Ray on this machine with a number of CPUs.

    Args:
        address: Address of the cluster; None for this machine.
        n_cpus: CPUs if Ray is started; None for all.
        option: Option with which the user sets the address.
        join_running: Whether to join, without an address, a Ray that runs on this machine or that the environment
            names.

    Raises:
        SettingError: If that fails.
    """
    if ray.is_initialized():
        return
    # At Ray's default niceness of 15, its workers hardly run while any other program does.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # A Ray that is started here inherits the environment.
    joins = address is not None or join_running
    variables = {"env_vars": dict(model_files_environment())} if joins and model_files_environment() else None
    try:
        # Ray installs its own handler of SIGTERM.
        with kept():
            ray.init(
                address=address or (None if join_running else "local"),
                num_cpus=n_cpus,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False,
                runtime_env=variables,
            )
    except Exception as error:  # Ray reports failed starts with many kinds of exceptions.
        where = f"{option}: cannot join Ray at '{address}'" if address else "Ray does not start on this machine"
        raise SettingError(f"{where} ({one_line(error) or type(error).__name__})") from error


def connect_with_share(
    workers: int | None, address: str | None, cpus: int | None, gpus: float | None
) -> dict[str, float]:
    """Connect to Ray; return the resources of each task.

    Args:
        workers: Number of tasks at once; None for as many as there is room for.
        address: Address of a Ray cluster; None starts Ray on this machine.
        cpus: CPUs of each task. None is 1. On this machine, if ``workers`` or the GPUs limit the number of tasks, None
            is an even share, but at most ``OMP_NUM_THREADS``.
        gpus: GPUs of each task, or a fraction of one; None is 1 if there are any.

    Raises:
        SettingError: If Ray cannot be joined or started.
    """
    if cpus is None:
        tasks = workers or _tasks_on_gpus(gpus)
        cpus = 1 if address or not tasks else max(1, usable_cores() // tasks)
        cpus = min(cpus, chosen_threads() or cpus)
        warn_if_busy(cpus)
    at_once = workers or max(1, usable_cores() // cpus)
    connect(address, n_cpus=None if address else cpus * at_once)
    return {"CPU": cpus, "GPU": float(any(has.get("GPU") for has in machines())) if gpus is None else gpus}


def _tasks_on_gpus(gpus: float | None) -> int:
    """Return how many tasks this machine's GPUs can run at once; 0 if tasks need no GPU."""
    return 0 if gpus == 0 else int(torch.cuda.device_count() // (gpus or 1))


def machines() -> list[dict[str, float]]:
    """Return the resources of each machine in the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def count_parallel_tasks(
    wanted: dict[str, float], options: str = "--cpus-per-run, --gpus-per-run", task: str = "a run"
) -> int:
    """Return how many tasks the cluster can run at once, each on one machine; Ray would wait forever for others.

    Args:
        wanted: Resource -> amount that a task needs.
        options: Options with which the user sets it.
        task: Name of a task in the message.

    Raises:
        SettingError: If no machine can run a task.
    """
    kinds = [kind for kind in wanted if wanted[kind] > 0]
    tasks = sum(min((int(has.get(kind, 0) // wanted[kind]) for kind in kinds), default=1) for has in machines())
    if tasks < 1:
        needs = " and ".join(f"{wanted[kind]:g} {kind}" for kind in kinds)
        raise SettingError(f"{task} needs {needs} ({options}), but no Ray machine has that much")
    return tasks
