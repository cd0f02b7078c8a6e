"""The CPUs of this machine, and a warning if other programs keep them busy."""

from __future__ import annotations

import logging
import os

import joblib
import torch

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
