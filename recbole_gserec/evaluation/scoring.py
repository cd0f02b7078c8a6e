"""Scoring candidates: each history is encoded once, however many candidates it is scored with."""

from collections.abc import Sequence
from dataclasses import dataclass
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_gserec.errors import SettingError
from recbole_gserec.evaluation.candidates import CandidateLists


@dataclass(frozen=True)
class CandidateBatch:
    """Rows to evaluate, each with its target and its negatives.

    Its length is its number of rows, which RecBole's distributed evaluation uses to weight batches.

    Shapes:
        - **candidates**: ``[B, 1 + n]`` item ids, the target first; 0 where a row has fewer negatives.
    """

    interaction: Interaction
    candidates: Tensor
    dataset: Any

    def __len__(self) -> int:
        return len(self.interaction)


def score_batch(
    model: Any, batch: CandidateBatch, device: torch.device, max_pairs: int
) -> tuple[CandidateBatch, Tensor, Tensor, Tensor]:
    """Score a batch in the form that RecBole's collector expects.

    Models of this package score candidates directly. RecBole's own models score all items at once, from which the
    candidates are selected, or score pair by pair if they cannot.

    Args:
        model: Any RecBole model.
        batch: The rows.
        device: Device of the model.
        max_pairs: Maximum number of (row, candidate) pairs in one call of ``predict``.

    Returns:
        The batch, the scores ``[B, 2 + n]`` of the candidates and of a last column of ``-inf`` that ends every ranking,
        and the row and column of each target, ``[B]`` each.
    """
    interaction, candidates = batch.interaction.to(device), batch.candidates.to(device)
    if hasattr(model, "score_candidates"):
        scores = model.score_candidates(interaction, candidates)
    elif has_full_ranking(model):
        scores = model.full_sort_predict(interaction).view(len(candidates), -1).gather(1, candidates)
    else:
        rows_at_once = max(1, max_pairs // candidates.shape[1])
        parts = (slice(start, start + rows_at_once) for start in range(0, len(batch), rows_at_once))
        pairs = ((batch.interaction[part], batch.candidates[part]) for part in parts)
        scores = torch.cat([predict_pairs(model, batch.dataset, *pair, device) for pair in pairs])
    scores = scores.masked_fill(candidates == 0, -torch.inf)
    scores = torch.cat([scores, scores.new_full((len(scores), 1), -torch.inf)], dim=1)
    rows = torch.arange(len(scores), device=device)
    return batch, scores, rows, torch.zeros_like(rows)


def has_full_ranking(model: Any) -> bool:
    """Return whether the model's class defines ``full_sort_predict``: RecBole's base class only raises an error."""
    owner = next(cls for cls in type(model).__mro__ if "full_sort_predict" in vars(cls))
    return not owner.__module__.endswith("abstract_recommender")


def predict_pairs(model: Any, dataset: Any, rows: Interaction, candidates: Tensor, device: torch.device) -> Tensor:
    """Score each candidate separately with the model's ``predict``.

    Args:
        model: Any RecBole model.
        dataset: Its dataset.
        rows: ``B`` rows, on any device.
        candidates: ``[B, C]`` item ids, on the same device.
        device: Device of the model.

    Returns:
        Scores ``[B, C]``, on the model's device.
    """
    pairs = rows.repeat_interleave(candidates.shape[1])
    pairs.update(Interaction({dataset.iid_field: candidates.reshape(-1)}))
    # Item features in a dataset must be those of the candidate, not of the target.
    pairs = dataset.join(pairs.to("cpu"))
    return model.predict(pairs.to(device)).view(candidates.shape)


MAX_SCORES = 1 << 24
"""Maximum number of scores in memory if rows are scored against all items: 64 MiB of 32-bit floats."""


def _candidate_seed(config: Config) -> int:
    seed = config["eval_candidate_seed"]
    if seed is None:
        return config["seed"]
    if not (type(seed) is int and seed >= 0):
        raise SettingError(f"eval_candidate_seed is {seed!r}; it must be a whole number of at least 0")
    return seed


class CandidateEvalDataLoader(AbstractDataLoader):
    """Rows of a split, each with its target and the same negatives for every model."""

    def __init__(self, config: Config, dataset: Dataset, sampler: Any, shuffle: bool = False):
        self.logger = getLogger()
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        neg_sample_args = config[f"{sampler.phase}_neg_sample_args"]
        self.lists = CandidateLists(
            dataset, sampler, neg_sample_args["sample_num"], neg_sample_args["distribution"], _candidate_seed(config)
        )
        self.candidates = torch.cat(
            [
                dataset.inter_feat[self.iid_field].unsqueeze(1),
                self.lists.for_rows(dataset.inter_feat[self.uid_field]),
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


class AllItemsEvalDataLoader(FullSortEvalDataLoader):
    """The targets of some users among all items that could be in their candidate lists, for every model alike.

    RecBole's full ranking leaves out a user's history for general models only.

    Args:
        config: RecBole's settings.
        part: A part of the split with candidate lists.
        n_users: Maximum number of users. They are the same for every model and seed.
        scores_all: Whether the model scores all items at once, and not pair by pair.
    """

    def __init__(self, config: Config, part: CandidateEvalDataLoader, n_users: int, scores_all: bool):
        self.logger = getLogger()
        dataset, self._lists = part._dataset, part.lists
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self._max_scores = MAX_SCORES if scores_all else config["eval_batch_size"]
        self._rows = self._lists.sample_of_users(dataset.inter_feat[self.uid_field], n_users)
        self._is_out = torch.ones(dataset.item_num, dtype=torch.bool)
        self._is_out[torch.from_numpy(self._lists.items)] = False
        self.sample_size = len(self._rows)
        AbstractDataLoader.__init__(self, config, dataset, part._sampler, shuffle=False)

    def _init_batch_size_and_step(self) -> None:
        self.step = max(1, min(self.config["eval_batch_size"], self._max_scores // self._dataset.item_num))
        self.set_batch_size(self.step)

    def collate_fn(self, index: Sequence[int]) -> Any:
        interaction = self.transform(self._dataset, self._dataset[self._rows[np.array(index)]])
        users, targets = interaction[self.uid_field], interaction[self.iid_field]
        rows = torch.arange(len(targets))
        masked = self._is_out.repeat(len(targets), 1)
        masked[self._lists.known_items(users)] = True
        masked[rows, targets] = False
        return interaction, masked, rows, targets
