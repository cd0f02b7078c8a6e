"""RecBole's collector and evaluator, with ranks that never favour the target and plain numbers as results."""

from collections import OrderedDict
from logging import getLogger
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.evaluator import Collector, Evaluator
from torch import Tensor

from recbole_gserec.errors import GSERecError
from recbole_gserec.evaluation.scoring import CandidateBatch
from recbole_gserec.evaluation.top_k import best_items

_ELEMENTS = 1 << 24


def ranks_against_ties(scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rank each target in its row, 1 for the best; every tie and every NaN counts against the target.

    A model that gives all candidates the same score thus gets the last rank, and not the first by chance of sorting.

    Args:
        scores: ``[n_rows, n_candidates]``; ``-inf`` for columns that are not candidates.
        rows: ``[n_targets]`` row of each target.
        columns: ``[n_targets]`` column of each target.

    Returns:
        ``[n_targets]``, ``int64``. Targets in the same row are ranked by score, then by order.
    """
    target_scores = scores[rows, columns]
    one_each = len(rows) == len(scores) and bool((rows == torch.arange(len(rows), device=rows.device)).all())
    is_target = None
    if not one_each:
        is_target = torch.zeros_like(scores, dtype=torch.bool)
        is_target[rows, columns] = True
    step = max(1, _ELEMENTS // max(scores.shape[1], 1))
    counts = []
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        others = scores[part] if one_each else scores[rows[part]]
        # "not lower" instead of "greater or equal", so that NaN counts against the target on either side.
        ahead = ~(others < target_scores[part].unsqueeze(1))
        if is_target is not None:
            ahead &= ~is_target[rows[part]]
        counts.append(ahead.sum(1))
    counted = torch.cat(counts) if counts else rows.new_zeros(0)
    # If each row has one target, the target has been compared with itself.
    return counted if one_each else counted + 1 + _positions_in_row(rows, target_scores)


def _positions_in_row(rows: Tensor, target_scores: Tensor) -> Tensor:
    """Return the 0-based position of each target among those of its row, by descending score, then by order."""
    # Sorting would put NaN first.
    target_scores = target_scores.masked_fill(target_scores.isnan(), -torch.inf)
    order = torch.argsort(target_scores, descending=True, stable=True)
    order = order[torch.argsort(rows[order], stable=True)]
    sizes = torch.unique_consecutive(rows[order], return_counts=True)[1]
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    positions = torch.empty_like(rows)
    positions[order] = torch.arange(len(rows), device=rows.device) - starts
    return positions


class TieAwareCollector(Collector):
    """Collects what RecBole's metrics need, with ranks from :func:`ranks_against_ties`.

    RecBole's own collector uses the arbitrary order in which ``torch.topk`` returns equal scores.

    Attributes:
        ranks: One entry per batch of the current evaluation: users, targets and ranks.
    """

    def __init__(self, config: Config):
        super().__init__(config)
        self._needs_topk = self.register.need("rec.topk")
        self._needs_items = self.register.need("rec.items")
        setattr(self.register, "rec.topk", False)
        setattr(self.register, "rec.items", False)
        self._user_field, self._model = config["USER_ID_FIELD"], config["model"]
        self.ranks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._finished = self.ranks
        self._n_targets = self._n_unscored = 0

    def eval_batch_collect(
        self, scores_tensor: torch.Tensor, interaction: Any, positive_u: torch.Tensor, positive_i: torch.Tensor
    ) -> None:
        is_sampled = isinstance(interaction, CandidateBatch)
        features = interaction.interaction if is_sampled else interaction
        super().eval_batch_collect(scores_tensor, features, positive_u, positive_i)
        if not (self._needs_topk or self._needs_items):
            return
        rows, columns = positive_u.to(scores_tensor.device), positive_i.to(scores_tensor.device)
        if self._needs_topk:
            ranks = ranks_against_ties(scores_tensor, rows, columns)
            self._n_targets += len(ranks)
            self._n_unscored += int(scores_tensor[rows, columns].isnan().sum())
            self.data_struct.update_tensor("rec.topk", self._hits(ranks, rows, len(scores_tensor)))
            targets = interaction.candidates[:, 0] if is_sampled else positive_i
            users = features[self._user_field].cpu()
            if len(users) != len(scores_tensor):
                # RecBole's own sampled evaluation has a row for each pair; the rows of a user are adjacent.
                users = users.unique_consecutive()
            if len(users) == len(scores_tensor):
                self.ranks.append((users[positive_u.cpu()].numpy(), targets.cpu().numpy(), ranks.cpu().numpy()))
        if self._needs_items:
            items = interaction.candidates if is_sampled else None
            self.data_struct.update_tensor("rec.items", best_items(scores_tensor, max(self.topk), items).cpu())

    def _hits(self, ranks: torch.Tensor, rows: torch.Tensor, n_rows: int) -> torch.Tensor:
        """Return ``[n_rows, K + 1]``: whether a target is at each of the first K ranks, and the number of targets."""
        deepest = max(self.topk)
        hits = torch.zeros(n_rows, deepest + 1, dtype=torch.int, device=ranks.device)
        shown = ranks <= deepest
        hits[rows[shown], ranks[shown] - 1] = 1
        hits[:, -1] = torch.bincount(rows, minlength=n_rows)
        return hits

    def get_data_struct(self) -> Any:
        """Return RecBole's data structure for a completed evaluation.

        Raises:
            GSERecError: If the scores of all targets are NaN, because the metrics would look like those of a bad model.
        """
        self._finished, self.ranks = self.ranks, []
        n_targets, n_unscored = self._n_targets, self._n_unscored
        self._n_targets = self._n_unscored = 0
        if n_unscored:
            whose = f"{self._model}: the scores of {n_unscored:,} of {n_targets:,} targets are NaN"
            if n_unscored == n_targets:
                raise GSERecError(f"{whose}: the training diverged. Train again with a smaller learning_rate")
            getLogger().warning(f"{whose}: these have the last rank")
        # RecBole 1.2.1 calls `.cpu()` on everything collected, including counts.
        counts = {name: value for name, value in self.data_struct._data_dict.items() if not torch.is_tensor(value)}
        for name in counts:
            del self.data_struct[name]
        result = super().get_data_struct()
        for name, value in counts.items():
            self.data_struct.set(name, value)
            result.set(name, value)
        return result

    def per_user_ranks(self) -> pd.DataFrame:
        """Return the ranks of the last evaluation: ``user`` and ``item`` (internal ids) and ``rank`` (1 is best)."""
        names = ("user", "item", "rank")
        if not self._finished:
            return pd.DataFrame({name: [] for name in names})
        columns = map(np.concatenate, zip(*self._finished, strict=True))
        return pd.DataFrame(dict(zip(names, columns, strict=True)))


class PlainEvaluator(Evaluator):
    """RecBole's :class:`Evaluator`, but results are Python's numbers, which are more readable in logs than NumPy's."""

    def evaluate(self, dataobject: Any) -> OrderedDict[str, float]:
        return OrderedDict((metric, float(value)) for metric, value in super().evaluate(dataobject).items())
