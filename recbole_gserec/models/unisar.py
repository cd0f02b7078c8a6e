r"""UniSAR: Modeling User Transition Behaviors between Search and Recommendation.

Shi et al., SIGIR 2024, https://doi.org/10.1145/3626772.3657811.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_gserec.data import QUERY
from recbole_gserec.layers import (
    BilinearSimilarity,
    DecoderLayer,
    HistoryEncoder,
    MergedSequence,
    ModuleDict,
    ModuleList,
    Packing,
    PredictionMLP,
    ProgressiveLayeredExtraction,
    QueryEmbedding,
    QueryItemAlignment,
    TargetAttention,
    Temperature,
    after,
    clicked_pairs,
    nt_xent,
    reset_embedding,
)
from recbole_gserec.models.search_recommender import JointRecommender
from recbole_gserec.settings import check_heads

SIDES = ("recommendation", "search")
"""Names of the two histories and of the two tasks."""


class State(NamedTuple):
    """A batch of B rows of a task; the dicts have one value per side, with N and T of that side.

    Shapes:
        - **task**: one of :data:`SIDES`.
        - **items**: ``[n_items, d]``, vectors of all items.
        - **user**: ``[B, 2 d]``, the user and the query.
        - **packing**: where the events lie in ``[B, N]``.
        - **within**: packed ``[T, d]``, transitions within the history: r2r and s2s.
        - **across**: packed ``[T, d]``, transitions from the other history: s2r and r2s.
        - **fused**: ``[B, N, d]``, F.
    """

    task: str
    items: Tensor
    user: Tensor
    packing: dict[str, Packing]
    within: dict[str, Tensor]
    across: dict[str, Tensor]
    fused: dict[str, Tensor]


class UniSAR(JointRecommender):
    r"""Four kinds of transition between events are modelled separately, aligned and fused, for both tasks.

    Transitions within a history (r2r, s2s) have their own encoder. Those across (s2r, r2s) share one encoder over both
    histories in chronological order, in which an event attends only to events of the other history. Candidates
    :math:`i` are scored from :math:`z = [e_u; q; w_r; w_s; e_i]`: user, query, both fused histories pooled, candidate.
    Both tasks' losses are :math:`L_{click} + \lambda_{align} L_{align} + \lambda_{his} L_{his}`.

    Settings: ``properties/model/UniSAR.yaml``.
    """

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        size = config["embedding_size"]
        check_heads(config)
        self.lambda_align, self.lambda_his = config["lambda_align"], config["lambda_his"]
        self.cl_dedup = config["cl_dedup"]

        self.user_embedding = nn.Embedding(dataset.user_num, size, padding_idx=0)
        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        self.query_embedding = QueryEmbedding(dataset.query_words, dataset.num("query_words"), size)
        self.recommendation_query = nn.Parameter(torch.empty(size))
        names = ("user", "item", "query") if config["unisar_tanh"] else ()
        self.projection = ModuleDict({name: nn.Linear(size, size) for name in names})

        shape = (config["n_heads"], config["inner_size"], config["hidden_dropout_prob"], config["attn_dropout_prob"])
        n_layers = config["n_layers"]
        lengths = {"recommendation": config["MAX_ITEM_LIST_LENGTH"], "search": config["MAX_SEARCH_LIST_LENGTH"]}
        self.encoder = ModuleDict({side: HistoryEncoder(size, lengths[side], n_layers, *shape) for side in SIDES})
        self.merged_encoder = HistoryEncoder(size, sum(lengths.values()), n_layers, *shape)
        self.fusion = ModuleDict(
            {side: ModuleList(DecoderLayer(size, *shape) for _ in range(n_layers)) for side in SIDES}
        )
        self.attention = ModuleDict({side: TargetAttention(size) for side in SIDES})
        tower_sizes, dropout = config["tower_hidden_size"], config["hidden_dropout_prob"]
        self.ple = ProgressiveLayeredExtraction(
            SIDES,
            2 * size,
            3 * size,
            config["n_shared_experts"],
            config["n_specific_experts"],
            config["expert_size"],
            tower_sizes,
            dropout,
        )
        self.mlp = ModuleDict(
            {task: PredictionMLP(0, self.ple.output_size, config["mlp_hidden_size"], dropout) for task in SIDES}
        )

        self.alignment = QueryItemAlignment(
            size, len(dataset.query_words), self.n_items, config["n_align_negatives"], config["tau_align"]
        )
        self.history_similarity = ModuleDict({side: BilinearSimilarity(size) for side in SIDES})
        self.history_temperature = ModuleDict({side: Temperature(config["tau_his"]) for side in SIDES})
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset tables (Xavier-normal, zero padding rows), query vector and projections; layers reset themselves."""
        for table in (self.user_embedding, self.item_embedding):
            reset_embedding(table)
        nn.init.xavier_normal_(self.recommendation_query.unsqueeze(0))
        for projection in self.projection.values():
            nn.init.xavier_normal_(projection.weight)
            nn.init.zeros_(projection.bias)

    # ---- embeddings ---------------------------------------------------------------------------------------------

    def project(self, name: str, vectors: Tensor) -> Tensor:
        r"""Return the vectors unchanged, or :math:`\tanh(W e + b)` with ``unisar_tanh``."""
        return self.projection[name](vectors).tanh() if name in self.projection else vectors

    def item_vectors(self) -> Tensor:
        """Return vectors of all items, ``[n_items, d]``."""
        return self.cached("item vectors", lambda: self.project("item", self.item_embedding.weight))

    def queries(self, ids: Tensor) -> Tensor:
        """Return vectors of queries, ``[n]`` to ``[n, d]``."""
        return self.project("query", self.query_embedding(ids))

    # ---- histories and prediction -------------------------------------------------------------------------------

    def encode(self, interaction: Interaction, task: str = "recommendation") -> State:
        """Compute users, queries, and the transitions of both histories.

        A row without events on one side has no transitions across: nothing is fused into its other history.
        """
        item_ids, query_ids = interaction[self.ITEM_SEQ], interaction["search_query_id_list"]
        packing = {
            "recommendation": Packing(item_ids > 0),
            "search": Packing(self.search_mask(interaction)),
        }
        items = self.item_vectors()
        searches = packing["search"].pack(query_ids)
        clicks = packing["search"].pack(interaction["search_item_ids_list"])
        events = {
            "recommendation": F.embedding(packing["recommendation"].pack(item_ids), items),
            "search": self.queries(searches) + F.embedding_bag(clicks, items, mode="mean", padding_idx=0),
        }
        within = {side: self.encoder[side](events[side], packing[side]) for side in SIDES}
        across = self.transitions_across(interaction, events, packing)
        has_both = (packing["recommendation"].counts > 0) & (packing["search"].counts > 0)
        fused = {}
        for side in SIDES:
            mask, memory, states = packing[side].mask, packing[side].unpack(across[side]), within[side]
            for layer in self.fusion[side]:
                states = layer(states, packing[side], memory, mask & has_both.unsqueeze(1))
            fused[side] = packing[side].unpack(states)
        user = self.project("user", self.user_embedding(interaction[self.USER_ID]))
        if task == "search":
            query = self.queries(interaction[QUERY])
        else:
            query = self.recommendation_query.expand(len(user), -1)
        return State(task, items, torch.cat([user, query], dim=1), packing, within, across, fused)

    def encode_search(self, interaction: Interaction) -> State:
        """Compute the states of search rows."""
        return self.encode(interaction, "search")

    def transitions_across(
        self, interaction: Interaction, events: dict[str, Tensor], packing: dict[str, Packing]
    ) -> dict[str, Tensor]:
        """Compute s2r and r2s, packed: in the merged histories, no event attends to its own kind or itself."""
        masks = [packing[side].mask for side in SIDES]
        merged = MergedSequence(interaction["item_place_list"], interaction["search_place_list"], *masks)
        sequence, joint = merged.merge(*(packing[side].unpack(events[side]) for side in SIDES)), Packing(merged.mask)
        blocked = merged.is_search.unsqueeze(2) == merged.is_search.unsqueeze(1)
        encoded = merged.split(joint.unpack(self.merged_encoder(joint.pack(sequence), joint, blocked)))
        return {side: packing[side].pack(part) for side, part in zip(SIDES, encoded, strict=True)}

    def score(self, state: State, candidates: Tensor) -> Tensor:
        """Apply the task's PLE and MLP to user and query and, for each candidate, both pooled histories and itself."""
        items = F.embedding(candidates, state.items)
        pooled = [self.attention[side](state.fused[side], state.packing[side].mask, items) for side in SIDES]
        pairs = torch.cat([*pooled, items.expand(len(state.user), -1, -1)], dim=-1)
        output = self.ple(state.task, state.user, pairs)
        return self.mlp[state.task](output.new_zeros(len(output), 0), output)

    def next_item_states(self, state: State) -> Tensor:
        """Return the fused last interactions, ``[B, d]``; 0 for rows without any."""
        fused, counts = state.fused["recommendation"], state.packing["recommendation"].counts
        return after(fused, torch.arange(len(fused), device=fused.device), counts)

    def next_item_vectors(self, state: State) -> Tensor:
        return state.items

    # ---- training -----------------------------------------------------------------------------------------------

    def recommendation_losses(self, interaction: Interaction) -> dict[str, Tensor]:
        return self.task_losses(interaction, "recommendation")

    def search_losses(self, interaction: Interaction) -> dict[str, Tensor]:
        return self.task_losses(interaction, "search")

    def task_losses(self, interaction: Interaction, task: str) -> dict[str, Tensor]:
        """Compute one task's weighted L_click, L_align and L_his."""
        state = self.encode(interaction, task)
        candidates = self.training_candidates(interaction)
        if task == "search":
            losses = {"click": self.candidate_loss(state, candidates, self.score)}
        else:
            losses = self.ranking_losses(state, candidates)
        if self.lambda_align > 0:
            pairs = clicked_pairs(
                interaction["search_query_id_list"], interaction["search_item_ids_list"], state.packing["search"].mask
            )
            alignment = self.alignment(*pairs, self.queries, lambda ids: F.embedding(ids, state.items))
            losses["align"] = self.lambda_align * alignment
        if self.lambda_his > 0:
            losses["his"] = self.lambda_his * self.history_contrastive_loss(interaction[self.USER_ID], state)
        return losses

    def history_contrastive_loss(self, users: Tensor, state: State) -> Tensor:
        """Compute L_his over rows with both histories: a row's mean s2r against its mean r2r, and r2s against s2s."""
        packing = state.packing
        rows = (packing["recommendation"].counts > 0) & (packing["search"].counts > 0)
        of_recommendation, of_search = (
            nt_xent(
                packing[side].mean(state.across[side])[rows],
                packing[side].mean(state.within[side])[rows],
                similarity=self.history_similarity[side],
                temperature=self.history_temperature[side](),
                groups=users[rows] if self.cl_dedup else None,
            )
            for side in SIDES
        )
        return of_recommendation + of_search
