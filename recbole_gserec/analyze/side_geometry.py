"""Measures how two sets of vectors of the same users lie relative to each other. All users count, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ELEMENTS = 1 << 23
_TEMPERATURE = 2.0
# Ten times as fast as computing differences. With 64-bit vectors of length 1, distances are exact to about 1e-8.
_BY_PRODUCTS = "use_mm_for_euclid_dist"
_NOTHING = 1e-7


class SideGeometry(NamedTuple):
    """Measures of the two sides.

    Attributes:
        silhouette: Mean silhouette of all vectors with the sides as clusters (Rousseeuw 1987), Euclidean: 1 if the
            sides are far apart and each is dense, about 0 if they are mixed.
        separation: Distance between the two sides' means, divided by the root mean square distance of vectors to their
            side's mean.
        alignment: Mean squared distance of a user's two vectors, each of length 1 (Wang and Isola 2020, alpha 2): 0 if
            they are parallel, 2 if they are orthogonal.
        cosine: Mean cosine of a user's two vectors: 1 - alignment / 2.
        uniformity_search: Log of the mean of exp(-2 * squared distance) over pairs of users, vectors of length 1 (Wang
            and Isola 2020, t 2): 0 if all vectors are equal, lower the more evenly they are spread.
        uniformity_recommendation: The same for the other side.
    """

    silhouette: float
    separation: float
    alignment: float
    cosine: float
    uniformity_search: float
    uniformity_recommendation: float


def side_geometry(search: NDArray[np.float32], recommendation: NDArray[np.float32]) -> SideGeometry:
    """Measure two sides, ``[n_users, d]`` each, with the same user in the same row; at least two users.

    All pairs are compared. This takes time proportional to the square of the number of users, and memory for one block.
    """
    sides = [torch.from_numpy(np.asarray(side, dtype=np.float64)) for side in (search, recommendation)]
    unit = [side / side.norm(dim=1, keepdim=True).clamp_min(1e-12) for side in sides]
    alignment = float((unit[0] - unit[1]).square().sum(1).mean())
    uniformity = [_uniformity(side) for side in unit]
    return SideGeometry(_silhouette(*sides), _separation(*sides), alignment, 1 - alignment / 2, *uniformity)


def _separation(search: Tensor, recommendation: Tensor) -> float:
    means = [side.mean(0) for side in (search, recommendation)]
    within = torch.cat(
        [(side - mean).square().sum(1) for side, mean in zip((search, recommendation), means, strict=True)]
    )
    return float((means[0] - means[1]).norm() / within.mean().sqrt().clamp_min(1e-12))


def _silhouette(search: Tensor, recommendation: Tensor) -> float:
    n_users = len(search)
    # Silhouettes do not depend on the origin or the scale.
    centre = (search.mean(0) + recommendation.mean(0)) / 2
    sides = [side - centre for side in (search, recommendation)]
    scale = max(float(side.norm(dim=1).max()) for side in sides) or 1.0
    sides = [side / scale for side in sides]
    total = 0.0
    for own, other in (sides, sides[::-1]):
        for rows in _blocks(n_users):
            inside = torch.cdist(own[rows], own, compute_mode=_BY_PRODUCTS).sum(1) / (n_users - 1)
            outside = torch.cdist(own[rows], other, compute_mode=_BY_PRODUCTS).mean(1)
            larger = torch.maximum(inside, outside)
            # If all vectors are equal, distances are rounding errors.
            total += float(((outside - inside) / larger.clamp_min(_NOTHING)).where(larger > _NOTHING, 0).sum())
    return total / (2 * n_users)


def _uniformity(unit: Tensor) -> float:
    n_users = len(unit)
    total = 0.0
    for rows in _blocks(n_users):
        total += float((-_TEMPERATURE * torch.cdist(unit[rows], unit, compute_mode=_BY_PRODUCTS).square()).exp().sum())
    # Each vector is also paired with itself once, at distance 0.
    return float(np.log((total - n_users) / (n_users * (n_users - 1))))


def _blocks(n_users: int) -> Iterator[slice]:
    size = max(1, _ELEMENTS // n_users)
    for start in range(0, n_users, size):
        yield slice(start, start + size)
