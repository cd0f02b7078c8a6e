"""Dataloaders for evaluation: fixed candidates, and full ranking in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset

from recbole_gserec.errors import SettingError
from recbole_gserec.evaluation.candidate_lists import CandidateLists
from recbole_gserec.evaluation.scoring import CandidateBatch

MAX_SCORES = 1 << 24
"""Maximum number of scores in memory if rows are scored against all items: 64 MiB of 32-bit floats."""


class CandidateEvalDataLoader(AbstractDataLoader):
    """Rows of a split, each with its target and the same negatives for every model."""

    def __init__(self, config: Config, dataset: Dataset, sampler: Any, shuffle: bool = False):
        self.logger = getLogger()
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        neg_sample_args = config[f"{sampler.phase}_neg_sample_args"]
        given = config["eval_candidate_seed"]
        if given is not None and not (type(given) is int and given >= 0):
            raise SettingError(f"eval_candidate_seed is {given!r}; it takes a whole number of at least 0")
        lists = CandidateLists(
            dataset,
            sampler,
            neg_sample_args["sample_num"],
            neg_sample_args["distribution"],
            config["seed"] if given is None else given,
        )
        self.candidates = torch.cat(
            [
                dataset.inter_feat[self.iid_field].unsqueeze(1),
                lists.for_rows(dataset.inter_feat[self.uid_field]),
            ],
            dim=1,
        )
        self.sample_size = len(dataset)
        super().__init__(config, dataset, sampler, shuffle=False)

    def _init_batch_size_and_step(self) -> None:
        # The batch size counts rows; RecBole's own models score all items for each row.
        self.step = max(1, min(self.config["eval_batch_size"], MAX_SCORES // self._dataset.item_num))
        self.set_batch_size(self.step)

    def collate_fn(self, index: Sequence[int]) -> Any:
        rows = np.array(index)
        interaction = self.transform(self._dataset, self._dataset[rows])
        return CandidateBatch(interaction, self.candidates[rows], self._dataset)


class SearchCandidateEvalDataLoader(CandidateEvalDataLoader):
    """Candidate dataloader for models that score only candidates and bound their memory themselves."""

    def _init_batch_size_and_step(self) -> None:
        self.step = self.config["eval_batch_size"]
        self.set_batch_size(self.step)


class BoundedFullSortEvalDataLoader(FullSortEvalDataLoader):
    """Full ranking with batches small enough for the scores of all items, however many there are.

    Items that only occur in searches are masked: other models could not recommend them, and they are never targets.
    """

    def __init__(self, config: Config, dataset: Dataset, sampler: Any, shuffle: bool = False):
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        is_candidate = torch.zeros(dataset.item_num, dtype=torch.bool)
        is_candidate[dataset.events.items.long()] = True
        self._masked = torch.nonzero(~is_candidate).squeeze(1)

    def _init_batch_size_and_step(self) -> None:
        self.step = max(1, min(self.config["eval_batch_size"], MAX_SCORES // self._dataset.item_num))
        self.set_batch_size(self.step)

    def collate_fn(self, index: Sequence[int]) -> Any:
        interaction, _, positive_u, positive_i = super().collate_fn(index)
        return interaction, (slice(None), self._masked), positive_u, positive_i
