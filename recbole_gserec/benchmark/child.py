"""Runs a worker process, and stores its failure if the worker cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from filelock import FileLock, Timeout

from recbole_gserec.benchmark.record import failed_record
from recbole_gserec.benchmark.runs import BUSY, FAILED, FINISHED, LOCK_FILE, Spec, read_status, write_run
from recbole_gserec.child_process import run_module

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
            "recbole_gserec.benchmark.worker",
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
