r"""GSERec: Benefit from Rich, Tackling Search Interaction Sparsity in Search Enhanced Recommendation.

Shi et al., CIKM 2025, https://doi.org/10.1145/3746252.3761314. Equation numbers are the paper's.
"""

from functools import partial
from typing import NamedTuple

import torch
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_gserec.data import SEEN_ITEMS, SEEN_SEARCHES, TARGETS, reads_windows
from recbole_gserec.errors import not_none
from recbole_gserec.layers import (
    GRAPH_CONVS,
    BilinearSimilarity,
    CodeFusion,
    CodeLayers,
    CosineSimilarity,
    HistoryEncoder,
    LGConvUserCodeGraph,
    ModuleDict,
    Packing,
    PredictionMLP,
    QueryEmbedding,
    QueryItemAlignment,
    Seen,
    SessionEmbedding,
    TargetAttention,
    Temperature,
    UserCodeGraph,
    after,
    clicked_pairs,
    nt_xent,
    pooled,
    reset_embedding,
)
from recbole_gserec.models.search_recommender import SearchRecommender
from recbole_gserec.settings import check_choice, check_heads

SIDES = ("search", "recommendation")
_PARTS = 4
"""Parts of a batch of windows that are scored one after the other."""


class SideState(NamedTuple):
    """One side (search or recommendation) of a batch of B rows, or windows, with T packed events.

    Shapes:
        - **packing**: where the events lie in ``[B, N]``.
        - **seen**: what the targets of each row may see, one of a row or T of a window.
        - **history**: ``[T, d]``, H, before fusion with codes.
        - **fused**: ``[B, N, d]``, W (Eq. 11).
        - **user**: ``[B, d]``, the user after message passing (Eq. 8).
        - **codes**: ``[B, L, d]``, the user's codes after message passing (Eq. 10); **code_mask**: ``[B, L]``.
        - **layers**: the result of message passing for all users and codes.
    """

    packing: Packing
    seen: Seen
    history: Tensor
    fused: Tensor
    user: Tensor | None = None
    codes: Tensor | None = None
    code_mask: Tensor | None = None
    layers: CodeLayers | None = None

    def part(self, rows: slice, n_targets: int) -> "SideState":
        """Return what scoring needs of some windows, with as many events as their first ``n_targets`` targets see."""
        counts = self.seen.counts[rows, :n_targets]
        seen = Seen(counts, self.seen.span, max(1, int(counts.max())))
        user = self.user if self.user is None else self.user[rows]
        return self._replace(seen=seen, fused=self.fused[rows, : seen.n_events], user=user)


class GSERec(SearchRecommender):
    """Message passing over user-code graphs transfers information from similar users to users with few searches.

    Settings: ``properties/model/GSERec.yaml``. Data: a search-extended dataset with a ``.code`` file.
    """

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        for name, choices in (
            ("his_cl", ("both", "rec_only")),
            ("cl_similarity", ("bilinear", "cosine")),
            ("cl_negatives", ("both", "opposite")),
        ):
            check_choice(name, config[name], choices)
        # Checkpoints of earlier versions and files of derived models do not have these.
        graph_conv = config["graph_conv"] or "spmm"
        check_choice("graph_conv", graph_conv, GRAPH_CONVS)
        self.code_nodes = config["code_nodes"] or "level"
        check_choice("code_nodes", self.code_nodes, ("level", "prefix"))
        code_users = config["code_users"] or "own"
        check_choice("code_users", code_users, ("own", "permuted"))
        size = config["embedding_size"]
        check_heads(config)
        self.use_graph, self.use_fusion = config["use_user_code_graph"], config["use_code_fusion"]
        self.require_files(config, "search", "query", *(["code"] if self.use_graph else []))
        # Checkpoints of earlier versions do not have it.
        self.lambda_align = config["lambda_align"] or 0
        self.lambda_u_cl, self.lambda_his_cl = config["lambda_u_cl"], config["lambda_his_cl"]
        self.his_cl_sides = SIDES if config["his_cl"] == "both" else ("recommendation",)
        self.cl_negatives, self.cl_dedup = config["cl_negatives"], config["cl_dedup"]
        trains_windows = reads_windows(config)
        self.cl_extra_users = config["u_cl_extra_users"] if trains_windows else 0

        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        query_embedding = QueryEmbedding(dataset.query_words, dataset.num("query_words"), size)
        self.session_embedding = SessionEmbedding(query_embedding, self.item_embedding)
        shape = (config["n_layers"], config["n_heads"], config["inner_size"])
        transformer = (*shape, config["hidden_dropout_prob"], config["attn_dropout_prob"])
        lengths = {"search": config["MAX_SEARCH_LIST_LENGTH"], "recommendation": config["MAX_ITEM_LIST_LENGTH"]}
        # In windows, an event has no fixed position, so attention tells positions by distance.
        self.lengths = lengths
        spans = {side: lengths[side] if trains_windows else 0 for side in SIDES}
        self.encoder = ModuleDict(
            {side: HistoryEncoder(size, lengths[side], *transformer, span=spans[side]) for side in SIDES}
        )
        self.attention = ModuleDict({side: TargetAttention(size, spans[side]) for side in SIDES})
        if self.use_graph:
            codes = dataset.codes
            if code_users == "permuted":
                codes = {side: codes[side].permuted(config["seed"]) for side in SIDES}
            if self.code_nodes == "prefix":
                codes = {side: codes[side].by_prefix() for side in SIDES}
            self.user_embedding = nn.Embedding(dataset.user_num, size, padding_idx=0)
            self.code_embedding = ModuleDict(
                {side: nn.Embedding(codes[side].n_codes + 1, size, padding_idx=0) for side in SIDES}
            )
            graph = LGConvUserCodeGraph if graph_conv == "lgconv" else UserCodeGraph
            self.graph = ModuleDict(
                {side: graph(codes[side].codes, codes[side].n_codes, config["n_graph_layers"]) for side in SIDES}
            )
            if self.use_fusion:
                self.fusion = ModuleDict({side: CodeFusion(size, *transformer, span=spans[side]) for side in SIDES})

            def similarity() -> BilinearSimilarity | CosineSimilarity:
                return BilinearSimilarity(size) if config["cl_similarity"] == "bilinear" else CosineSimilarity()

            self.user_similarity, self.user_temperature = similarity(), Temperature(config["tau_2"])
            self.history_similarity = ModuleDict({side: similarity() for side in SIDES})
            self.history_temperature = ModuleDict({side: Temperature(config["tau_3"]) for side in SIDES})
        if self.lambda_align > 0:
            self.alignment = QueryItemAlignment(
                size, len(dataset.query_words), self.n_items, config["n_align_negatives"], config["tau_align"]
            )
        user_size = 2 * size if self.use_graph else 0
        self.mlp = PredictionMLP(user_size, 3 * size, config["mlp_hidden_size"], config["hidden_dropout_prob"])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset tables to Xavier-normal rows with zero padding rows; layers reset themselves."""
        tables = [self.item_embedding]
        if self.use_graph:
            tables += [self.user_embedding, *self.code_embedding.values()]
        for table in tables:
            reset_embedding(table)

    # ---- message passing (Section 4.2.2) ------------------------------------------------------------------------

    def propagate(self) -> dict[str, CodeLayers]:
        """Compute Eq. 7 and 8 on both graphs; outside of training, only once after each change of the weights."""
        return self.cached("code layers", self._propagate)

    def _propagate(self) -> dict[str, CodeLayers]:
        return {
            side: self.graph[side].propagate(self.user_embedding.weight, self.code_embedding[side].weight)
            for side in SIDES
        }

    # ---- histories (Section 4.2.3) and prediction (Section 4.3.1) -----------------------------------------------

    def encode(self, interaction: Interaction) -> dict[str, SideState]:
        """Compute the states of the two sides."""
        items, queries = interaction[self.ITEM_SEQ], interaction["search_query_id_list"]
        packing = {
            "search": Packing(self.search_mask(interaction)),
            "recommendation": Packing(items > 0),
        }
        seen = self.seen(interaction, packing)
        searches = (packing["search"].pack(part) for part in (queries, interaction["search_item_ids_list"]))
        events = {
            "search": self.session_embedding(*searches),
            "recommendation": self.item_embedding(packing["recommendation"].pack(items)),
        }
        histories = {side: self.encoder[side](events[side], packing[side]) for side in SIDES}
        if not self.use_graph:
            return {
                side: SideState(packing[side], seen[side], histories[side], packing[side].unpack(histories[side]))
                for side in SIDES
            }
        users, code_layers = interaction[self.USER_ID], self.propagate()
        user_embeddings = self.user_embedding(users)
        states = {}
        for side in SIDES:
            graph, layers = self.graph[side], code_layers[side]
            code_ids = graph.codes[users]
            codes, code_mask = layers.final[code_ids], code_ids > 0
            fused = histories[side]
            if self.use_fusion:
                fused = self.fusion[side](fused, packing[side], codes, code_mask)
            user = graph.users_at(users, user_embeddings, layers)
            states[side] = SideState(
                packing[side], seen[side], histories[side], packing[side].unpack(fused), user, codes, code_mask, layers
            )
        return states

    def seen(self, interaction: Interaction, packing: dict[str, Packing]) -> dict[str, Seen]:
        """Return which events each target may see: all of its row's, or those of a window that lie before it."""
        if TARGETS in interaction:
            counts = {"search": interaction[SEEN_SEARCHES], "recommendation": interaction[SEEN_ITEMS]}
        else:
            lengths = {"search": interaction["search_length"], "recommendation": interaction[self.ITEM_SEQ_LEN]}
            counts = {side: lengths[side].unsqueeze(1) for side in SIDES}
        return {side: Seen(counts[side], self.lengths[side], packing[side].mask.shape[1]) for side in SIDES}

    def score(self, state: dict[str, SideState], candidates: Tensor) -> Tensor:
        """Compute Eq. 14 and 15."""
        items = self.item_embedding(candidates).unsqueeze(1)
        attention = self.attend(state, items)
        # With many candidates, it is cheaper to apply the MLP's first layer to the events than to pooled histories.
        if self.training or items.shape[2] < 2 * max(state[side].fused.shape[1] for side in SIDES):
            return self.mlp(self.users(state), self.pool(state, attention, items).squeeze(1))
        return self.mlp.finish(self._hidden_of_many(state, attention, items))

    def next_item_states(self, state: dict[str, SideState]) -> Tensor:
        """Return the fused states of the last interactions, ``[B, d]``."""
        return self.last_states(state).squeeze(1)

    def _hidden_of_many(self, state: dict[str, SideState], attention: dict[str, Tensor], items: Tensor) -> Tensor:
        """Compute the MLP's first layer for many candidates ``[B, 1, C, d]``, before its activation: ``[B, C, h]``."""
        size, start = items.shape[-1], self.mlp.user_size
        of_items = self.mlp.first_layer(start + len(SIDES) * size, items.squeeze(1))
        of_events = [
            self.mlp.first_layer(start + number * size, state[side].fused, bias=False)
            for number, side in enumerate(SIDES)
        ]
        of_user = self.mlp.first_layer(0, self.users(state), bias=False)
        weights = [attention[side].squeeze(1) for side in SIDES]
        # The user counts like one more event with weight 1, so that one product adds up all parts.
        weights.append(torch.ones_like(weights[0][..., :1]))
        values = torch.cat([*of_events, of_user.unsqueeze(1)], dim=1)
        return torch.baddbmm(of_items.expand(len(values), -1, -1), torch.cat(weights, dim=2), values)

    def score_targets(self, state: dict[str, SideState], candidates: Tensor, is_target: Tensor) -> Tensor:
        """Compute the same as :meth:`logits` for the targets of windows.

        Args:
            state: Result of :meth:`encode` for B windows.
            candidates: ``[n_targets, C]``, or ``[1, C]`` when all targets share them.
            is_target: ``[B, T]``, False where padded.

        Returns:
            ``[n_targets, C]``.
        """
        padded = candidates.new_zeros(*is_target.shape, candidates.shape[1])
        padded[is_target] = candidates.expand(int(is_target.sum()), -1)
        # In one step, because every lookup has a gradient as large as the table.
        all_items = self.item_embedding(padded)
        step, logits = -(-len(is_target) // _PARTS), []
        for start in range(0, len(is_target), step):
            rows = slice(start, start + step)
            # Batches are sorted by the number of targets, so a part has little padding.
            n_targets = int(is_target[rows].sum(1).max())
            part = {side: state[side].part(rows, n_targets) for side in SIDES}
            items = all_items[rows, :n_targets]
            pairs = self.pool(part, self.attend(part, items), items).flatten(0, 1)
            windows, places = is_target[rows, :n_targets].nonzero(as_tuple=True)
            indices = windows * n_targets + places
            logits.append(self.mlp(self.users(part), pairs.index_select(0, indices), windows))
            if self.adds_next_item:
                products = (items @ self.last_states(part).unsqueeze(3)).squeeze(3)
                logits[-1] = logits[-1] + products.flatten(0, 1).index_select(0, indices)
        return torch.cat(logits)

    def last_states(self, state: dict[str, SideState]) -> Tensor:
        """Return the fused state of the last interaction that each target sees, ``[B, T, d]``; 0 if it sees none."""
        fused, counts = state["recommendation"].fused, state["recommendation"].seen.counts
        return after(fused, torch.arange(len(counts), device=counts.device).unsqueeze(1), counts)

    def attend(self, state: dict[str, SideState], items: Tensor) -> dict[str, Tensor]:
        """Compute how candidates ``[B, T, C, d]`` attend to both histories."""
        return {side: self.attention[side].weights(state[side].fused, state[side].seen, items) for side in SIDES}

    def pool(self, state: dict[str, SideState], attention: dict[str, Tensor], items: Tensor) -> Tensor:
        """Return w_s, w_r and the candidate side by side, ``[B, T, C, 3d]`` (Eq. 14)."""
        histories = [pooled(attention[side], state[side].fused) for side in SIDES]
        return torch.cat([*histories, items.expand_as(histories[0])], dim=-1)

    def users(self, state: dict[str, SideState]) -> Tensor:
        """Return the user's two vectors side by side, ``[B, 2d]``; ``[B, 0]`` without the graph."""
        if not self.use_graph:
            return state["search"].fused.new_zeros(len(state["search"].fused), 0)
        return torch.cat([not_none(state[side].user) for side in SIDES], dim=-1)

    # ---- training (Section 4.3.2) -------------------------------------------------------------------------------

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """Compute L_rec, L_U-CL and L_His-CL of Eq. 17, weighted; the optimiser applies the last term, L2.

        Two more losses are not in the paper: with ``lambda_next_item``, that of the next-item head; with
        ``lambda_align``, that of :class:`QueryItemAlignment`.
        """
        state = self.encode(interaction)
        candidates = self.training_candidates(interaction)
        if TARGETS in interaction:
            losses = self.window_losses(state, candidates, interaction[TARGETS] > 0)
        else:
            losses = self.ranking_losses(state, candidates)
        if self.use_graph and self.lambda_u_cl > 0:
            losses["u_cl"] = self.lambda_u_cl * self.user_contrastive_loss(interaction[self.USER_ID], state)
        if self.use_graph and self.lambda_his_cl > 0:
            losses["his_cl"] = self.lambda_his_cl * self.history_contrastive_loss(interaction[self.USER_ID], state)
        if self.lambda_align > 0:
            pairs = clicked_pairs(
                interaction["search_query_id_list"], interaction["search_item_ids_list"], self.search_mask(interaction)
            )
            alignment = self.alignment(*pairs, self.session_embedding.query_embedding, self.item_embedding)
            losses["align"] = self.lambda_align * alignment
        self.loss_names = tuple(losses)
        return tuple(losses.values())

    def window_losses(self, state: dict[str, SideState], candidates: Tensor, is_target: Tensor) -> dict[str, Tensor]:
        """Compute the same as :meth:`ranking_losses` for the targets of windows; see :meth:`score_targets`."""
        score = partial(self.score_targets, is_target=is_target)
        losses = {"rec": self.candidate_loss(state, candidates, score)}
        if self.objective.next_item > 0:
            states = self.last_states(state)[is_target]
            losses["next_item"] = self.objective.next_item_loss(states, candidates[:, 0], self.item_embedding.weight)
        return losses

    def user_contrastive_loss(self, users: Tensor, state: dict[str, SideState]) -> Tensor:
        """Compute L_U-CL (Eq. 9): the two vectors of one user against those of other users."""
        search, recommendation = (not_none(state[side].user) for side in SIDES)
        if self.cl_extra_users:
            drawn = torch.randint(1, self.user_embedding.num_embeddings, (self.cl_extra_users,), device=users.device)
            users = torch.cat([users, drawn]).unique()
            vectors = self.user_embedding(users)
            search, recommendation = (
                self.graph[side].users_at(users, vectors, not_none(state[side].layers)) for side in SIDES
            )
        elif self.cl_dedup:
            rows = _first_rows(users)
            search, recommendation = search[rows], recommendation[rows]
        return nt_xent(
            search,
            recommendation,
            similarity=self.user_similarity,
            temperature=self.user_temperature(),
            negatives=self.cl_negatives,
        )

    def history_contrastive_loss(self, users: Tensor, state: dict[str, SideState]) -> Tensor:
        """Compute L_His-CL = L_S-CL + L_R-CL (Eq. 12 and 13): a history against the codes of its user."""
        losses = []
        for side in self.his_cl_sides:
            part = state[side]
            codes, code_mask = not_none(part.codes), not_none(part.code_mask)
            rows = (part.packing.counts > 0) & code_mask.any(1)
            losses.append(
                nt_xent(
                    part.packing.mean(part.history)[rows],
                    _masked_mean(codes[rows], code_mask[rows]),
                    similarity=self.history_similarity[side],
                    temperature=self.history_temperature[side](),
                    groups=users[rows] if self.cl_dedup else None,
                    negatives=self.cl_negatives,
                )
            )
        return sum(losses[1:], losses[0])


def _masked_mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """Average ``[B, N, d]`` over the positions where ``[B, N]`` is True."""
    return (vectors * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)


def _first_rows(users: Tensor) -> Tensor:
    """Return the first row of each distinct user."""
    distinct, inverse = users.unique(return_inverse=True)
    rows = torch.arange(len(users), device=users.device)
    return rows.new_full((len(distinct),), len(users)).scatter_reduce_(0, inverse, rows, "amin")
