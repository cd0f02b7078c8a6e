"""Processes that make runs: one child at a time, or a pool on Ray."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

import ray
from filelock import FileLock, Timeout

from recbole_gserec.compute import connect_with_share, count_parallel_tasks, run_module
from recbole_gserec.runs.record import failed_record
from recbole_gserec.runs.run_store import BUSY, FAILED, FINISHED, LOCK_FILE, Spec, read_status, write_run

ELSEWHERE = "elsewhere"
"""Status of a run that another process is making."""

_SECONDS_TO_END = 10


@dataclass(frozen=True)
class Job:
    """A run to make, and the resources that it may use.

    Attributes:
        spec: The run.
        threads: Number of CPU threads; None leaves it to torch and ``OMP_NUM_THREADS``.
        visible_gpus: Value of ``CUDA_VISIBLE_DEVICES``: empty for no GPU; None leaves it unchanged.
    """

    spec: Spec
    threads: int | None = None
    visible_gpus: str | None = None


def run_child(job: Job) -> str:
    """Make a run in its own process and wait for it.

    Args:
        job: The run.

    Returns:
        ``finished``, ``failed`` or ``elsewhere``.
    """
    started = datetime.now(UTC)
    spec_file = job.spec.write()
    with tempfile.TemporaryFile() as output:
        status = run_module(
            "recbole_gserec.runs.worker",
            str(spec_file),
            environment=_environment(job),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        if status == BUSY:
            return ELSEWHERE
        stored = read_status(job.spec.folder)
        if status != 0 or stored is None:
            return note_failure(job.spec, _reason(status, output), started)
    return stored


def note_failure(spec: Spec, error: str, started: datetime) -> str:
    """Store a run as failed, unless it is finished or another process is making it.

    Args:
        spec: The run.
        error: Why the run failed.
        started: When the run started.

    Returns:
        The run's status.
    """
    try:
        with FileLock(spec.folder / LOCK_FILE, timeout=_SECONDS_TO_END):
            if read_status(spec.folder) == FINISHED:
                return FINISHED
            write_run(spec.folder, failed_record(spec.run, started, error))
            return FAILED
    except Timeout:
        return ELSEWHERE


def _environment(job: Job) -> dict[str, str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if job.threads is not None:
        environment["OMP_NUM_THREADS"] = str(job.threads)
    if job.visible_gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = job.visible_gpus
    return environment


def _reason(status: int, output: IO[bytes]) -> str:
    """Explain why a worker ended without a record, from its last output or the signal that killed it."""
    if status < 0:
        name = signal.Signals(-status).name
        hint = ", perhaps because memory ran out" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}"
    output.seek(0)
    lines = output.read().decode(errors="replace").strip().splitlines()
    return f"its process ended with status {status}" + (f": {lines[-1]}" if lines else "")


_SECONDS_TO_CANCEL = 20


class RayPool:
    """Makes runs as Ray tasks, each in its own process as without Ray; see :class:`runner.Pool`.

    Args:
        workers: Number of runs at once; None for as many as the cluster can hold.
        address: Address of a Ray cluster; None starts Ray on this machine.
        cpus: CPUs and threads of each run. None is 1. On this machine, if ``workers`` or the GPUs limit the number of
            runs, None is an even share, but at most ``OMP_NUM_THREADS``.
        gpus: GPUs of each run, or a fraction of one; None is 1 if there are GPUs.

    Raises:
        SettingError: If there is no Ray at the address, or no machine has the resources for a run.
    """

    def __init__(self, workers: int | None, address: str | None, cpus: int | None, gpus: float | None):
        self._wanted = connect_with_share(workers, address, cpus, gpus)
        has_room = count_parallel_tasks(self._wanted)
        self._limit = min(workers or has_room, has_room)

    def run(self, specs: Sequence[Spec], on_start: Callable[[int], None]) -> Iterator[tuple[int, str]]:
        """See :meth:`runner.Pool.run`."""
        options = {"num_cpus": self._wanted["CPU"], "num_gpus": self._wanted["GPU"], "max_retries": 0}
        task = ray.remote(_run_with_share).options(**options)
        waiting = list(enumerate(specs))[::-1]
        running: dict[Any, int] = {}
        started: dict[int, datetime] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._limit:
                    index, spec = waiting.pop()
                    on_start(index)
                    started[index] = datetime.now(UTC)
                    running[task.remote(spec, self._wanted)] = index
                done, _ = ray.wait(list(running), timeout=1)
                for reference in done:
                    index = running.pop(reference)
                    yield index, _status(reference, specs[index], started[index])
        finally:
            _cancel(list(running))


def _run_with_share(spec: Spec, share: dict[str, float]) -> str:
    """Make a run with the GPUs that Ray assigned to this task."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES") if share["GPU"] else ""
    return run_child(Job(spec, threads=max(1, int(share["CPU"])), visible_gpus=gpus))


def _status(reference: Any, spec: Spec, started: datetime) -> str:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        reason = str(error.cause if isinstance(error, ray.exceptions.RayTaskError) else error)
        return note_failure(spec, f"its task on Ray failed: {reason.strip()}", started)


def _cancel(references: list[Any]) -> None:
    """Stop tasks together with the processes that they started."""
    for force in (False, True):
        for reference in references:
            with suppress(ray.exceptions.RayError):
                ray.cancel(reference, force=force)
        if references:
            # A task may ignore the interruption. Killing it also ends the processes that it started.
            _, references = ray.wait(references, num_returns=len(references), timeout=_SECONDS_TO_CANCEL)
