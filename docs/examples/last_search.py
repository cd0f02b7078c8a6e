r"""LastSearch: a search-aware model of one's own, complete.

A user is the sum of a vector of their own, the mean of their interactions, and what they searched for, of late above
all:

.. math::
    u = e_u + \mathrm{Mean}(e_{i_1}, \dots, e_{i_n}) + W [\mathrm{Mean}(s_1, \dots, s_m); s_m], \quad y = u^\top e_t
"""

from __future__ import annotations

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_gserec import register_model
from recbole_gserec.layers import (
    Dropout,
    Packing,
    QueryEmbedding,
    SessionEmbedding,
    dot_product,
    pointwise_loss,
    reset_embedding,
)
from recbole_gserec.models import SearchRecommender


@register_model
class LastSearch(SearchRecommender):
    """See the head of this file. Settings: ``LastSearch.yaml``."""

    loss_names = ("rec",)

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.require_files(config, "search", "query")
        size = config["embedding_size"]
        self.user_embedding = nn.Embedding(dataset.num(self.USER_ID), size, padding_idx=0)
        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        query_embedding = QueryEmbedding(dataset.query_words, dataset.num("query_words"), size)
        self.session_embedding = SessionEmbedding(query_embedding, self.item_embedding)
        self.search_projection = nn.Linear(2 * size, size, bias=False)
        self.dropout = Dropout(config["hidden_dropout_prob"])
        reset_embedding(self.user_embedding)
        reset_embedding(self.item_embedding)

    def encode(self, interaction: Interaction) -> Tensor:
        """Users ``[B, d]``: all that does not depend on the candidate."""
        items, queries = interaction[self.ITEM_SEQ], interaction["search_query_id_list"]
        interactions, searches = Packing(items > 0), Packing(self.search_mask(interaction))
        taken = interactions.mean(self.item_embedding(interactions.pack(items)))
        clicks = interaction["search_item_ids_list"]
        sessions = self.session_embedding(searches.pack(queries), searches.pack(clicks))
        searched = torch.cat([searches.mean(sessions), searches.last(sessions)], dim=-1)
        return self.dropout(self.user_embedding(interaction[self.USER_ID]) + taken + self.search_projection(searched))

    def score(self, state: Tensor, candidates: Tensor) -> Tensor:
        """Logits ``[B, C]`` of candidates ``[B, C]``, or ``[1, C]`` when all rows share them."""
        return dot_product(state, self.item_embedding(candidates))

    def item_factors(self) -> tuple[Tensor, str]:
        """What :meth:`score` multiplies :meth:`encode` with, for ``gserec export``."""
        return self.item_embedding.weight, "items, as learnt"

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """Cross entropy of each positive and its negatives."""
        return (pointwise_loss(self.score(self.encode(interaction), self.training_candidates(interaction))),)
