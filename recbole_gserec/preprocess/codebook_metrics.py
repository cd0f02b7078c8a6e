"""How well codes use their codebooks and tell users apart, and how shared codes are resolved."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_gserec.layers import Codebook, balanced_codes

ROWS_PER_CHUNK = 16_384


def code_tuples(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct rows of ``codes``.

    Args:
        codes: int64 ``[U, L]``.

    Returns:
        The number of each row's tuple, int64 ``[U]``, and the number of rows with each tuple, int64 ``[T]``.
    """
    keys, n_keys = np.zeros(len(codes), dtype=np.int64), 1
    for level in codes.T:
        size = int(level.max(initial=0)) + 1
        if n_keys * size > 2**62:
            keys = np.unique(keys, return_inverse=True)[1]
            n_keys = len(keys)
        keys, n_keys = keys * size + level, n_keys * size
    _, numbers, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return numbers, counts


def collision_rate(codes: np.ndarray) -> float:
    """Return the share of users to remove until all tuples in ``codes``, int64 ``[U, L]``, are distinct."""
    return 1.0 - len(code_tuples(codes)[1]) / len(codes)


def level_usage(codes: np.ndarray, codebook_size: int) -> dict[str, Any]:
    """Measure the usage of one codebook.

    Args:
        codes: One level's codes, int64 ``[U]``.
        codebook_size: ``K``.

    Returns:
        ``perplexity``, the exponential of the entropy of usage, from 1 to ``K``; ``used_codes``; ``dead_codes``.
    """
    counts = np.bincount(codes, minlength=codebook_size)
    shares = counts[counts > 0] / len(codes)
    return {
        "perplexity": float(np.exp(-(shares * np.log(shares)).sum())),
        "used_codes": len(shares),
        "dead_codes": codebook_size - len(shares),
    }


@torch.no_grad()
def reconstruction_error(vectors: Tensor, codes: Tensor, decode: Callable[[Tensor], Tensor]) -> float:
    """Compute the squared error of the decoded codes relative to that of the mean vector.

    Embeddings of similar texts share a large mean, which any decoder learns. 0 is perfect, and 1 is no better than the
    mean.

    Args:
        vectors: ``[U, d_e]``.
        codes: int64 ``[U, L]``.
        decode: Maps codes to vectors.

    Returns:
        The ratio; if all vectors are equal, the mean squared norm of the errors.
    """
    mean = vectors.mean(0, dtype=torch.float64)
    error = spread = 0.0
    for rows, row_codes in zip(vectors.split(ROWS_PER_CHUNK), codes.split(ROWS_PER_CHUNK), strict=True):
        error += (rows - decode(row_codes)).double().square().sum().item()
        spread += (rows - mean).square().sum().item()
    # Rounding the mean leaves a small spread even if there is none.
    has_spread = spread > 1e-10 * len(vectors) * mean.square().sum().item()
    return error / (spread if has_spread else len(vectors))


def side_metrics(codes: np.ndarray, codebook_sizes: Sequence[int]) -> dict[str, Any]:
    """Compute ``collision_rate`` and, for each level, :func:`level_usage` of one side's codes, int64 ``[U, L]``."""
    return {
        "collision_rate": collision_rate(codes),
        "levels": [level_usage(level, size) for level, size in zip(codes.T, codebook_sizes, strict=True)],
    }


def codebook_metrics(
    search_codes: np.ndarray,
    rec_codes: np.ndarray,
    codebook_sizes: Sequence[int],
    *,
    search_error: float | None = None,
    rec_error: float | None = None,
) -> dict[str, Any]:
    """Compute the metrics of both sides as plain numbers for JSON.

    Args:
        search_codes: int64 ``[U, L]``.
        rec_codes: int64 ``[U, L]``.
        codebook_sizes: Codes of each of the ``L`` levels.
        search_error: :func:`reconstruction_error` of the search side, if known.
        rec_error: The same for the recommendation side.

    Returns:
        ``search`` and ``rec`` from :func:`side_metrics`, with ``reconstruction_error``, and the mean
        ``collision_rate``.
    """
    search = side_metrics(search_codes, codebook_sizes) | {"reconstruction_error": search_error}
    rec = side_metrics(rec_codes, codebook_sizes) | {"reconstruction_error": rec_error}
    return {
        "collision_rate": (search["collision_rate"] + rec["collision_rate"]) / 2,
        "search": search,
        "rec": rec,
    }


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
        epsilon: See :func:`~recbole_gserec.layers.quantization.sinkhorn_plan`.
        n_iterations: See :func:`~recbole_gserec.layers.quantization.sinkhorn_plan`.

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
