"""Starts child processes of this package, which end with the process that started them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from time import sleep
from typing import IO

from recbole_gserec.interruptions import PARENT

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
