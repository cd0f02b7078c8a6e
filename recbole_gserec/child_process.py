"""Processes that this package starts for work of its own, and that end with the one that started them."""

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
    """Run a module of this package in a process of its own, and wait for it.

    Where this process is interrupted the other is ended first; where it is killed the other ends within a second:
    see :func:`interruptions.heed_while_importing`.

    Args:
        module: Its full name.
        *arguments: Of its command line.
        environment: Of the process; that of this one by default.
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
        # Not one long wait, which Ray could not interrupt.
        while child.poll() is None:
            sleep(_POLL_SECONDS)
    finally:
        # An interruption can come as soon as the process has started.
        if child is not None and child.poll() is None:
            child.terminate()
            try:
                child.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
    return child.returncode
