"""Groups users by a whole number, such as their number of searches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_gserec.errors import SettingError

_GROUP = re.compile(r"([0-9]{1,9})(-([0-9]{1,9})?)?")


class Group(NamedTuple):
    """Users whose number lies between two bounds.

    Attributes:
        fewest: The lowest number.
        most: The highest number; None for no bound.
    """

    fewest: int
    most: int | None

    @property
    def label(self) -> str:
        """The label, as in the statistics of datasets: ``0``, ``1-5``, ``>5``."""
        if self.most is None:
            return f">{self.fewest - 1}" if self.fewest else "all"
        return f"{self.fewest}" if self.fewest == self.most else f"{self.fewest}-{self.most}"


def parse_groups(text: str) -> tuple[Group, ...]:
    """Parse groups from a text such as ``0,1-5,6-20,21-``; the last may be open.

    Raises:
        SettingError: If the form is wrong, or groups are not ascending or overlap.
    """
    groups: list[Group] = []
    for part in text.split(","):
        match = _GROUP.fullmatch("".join(part.split()))
        if not match:
            raise SettingError(f"--groups has '{part.strip()}'; a group is '0', '1-5' or '21-', with commas between")
        fewest = int(match[1])
        most = fewest if not match[2] else int(match[3]) if match[3] else None
        if most is not None and most < fewest:
            raise SettingError(f"--groups has '{part.strip()}', which ends before it begins")
        if groups and (groups[-1].most is None or groups[-1].most >= fewest):
            raise SettingError(f"--groups: '{part.strip()}' does not come after '{groups[-1].label}'; groups ascend")
        groups.append(Group(fewest, most))
    return tuple(groups)


def quantile_groups(numbers: NDArray[np.int64], n_groups: int) -> tuple[Group, ...]:
    """Make groups with about equally many users. Users with equal numbers stay together, so there may be fewer groups.

    Args:
        numbers: ``[n_users]``, at least one.
        n_groups: Number of groups.

    Returns:
        Groups without gaps from 0 on; none of them is empty.
    """
    shares = np.arange(1, n_groups) / n_groups
    borders = np.unique(np.quantile(numbers, shares, method="inverted_cdf")) if n_groups > 1 else np.zeros(0)
    ends = [int(end) for end in borders if end < numbers.max()]
    starts = [0, *(end + 1 for end in ends)]
    return tuple(Group(start, end) for start, end in zip(starts, [*ends, None], strict=True))


def group_indices(numbers: NDArray[np.int64], groups: Sequence[Group]) -> NDArray[np.int64]:
    """Return the index of each user's group, ``[n_users]``; -1 for users without a group."""
    starts = np.array([group.fewest for group in groups])
    ends = np.array([np.iinfo(np.int64).max if group.most is None else group.most for group in groups])
    indices = np.searchsorted(starts, numbers, side="right") - 1
    return np.where((indices >= 0) & (numbers <= ends[indices]), indices, -1)
