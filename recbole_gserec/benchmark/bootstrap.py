"""Percentile intervals of means over users, by the bootstrap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 2025
_ELEMENTS = 1 << 22  # 32 MiB of counts at a time.


def bootstrap_intervals(
    values: NDArray[np.float64], *, level: float = 0.95, n_resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Draw users with replacement, as many as there are, and take percentiles of the means over them.

    Args:
        values: ``[n_users, n_columns]``.
        level: Share of the resamples' means within the interval.
        n_resamples: How many resamples.

    Returns:
        ``[n_columns, 2]``: lower and upper end.
    """
    return percentile_intervals(resampled_means(values, n_resamples=n_resamples), level)


def percentile_intervals(resampled: NDArray[np.float64], level: float = 0.95) -> NDArray[np.float64]:
    """The interval that holds a share of the resamples' values; ``[n_resamples, n_columns]`` to ``[n_columns, 2]``."""
    tail = 50 * (1 - level)
    return np.percentile(resampled, [tail, 100 - tail], axis=0).T


def resampled_means(values: NDArray[np.float64], *, n_resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Means over resamples of the users.

    All columns are of the same resamples, which depend on the number of users alone. A resample is told by how often it
    holds each user, so that the means of all columns over many resamples are one product of matrices; its result does
    not depend on how many that is.

    Args:
        values: ``[n_users, n_columns]``.
        n_resamples: How many resamples.

    Returns:
        ``[n_resamples, n_columns]``.
    """
    n_users = len(values)
    generator = np.random.default_rng(SEED)
    means = np.empty((n_resamples, values.shape[1]))
    chunk = max(1, _ELEMENTS // n_users)
    counts = np.empty((min(chunk, n_resamples), n_users))
    for start in range(0, n_resamples, chunk):
        part = counts[: min(chunk, n_resamples - start)]
        for row in part:
            row[:] = np.bincount(generator.integers(n_users, size=n_users, dtype=np.int32), minlength=n_users)
        means[start : start + len(part)] = part @ values
    return means / n_users
