"""Tests on pairs of values, one of each of two models for the same user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# Means over seeds of equal values differ in their last bits; a rank test would take that for a difference.
_DECIMALS = 12


def differences(reference: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each user's difference, ``[n_users]``, exactly 0 where only rounding errors differ."""
    return np.round(reference - other, _DECIMALS)


def t_test(reference: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Two-sided p-value of the paired t-test: is the mean difference 0?

    Returns:
        The p-value: 1 where no user differs, NaN where it cannot be told, since all differ by the same or there is
        but one user.
    """
    difference = differences(reference, other)
    if not difference.any():
        return 1.0
    if len(difference) < 2 or np.ptp(difference) == 0:
        return float("nan")
    return float(stats.ttest_rel(reference, other).pvalue)


def wilcoxon_test(difference: NDArray[np.float64]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test: are differences symmetric about 0?

    Users without a difference, who may be most, are ranked with the others and left out after that (Pratt). Left out
    before (Wilcoxon), they would not count at all, and a few users could decide for all.

    Args:
        difference: ``[n_users]``.

    Returns:
        The p-value: 1 where no user differs.
    """
    if not difference.any():
        return 1.0
    return float(stats.wilcoxon(difference, zero_method="pratt").pvalue)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values corrected for the number of tests by Holm's method: the chance of any false positive stays below each.

    Args:
        p_values: ``[n_tests]``; NaN stands for a test that was not made, and is not counted.

    Returns:
        ``[n_tests]``, NaN in the same places.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(len(p_values), np.nan)
    made = np.flatnonzero(~np.isnan(p_values))
    order = made[np.argsort(p_values[made], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * factors))
    return corrected
