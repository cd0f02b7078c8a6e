"""Significance tests for pairs of values: two models' values for the same user, over one or several trainings of each.

Results vary with the choice of users and with the random numbers of training. A test over users alone takes the trained
models as given, so variation between seeds can look like a better model.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# Means over seeds of equal values can differ in their last bits, which a rank test would count as differences.
_DECIMALS = 12


def differences(reference: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute each user's difference, ``[n_users]``; exactly 0 if only rounding errors differ."""
    return np.round(reference - other, _DECIMALS)


def t_test(reference: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Two-sided p-value of the paired t-test: is the mean difference 0?

    Returns:
        The p-value: 1 if no user differs; NaN if it is undefined, because all differ by the same amount or there is
        only one user.
    """
    difference = differences(reference, other)
    if not difference.any():
        return 1.0
    if len(difference) < 2 or np.ptp(difference) == 0:
        return float("nan")
    return float(stats.ttest_rel(reference, other).pvalue)


class Variance(NamedTuple):
    """The variance of a mean over users and seeds, with its degrees of freedom.

    Attributes:
        total: The variance.
        degrees: Its degrees of freedom, by Satterthwaite.
    """

    total: float
    degrees: float

    def half_interval(self, level: float = 0.95) -> float:
        """Return half the width of the mean's interval, by Student's t."""
        return float(stats.t.ppf((1 + level) / 2, self.degrees) * np.sqrt(self.total)) if self.total > 0 else 0.0


def crossed_variance(*models: NDArray[np.float64]) -> Variance:
    r"""Variance of a model's mean, or of the difference of two models' means, where users and seeds are both drawn.

    Every seed has the same users, so the two are crossed. The variance over users of a user's mean (or difference of
    means) holds their share and that of the noise of single values. The variance over a model's seeds of their means,
    ``seeds``, holds the share of training and once more that noise, which is taken out:

    .. math::
        V = V_{users} + \sum_{models} \max(0, V_{seeds} - V_{noise}), \qquad
        \nu = V^2 \Big/ \Big(\frac{V_{users}^2}{U - 1} + \sum_{models} \frac{V_{seeds}^2}{S - 1}\Big)

    Seeds of two models are not paired: the same seed means nothing for two architectures.

    Args:
        models: ``[n_seeds, n_users]`` each, one or two, of the same users in the same order; at least two seeds and
            two users.
    """
    signs = (1, -1)[: len(models)]
    over_users = sum(sign * values.mean(0) for sign, values in zip(signs, models, strict=True))
    n_users = models[0].shape[1]
    of_users = float(np.var(over_users, ddof=1)) / n_users
    total, spread = of_users, of_users**2 / (n_users - 1)
    for values in models:
        n_seeds = len(values)
        of_seeds = float(values.mean(1).var(ddof=1)) / n_seeds
        noise = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
        of_noise = float(np.square(noise).sum()) / ((n_seeds - 1) * (n_users - 1)) / (n_seeds * n_users)
        total += max(0.0, of_seeds - of_noise)
        spread += of_seeds**2 / (n_seeds - 1)
    return Variance(total, total**2 / spread if spread > 0 else np.inf)


def two_way_test(reference: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Two-sided p-value: would the difference of the means hold for other users and other trainings?

    Args:
        reference: ``[n_seeds, n_users]``.
        other: The same for another model, possibly with another number of seeds.

    Returns:
        The p-value: 1 if the means are equal; NaN if it is undefined, because there is only one seed or user, or
        nothing varies.
    """
    if min(len(reference), len(other)) < 2 or reference.shape[1] < 2:
        return float("nan")
    difference = float(differences(reference.mean(0), other.mean(0)).mean())
    if difference == 0:
        return 1.0
    variance = crossed_variance(reference, other)
    # A variance that comes only from rounding errors counts as 0.
    if variance.total <= 10.0 ** (-2 * _DECIMALS):
        return float("nan")
    return float(2 * stats.t.sf(abs(difference) / np.sqrt(variance.total), variance.degrees))


def wilcoxon_test(difference: NDArray[np.float64]) -> float:
    """Compute the two-sided p-value of Wilcoxon's signed-rank test: are differences symmetric about 0?

    Users without a difference, often the majority, are ranked with the others and left out afterwards (Pratt). If they
    were left out before (Wilcoxon), they would not count at all, and a few users could decide the result.

    Args:
        difference: ``[n_users]``.

    Returns:
        The p-value; 1 if no user differs.
    """
    if not difference.any():
        return 1.0
    return float(stats.wilcoxon(difference, zero_method="pratt").pvalue)


def holm_correction(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct p-values for the number of tests by Holm's method: the chance of any false positive stays below each.

    Args:
        p_values: ``[n_tests]``; NaN marks a test that was not made and is not counted.

    Returns:
        ``[n_tests]``, NaN at the same positions.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(len(p_values), np.nan)
    made = np.flatnonzero(~np.isnan(p_values))
    order = made[np.argsort(p_values[made], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * factors))
    return corrected


def benjamini_hochberg_correction(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct p-values for the number of tests by the method of Benjamini and Hochberg.

    If all tests with a corrected p-value of at most q are called findings, a share of at most q of them is expected to
    be false. This holds for independent tests, and for positively dependent ones like those of one reference against
    several models. Arguments and result are those of :func:`holm_correction`.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(len(p_values), np.nan)
    made = ~np.isnan(p_values)
    corrected[made] = stats.false_discovery_control(p_values[made], method="bh")
    return corrected


CORRECTIONS = {"holm": holm_correction, "bh": benjamini_hochberg_correction}
"""Suffix of a column -> correction of the p-values before it."""
