r"""SESRec: When Search Meets Recommendation: Learning Disentangled Search Representation for Recommendation.

Si et al., SIGIR 2023, https://doi.org/10.1145/3539618.3591786.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_gserec.layers import (
    CoAttention,
    HistoryEncoder,
    ModuleDict,
    Packing,
    PredictionMLP,
    QueryEmbedding,
    QueryItemAlignment,
    Split,
    TargetAttention,
    after,
    clicked_pairs,
    reset_embedding,
    split_by_weight,
    triplet_loss,
)
from recbole_gserec.models.search_recommender import SearchRecommender
from recbole_gserec.settings import check_heads

SIDES = ("recommendation", "search")


class SideState(NamedTuple):
    """One history (of recommendation or search) of a batch of B rows.

    Shapes:
        - **history**: ``[B, N, d]``, H; padding is undefined.
        - **mask**: ``[B, N]``, True on real events.
        - **weights**: ``[B, N]``, the co-attention a of its events.
        - **split**: its events, similar and dissimilar to the other history.
    """

    history: Tensor
    mask: Tensor
    weights: Tensor
    split: Split


class State(NamedTuple):
    """A batch of B rows; **user** is ``[B, d]``."""

    user: Tensor
    sides: dict[str, SideState]


class SESRec(SearchRecommender):
    r"""Separates interests that search and recommendation share from those that they do not share.

    Two encoders read the two histories, co-attention splits each into events similar and dissimilar to the other, and
    target attention reads each history three times: whole, similar and dissimilar part. :math:`L = L_{rec} +
    \lambda_{align} L_{align} + \lambda_{triplet} L_{triplet}`.

    Settings: ``properties/model/SESRec.yaml``.
    """

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        self.require_files(config, "search", "query")
        size = config["embedding_size"]
        check_heads(config)
        self.lambda_align, self.lambda_triplet = config["lambda_align"], config["lambda_triplet"]
        self.triplet_margin = config["triplet_margin"]

        self.user_embedding = nn.Embedding(dataset.user_num, size, padding_idx=0)
        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        self.query_embedding = QueryEmbedding(dataset.query_words, dataset.num("query_words"), size)
        self.item_projection, self.query_projection = nn.Linear(size, size), nn.Linear(size, size)
        lengths = {"recommendation": config["MAX_ITEM_LIST_LENGTH"], "search": config["MAX_SEARCH_LIST_LENGTH"]}
        shape = (
            config["n_layers"],
            config["n_heads"],
            config["inner_size"],
            config["hidden_dropout_prob"],
            config["attn_dropout_prob"],
        )
        self.encoder = ModuleDict(
            {side: HistoryEncoder(size, lengths[side], *shape, activation=F.leaky_relu) for side in SIDES}
        )
        self.co_attention = CoAttention(size)
        self.attention = ModuleDict({side: TargetAttention(size) for side in SIDES})
        self.mlp = PredictionMLP(size, 7 * size, config["mlp_hidden_size"], config["hidden_dropout_prob"])
        self.alignment = QueryItemAlignment(
            size, len(dataset.query_words), self.n_items, config["n_align_negatives"], config["tau_align"]
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset tables to Xavier-normal rows with zero padding rows, and projections; layers reset themselves."""
        for table in (self.user_embedding, self.item_embedding):
            reset_embedding(table)
        for projection in (self.item_projection, self.query_projection):
            nn.init.xavier_normal_(projection.weight)
            nn.init.zeros_(projection.bias)

    # ---- embeddings ---------------------------------------------------------------------------------------------

    def items(self, ids: Tensor) -> Tensor:
        """Return vectors of items, ``[...]`` to ``[..., d]``."""
        return self.item_projection(self.item_embedding(ids))

    def queries(self, ids: Tensor) -> Tensor:
        """Return vectors of queries, ``[n]`` to ``[n, d]``."""
        return self.query_projection(self.query_embedding(ids))

    def sessions(self, queries: Tensor, clicks: Tensor) -> Tensor:
        """Embed a search as its query plus the mean of its clicked items; ``[T]`` and ``[T, K]`` to ``[T, d]``."""
        # The projection of the mean is the mean of the projections; without clicks, nothing is added.
        clicked = F.embedding_bag(clicks, self.item_embedding.weight, mode="mean", padding_idx=0)
        has_clicks = (clicks > 0).any(1, keepdim=True)
        return self.queries(queries) + self.item_projection(clicked) * has_clicks

    # ---- histories and prediction -------------------------------------------------------------------------------

    def encode(self, interaction: Interaction) -> State:
        """Compute users, and both histories with their split."""
        items, queries = interaction[self.ITEM_SEQ], interaction["search_query_id_list"]
        packing = {
            "recommendation": Packing(items > 0),
            "search": Packing(self.search_mask(interaction)),
        }
        searches = (packing["search"].pack(part) for part in (queries, interaction["search_item_ids_list"]))
        events = {
            "recommendation": self.items(packing["recommendation"].pack(items)),
            "search": self.sessions(*searches),
        }
        histories = {side: packing[side].unpack(self.encoder[side](events[side], packing[side])) for side in SIDES}
        masks = {side: packing[side].mask for side in SIDES}
        weights = self.co_attention(*(part[side] for side in SIDES for part in (histories, masks)))
        sides = {
            side: SideState(histories[side], masks[side], weight, split_by_weight(weight, masks[side]))
            for side, weight in zip(SIDES, weights, strict=True)
        }
        return State(self.user_embedding(interaction[self.USER_ID]), sides)

    def score(self, state: State, candidates: Tensor) -> Tensor:
        """Apply an MLP to the user and, for each candidate, the six pooled histories and the candidate.

        Histories are in the order of :data:`SIDES`, each as whole, similar part and dissimilar part.
        """
        items = self.items(candidates)
        pooled = []
        for side in SIDES:
            part = state.sides[side]
            pooled += self.attention[side].pool(part.history, (part.mask, *part.split), items)
        return self.mlp(state.user, torch.cat([*pooled, items.expand(len(state.user), -1, -1)], dim=-1))

    def next_item_states(self, state: State) -> Tensor:
        """Return the encoded last interactions, ``[B, d]``; 0 for rows without any."""
        side = state.sides["recommendation"]
        return after(side.history, torch.arange(len(side.mask), device=side.mask.device), side.mask.sum(1))

    def next_item_vectors(self, state: State) -> Tensor:
        """Return all items as projected for the score."""
        return self.item_projection(self.item_embedding.weight)

    def next_item_candidates(self, state: State, candidates: Tensor) -> Tensor:
        return self.items(candidates)

    # ---- training -----------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """Compute L_rec, L_align and L_triplet, weighted."""
        state = self.encode(interaction)
        losses = self.ranking_losses(state, self.training_candidates(interaction))
        if self.lambda_align > 0:
            pairs = clicked_pairs(
                interaction["search_query_id_list"], interaction["search_item_ids_list"], state.sides["search"].mask
            )
            losses["align"] = self.lambda_align * self.alignment(*pairs, self.queries, self.items)
        if self.lambda_triplet > 0:
            losses["triplet"] = self.lambda_triplet * self.triplet_loss(state)
        self.loss_names = tuple(losses)
        return tuple(losses.values())

    def triplet_loss(self, state: State) -> Tensor:
        """Compute the triplet losses of both histories, over rows that have both; others cannot be split."""
        sides = [state.sides[side] for side in SIDES]
        rows = torch.stack([part.mask.any(1) for part in sides]).all(0)
        of_recommendation, of_search = (
            triplet_loss(
                part.history[rows],
                part.weights[rows],
                Split(*(chosen[rows] for chosen in part.split)),
                self.triplet_margin,
            )
            for part in sides
        )
        return of_recommendation + of_search
