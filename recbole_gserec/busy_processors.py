"""A word of warning before work on a machine whose processors others keep busy."""

from __future__ import annotations

import logging
import os

import torch

from recbole_gserec.ray_cluster import usable_cores

_BUSY = 0.75
logger = logging.getLogger(__name__)


def warn_if_busy() -> None:
    """Warn of other programs, unless the user has chosen a number of threads or there is a GPU.

    PyTorch's threads wait for each other in a loop, each on a processor. One of them that has none, because another
    program does, holds up all; training on one thread is then several times faster.
    """
    if "OMP_NUM_THREADS" in os.environ or torch.cuda.is_available() or not hasattr(os, "getloadavg"):
        return
    load, cores = os.getloadavg()[0], usable_cores()
    if torch.get_num_threads() > 1 and load > _BUSY * cores:
        logger.warning(
            f"Other programs keep the processors busy (load {load:.1f} on {cores}): {torch.get_num_threads()} threads "
            "would wait for each other. Set OMP_NUM_THREADS=1, or wait for the other programs"
        )
