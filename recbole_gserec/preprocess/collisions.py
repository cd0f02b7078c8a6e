"""Gives users who share all their codes a distinct last code."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from recbole_gserec.layers.quantization import Codebook
from recbole_gserec.layers.sinkhorn import balanced_codes
from recbole_gserec.preprocess.codebook_metrics import code_tuples

logger = logging.getLogger(__name__)

# Half a megabyte of float64, which stays in the cache during all iterations.
_DISTANCES_PER_CHUNK = 2**16


def separate_collisions(
    codes: np.ndarray,
    residuals: Tensor,
    codebook: Codebook,
    *,
    n_rounds: int = 20,
    epsilon: float = 0.003,
    n_iterations: int = 50,
) -> np.ndarray:
    """Re-code users who share a full tuple, group by group, with a balanced assignment at the last level.

    Users with equal vectors cannot be separated and stay together. Moved users may collide with others, so the search
    continues for ``n_rounds`` rounds or until a round changes nothing. The codes with the fewest collisions are
    returned.

    Args:
        codes: int64 ``[U, L]``.
        residuals: Residuals before the last level, ``[U, d]``.
        codebook: The last level.
        n_rounds: Maximum number of rounds.
        epsilon: See :func:`~recbole_gserec.layers.sinkhorn.sinkhorn_plan`.
        n_iterations: See :func:`~recbole_gserec.layers.sinkhorn.sinkhorn_plan`.

    Returns:
        int64 ``[U, L]``; only the last column can differ from ``codes``.
    """
    best, most_tuples = codes, len(code_tuples(codes)[1])
    current = codes
    for _ in range(n_rounds):
        recoded = current.copy()
        for members in colliding_groups(current):
            recoded[members, -1] = _recode(members, residuals, codebook, epsilon, n_iterations)
        if np.array_equal(recoded, current):
            break
        current = recoded
        n_tuples = len(code_tuples(current)[1])
        if n_tuples > most_tuples:
            best, most_tuples = current, n_tuples
    logger.debug("%d users still share all their codes with others", len(codes) - most_tuples)
    return best


def colliding_groups(codes: np.ndarray) -> list[np.ndarray]:
    """Find rows of ``codes``, int64 ``[U, L]``, that share their tuple with others.

    Returns:
        For every group size ``n`` that occurs the row numbers of its groups, int64 ``[G, n]``, ascending.
    """
    numbers, counts = code_tuples(codes)
    sizes = counts[numbers]
    # One stable sort orders groups by size and keeps the members of a group adjacent.
    rows = np.lexsort((numbers, sizes))
    rows = rows[sizes[rows] > 1]
    starts = np.flatnonzero(np.diff(sizes[rows], prepend=0))
    return [block.reshape(-1, sizes[block[0]]) for block in np.split(rows, starts[1:]) if len(block)]


def _recode(
    members: np.ndarray,
    residuals: Tensor,
    codebook: Codebook,
    epsilon: float,
    n_iterations: int,
) -> np.ndarray:
    """Return new last codes for groups of equal size, int64 ``[G, n]`` as ``members``."""
    n_groups, size = members.shape
    chunk = max(1, _DISTANCES_PER_CHUNK // (size * len(codebook.weight)))
    recoded = np.empty_like(members)
    for start in range(0, n_groups, chunk):
        rows = torch.from_numpy(members[start : start + chunk]).to(residuals.device)
        distances = codebook.distances(residuals[rows.flatten()]).unflatten(0, rows.shape)
        recoded[start : start + chunk] = balanced_codes(distances, epsilon, n_iterations).cpu().numpy()
    return recoded
