"""Models that learn both search and recommendation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_gserec.models.search_recommender import SearchRecommender


class JointRecommender(SearchRecommender):
    r"""Joint training: :math:`L = L_{rec} + \lambda_{src} L_{src}`.

    Each batch of recommendation rows comes with a batch of search rows (:class:`JointInteraction`), which has the same
    fields and ``query_id``. Only recommendation is evaluated. With ``lambda_src`` 0, the search task is not computed.

    Subclasses implement :meth:`recommendation_losses` and :meth:`search_losses`.
    """

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        self.require_files(config, "search", "query")
        self.lambda_src = config["lambda_src"]
        self._search_terms: tuple[str, ...] = ()

    @classmethod
    def reads_search_rows(cls, config: Mapping[str, Any]) -> bool:
        return config["lambda_src"] > 0

    def recommendation_losses(self, interaction: Interaction) -> dict[str, Tensor]:
        """Compute the weighted terms of the recommendation task, by name."""
        raise NotImplementedError

    def search_losses(self, interaction: Interaction) -> dict[str, Tensor]:
        """Compute the terms of the search task, by name; all are multiplied by ``lambda_src``."""
        raise NotImplementedError

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        losses = dict(self.recommendation_losses(interaction))
        search = getattr(interaction, "search", None)
        if self.lambda_src > 0 and search is not None:
            if len(search) > 0:
                searched = {f"src_{name}": self.lambda_src * loss for name, loss in self.search_losses(search).items()}
                self._search_terms = tuple(searched)
            else:
                # RecBole adds up the terms that all batches of an epoch have.
                searched = {name: torch.zeros((), device=self.device) for name in self._search_terms}
            losses |= searched
        self.loss_names = tuple(losses)
        return tuple(losses.values())
