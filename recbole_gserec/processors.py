"""The processors of this machine, and a word of warning where others keep them busy."""

from __future__ import annotations

import logging
import os

import joblib
import torch

_BUSY = 0.75
_LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
"""Before this program did anything: later its own load would be taken for that of others."""
logger = logging.getLogger(__name__)


def usable_cores() -> int:
    """Processors that this process may use, within the limits of a container."""
    return joblib.cpu_count()


def chosen_threads() -> int | None:
    """Threads that the user has chosen by ``OMP_NUM_THREADS``; None without a choice."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    return int(chosen) or None if chosen.isdecimal() else None


def warn_if_busy(threads: int | None = None) -> None:
    """Warn of other programs, unless the user has chosen a number of threads or there is a GPU.

    PyTorch's threads wait for each other in a loop, each on a processor. One of them that has none, because another
    program does, holds up all; training on one thread is then several times faster.

    Args:
        threads: Of a training; None for those that PyTorch takes by itself.
    """
    if "OMP_NUM_THREADS" in os.environ or torch.cuda.is_available():
        return
    threads, cores = threads or torch.get_num_threads(), usable_cores()
    if threads > 1 and _BUSY * cores < _LOAD:
        logger.warning(
            f"Other programs keep the processors busy (load {_LOAD:.1f} on {cores}): {threads} threads of a training "
            "would wait for each other. Set OMP_NUM_THREADS=1, or wait for the other programs"
        )
