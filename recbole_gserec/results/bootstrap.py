"""Bootstrap percentile intervals of means over users, or over users and seeds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 2025
_ELEMENTS = 1 << 22  # 32 MiB of counts at a time.
_STACKED = 1 << 25  # 256 MiB of values at a time.

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def bootstrap_intervals(
    values: NDArray[np.float64], *, level: float = 0.95, n_resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Compute percentile intervals of the mean over users, from resamples drawn with replacement.

    Args:
        values: ``[n_users, n_columns]``.
        level: Share of the resampled means that lie within the interval.
        n_resamples: Number of resamples.

    Returns:
        ``[n_columns, 2]``: lower and upper bound.
    """
    return percentile_intervals(resampled_means(values, n_resamples=n_resamples), level)


def crossed_intervals(pairs: Sequence[Pair], *, n_resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Compute percentile intervals of differences of means. Both the users and each model's seeds are resampled.

    Args:
        pairs: Values of two models, ``[n_seeds, n_users]`` each, for the same users.
        n_resamples: Number of resamples.

    Returns:
        ``[n_pairs, 2]``: lower and upper bound.
    """
    intervals = []
    n_elements = sum(values.size for values in pairs[0])
    step = max(1, _STACKED // n_elements)
    for start in range(0, len(pairs), step):
        ours, theirs = crossed_means(pairs[start : start + step], n_resamples=n_resamples)
        intervals.append(percentile_intervals(ours - theirs))
    return np.concatenate(intervals)


def crossed_means(
    pairs: Sequence[Pair], *, n_resamples: int = RESAMPLES
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute means over resamples of the users and of each model's seeds; see :func:`crossed_intervals`.

    The seeds of the two models are resampled independently, because equal seeds have nothing in common across models.
    With one seed, only users are resampled. The result for a pair does not depend on the other pairs.

    Returns:
        Means of the first and of the second model of each pair, ``[n_resamples, n_pairs]`` each.
    """
    # A model that is part of several pairs is resampled only once.
    distinct = {id(values): values for pair in pairs for values in pair}
    means = resampled_means(np.concatenate(list(distinct.values())).T, n_resamples=n_resamples)
    ends = np.cumsum([len(values) for values in distinct.values()])
    of_model = {key: means[:, end - len(distinct[key]) : end] for key, end in zip(distinct, ends, strict=True)}
    sides = []
    for side in (0, 1):
        results = [
            np.einsum("rs,rs->r", _resampled_seeds(len(pair[side]), side, n_resamples), of_model[id(pair[side])])
            for pair in pairs
        ]
        sides.append(np.stack(results, axis=1))
    return sides[0], sides[1]


def _resampled_seeds(n_seeds: int, side: int, n_resamples: int) -> NDArray[np.float64]:
    """Return the share of each seed in each resample, ``[n_resamples, n_seeds]``. The two sides of a pair differ."""
    drawn = np.random.default_rng([SEED, 1 + side]).integers(n_seeds, size=(n_resamples, n_seeds))
    return (drawn[:, :, None] == np.arange(n_seeds)).mean(1)


def percentile_intervals(resampled: NDArray[np.float64], level: float = 0.95) -> NDArray[np.float64]:
    """Return the interval that contains a share of the resampled values, ``[n_columns, 2]``."""
    tail = 50 * (1 - level)
    return np.percentile(resampled, [tail, 100 - tail], axis=0).T


def resampled_means(values: NDArray[np.float64], *, n_resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Compute means over resamples of the users.

    All columns use the same resamples, which depend only on the number of users. A resample is stored as a count for
    each user, so the means of all columns over many resamples are one matrix product. The result does not depend on how
    many resamples are computed at once.

    Args:
        values: ``[n_users, n_columns]``.
        n_resamples: Number of resamples.

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
