"""What sequential models are trained for: one choice of losses for the models of this package and of RecBole."""

from collections.abc import Callable, Mapping
from logging import getLogger
from typing import Any

import torch
import torch.nn.functional as F
from recbole.data.dataset import Dataset
from torch import Tensor

from recbole_gserec.data import events_of_rows, training_counts
from recbole_gserec.errors import SettingError
from recbole_gserec.layers import (
    all_items_loss,
    dot_product,
    pointwise_loss,
    power_of_positives,
    sampled_softmax_loss,
)
from recbole_gserec.settings import check_choice, check_negatives, objective_settings

LOSSES = ("BCE", "sampled_CE", "gBCE", "CE")
SAMPLED = LOSSES[:-1]
"""Losses over sampled negatives."""


class Objective:
    """The loss of a positive among its candidates, by the settings in ``properties/objective.yaml``.

    Args:
        config: RecBole's settings.
        n_items: Number of item ids, including padding.
        counts: ``[n_items]``, training interactions of each item that can be drawn as a negative; read if negatives are
            not drawn uniformly.

    Attributes:
        loss_type (str): One of :data:`LOSSES`.
        is_shared (bool): Whether all rows of a batch have the same negatives.
        next_item (float): Weight of the next-item head's loss.
    """

    def __init__(self, config: Mapping[str, Any], n_items: int, counts: Callable[[], Tensor]):
        # Checkpoints of earlier versions and files of derived models may not have the settings.
        defaults = objective_settings()
        given = {name: default if config[name] is None else config[name] for name, default in defaults.items()}
        self.loss_type, self.is_shared = given["loss_type"], given["shared_negatives"]
        self.next_item, self._n_next_item_negatives = given["lambda_next_item"], given["n_next_item_negatives"]
        self._calibration = given["gbce_calibration"]
        self._n_items = n_items
        negatives = config["train_neg_sample_args"]
        corrects = self.loss_type == "sampled_CE" and negatives["distribution"] == "popularity"
        self._log_probabilities = None
        if corrects:
            # Up to a constant. Items without interactions are not drawn.
            self._log_probabilities = (negatives["alpha"] * counts().clamp_min(1).log()).to(config["device"])

    @property
    def scores_all(self) -> bool:
        """Whether the loss is the cross entropy over all items, which needs no negatives."""
        return self.loss_type == "CE"

    def check(self, is_dot_product: bool) -> None:
        """Raise SettingError for a loss that a model cannot have.

        Args:
            is_dot_product: Whether its scores are dot products, so that all items can be scored at once.
        """
        if self.scores_all and not is_dot_product:
            raise SettingError(
                "loss_type is 'CE', but only scores that are dot products can be compared for all items at once; it "
                f"must be {' or '.join(map(repr, SAMPLED))}"
            )
        check_choice("loss_type", self.loss_type, LOSSES)
        if not 0 <= self._calibration <= 1:
            raise SettingError(f"gbce_calibration is {self._calibration}; it must be a number from 0 to 1")

    def loss(self, logits: Tensor, candidates: Tensor) -> Tensor:
        """Compute the mean loss of candidates ``[n, C]``, the positive first, from their logits ``[n, C]``.

        Candidate 0 does not count: a shared negative that is no negative for this row.
        """
        is_real = candidates > 0 if self.is_shared else None
        if self.loss_type == "sampled_CE":
            drawn = self._log_probabilities
            corrections = None if drawn is None else drawn[candidates]
            return sampled_softmax_loss(logits, is_real, corrections)
        check_choice("loss_type", self.loss_type, SAMPLED)
        calibration = self._calibration if self.loss_type == "gBCE" else 0
        power = power_of_positives(candidates.shape[1] - 1, self._n_items - 1, calibration)
        return pointwise_loss(logits, power, is_real)

    def apart(self, score: Callable[[Tensor], Tensor], candidates: Tensor) -> Tensor:
        """Score candidates ``[n, C]`` by a function of item ids ``[n, C']`` or, if shared, ``[1, C']``."""
        if not self.is_shared:
            return score(candidates)
        # Rows differ only in which of the shared negatives they ignore.
        shared = candidates[:, 1:].amax(0, keepdim=True)
        return torch.cat([score(candidates[:, :1]), score(shared)], dim=1)

    def of_rows(self, states: Tensor, candidates: Tensor, items: Tensor) -> Tensor:
        """Compute the loss of scores that are dot products, with that of the next-item head.

        Args:
            states: ``[n, d]``.
            candidates: ``[n, C]``, the positive first.
            items: ``[n_items, d]``.
        """
        logits = self.apart(lambda ids: dot_product(states, F.embedding(ids, items)), candidates)
        loss = self.loss(logits, candidates)
        if self.next_item > 0:
            loss = loss + self.next_item_loss(states, candidates[:, 0], items)
        return loss

    def next_item_loss(self, states: Tensor, positives: Tensor, items: Tensor) -> Tensor:
        """Compute the weighted loss of the next-item head; see :func:`all_items_loss`."""
        return self.next_item * all_items_loss(states, positives, items, self._n_next_item_negatives)


def is_of_recbole(model: type) -> bool:
    """Return whether a model of RecBole's kind can be trained by our losses: SASRec, GRU4Rec, or derived from them."""
    # Not imported before the registration: that turns on autograd's anomaly detection.
    from recbole.model.sequential_recommender import GRU4Rec, SASRec

    return issubclass(model, (SASRec, GRU4Rec))


def warn_of_no_head(config: Mapping[str, Any]) -> None:
    """Warn if RecBole's losses are combined with settings of ours that have no effect on them."""
    names = [name for name in ("lambda_next_item", "shared_negatives") if name in config and config[name]]
    if names:
        getLogger().warning(
            f"{' and '.join(names)}: no effect on {config['model']} with loss_type {config['loss_type']}, but with "
            f"{', '.join(SAMPLED)}"
        )


def of_recbole(config: Mapping[str, Any], dataset: Dataset) -> Objective:
    """Return the objective of a sequential model of RecBole's kind, which is trained on its own dataset.

    Raises:
        SettingError: If a setting is wrong, or there are no negatives.
    """
    check_negatives(config, config["loss_type"])
    n_items = dataset.item_num
    objective = Objective(
        config, n_items, lambda: torch.from_numpy(training_counts(events_of_rows(dataset)[0], n_items))
    )
    objective.check(is_dot_product=True)
    return objective
