"""The value of a metric for each user, computed from the rank of the user's target."""

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_gserec.errors import SettingError

_NAME = re.compile(r"(hit|hr|ndcg|mrr)@([1-9][0-9]*)")
_LABELS = {"hit": "HR", "ndcg": "NDCG", "mrr": "MRR"}


class Metric(NamedTuple):
    """A metric of the first ``depth`` ranks, for users with one target each.

    Attributes:
        kind: ``hit``, ``ndcg`` or ``mrr``.
        depth: How many ranks count.
    """

    kind: str
    depth: int

    @property
    def name(self) -> str:
        """RecBole's name in lower case, such as ``hit@10``."""
        return f"{self.kind}@{self.depth}"

    @property
    def label(self) -> str:
        """The paper's name, such as ``HR@10``."""
        return f"{_LABELS[self.kind]}@{self.depth}"

    def of_ranks(self, ranks: NDArray[np.int32]) -> NDArray[np.float64]:
        """Compute the value for each rank.

        With one target, Hit is 1 within the depth, NDCG is ``1 / log2(rank + 1)`` and MRR is ``1 / rank``. All are 0
        beyond.

        Args:
            ranks: ``[n_users]``; 1 is the best.

        Returns:
            ``[n_users]``, values from 0 to 1.
        """
        shown = ranks <= self.depth
        if self.kind == "hit":
            return shown.astype(np.float64)
        ranks = ranks.astype(np.float64)
        return np.where(shown, 1 / np.log2(ranks + 1) if self.kind == "ndcg" else 1 / ranks, 0.0)


def parse_metric(name: str) -> Metric:
    """Parse a metric's name: RecBole's (``Hit@10``, ``NDCG@10``, ``MRR@10``) or the paper's (``HR@10``).

    Raises:
        SettingError: If the metric is unknown, or the rank of a single target does not determine it.
    """
    match = _NAME.fullmatch(name.strip().lower())
    if not match:
        raise SettingError(f"unknown metric '{name}'; use HR, NDCG or MRR with a depth, as in NDCG@10")
    kind, depth = match.groups()
    return Metric("hit" if kind == "hr" else kind, int(depth))


DEFAULT_METRICS = tuple(parse_metric(name) for name in ("hit@1", "hit@5", "hit@10", "ndcg@5", "ndcg@10"))
"""The columns of the paper's Table 2."""


def chosen_metrics(names: list[str] | None) -> tuple[Metric, ...]:
    """Return the metrics with these names, each once, in the given order; the paper's by default."""
    return tuple(dict.fromkeys(map(parse_metric, names))) if names else DEFAULT_METRICS


def main_metric(metrics: tuple[Metric, ...]) -> Metric:
    """Choose the metric that represents all others: NDCG@10, or the last NDCG, or the last metric."""
    if Metric("ndcg", 10) in metrics:
        return Metric("ndcg", 10)
    return next((metric for metric in reversed(metrics) if metric.kind == "ndcg"), metrics[-1])
