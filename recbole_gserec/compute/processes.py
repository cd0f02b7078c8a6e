"""This machine's processors, child processes that end with their parent, their logs, and freed memory."""

import ctypes
import faulthandler
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import sleep
from typing import IO

import joblib
import torch

from recbole_gserec.compute.interruptions import PARENT

_BUSY = 0.75
_LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
"""Measured at import: later, this program's own load would be included."""
logger = logging.getLogger(__name__)


def usable_cores() -> int:
    """Return the number of CPUs that this process may use, within the limits of a container."""
    return joblib.cpu_count()


def chosen_threads() -> int | None:
    """Return the number of threads that the user set in ``OMP_NUM_THREADS``; None if it is not set."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    return int(chosen) or None if chosen.isdecimal() else None


def warn_if_busy(threads: int | None = None) -> None:
    """Warn about other programs, unless the user has set a number of threads or there is a GPU.

    PyTorch's threads wait for each other in a busy loop, each on its own CPU. If another program takes one CPU, its
    thread delays all others. Training on one thread is then several times faster.

    Args:
        threads: Threads of a training; None for PyTorch's default.
    """
    if "OMP_NUM_THREADS" in os.environ or torch.cuda.is_available():
        return
    threads, cores = threads or torch.get_num_threads(), usable_cores()
    if threads > 1 and _BUSY * cores < _LOAD:
        logger.warning(
            f"Other programs keep the processors busy (load {_LOAD:.1f} on {cores}): {threads} threads of a training "
            "would wait for each other. Set OMP_NUM_THREADS=1, or wait for the other programs"
        )


_POLL_SECONDS = 0.1
_SECONDS_TO_END = 10


def run_module(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
) -> int:
    """Run a module of this package in its own process, and wait for it.

    If this process is interrupted, it ends the other first. If it is killed, the other ends within a second: see
    :func:`interruptions.heed_while_importing`.

    Args:
        module: Full name of the module.
        *arguments: Of its command line.
        environment: Environment of the process; by default that of this process.
        stdout: See :class:`subprocess.Popen`.
        stderr: The same.

    Returns:
        The exit status; the negative number of the signal that killed it.
    """
    environment = {**(os.environ if environment is None else environment), PARENT: str(os.getpid())}
    command = [sys.executable, "-m", module, *arguments]
    child = None
    try:
        child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        # Ray could not interrupt a single long wait.
        while child.poll() is None:
            sleep(_POLL_SECONDS)
    finally:
        # An interruption may occur as soon as the process has started.
        if child is not None and child.poll() is None:
            child.terminate()
            try:
                child.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
    return child.returncode


def write_to_log(path: Path) -> None:
    """Append all output of this process, including that of libraries, to a file that is not a link.

    Raises:
        OSError: If it cannot be written.
    """
    follow_no_link = getattr(os, "O_NOFOLLOW", 0)  # Not available on Windows.
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | follow_no_link, 0o666)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    faulthandler.enable()


# From glibc's malloc.h; a value is an int.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _LARGEST_BLOCK = 2**31 - 1, 2**30


def keep_freed_memory() -> None:
    """Let this process keep freed blocks for its next allocations, until it ends.

    glibc immediately returns blocks of 32 MiB and more to the system, which maps them again page by page. This takes up
    to a third of the CPU time of a training with large batches. Results do not change. Nothing is done if the
    environment configures memory allocation (``MALLOC_…``, ``GLIBC_TUNABLES``), with another C library, or with a glibc
    too old to support it (2.36 does).
    """
    own = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    set_option = None if own or os.name != "posix" else getattr(ctypes.CDLL(None), "mallopt", None)
    # Older versions of glibc refuse the first option, and the second alone would make it worse.
    if set_option is not None and set_option(_M_MMAP_THRESHOLD, _LARGEST_BLOCK):
        set_option(_M_TRIM_THRESHOLD, _KEPT_BYTES)
