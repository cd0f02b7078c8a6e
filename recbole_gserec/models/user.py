r"""USER: A Unified Information Search and Recommendation Model based on Integrated Behavior Sequence.

Yao et al., CIKM 2021, https://doi.org/10.1145/3459637.3482489.
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
    AppendedEncoder,
    EncoderLayer,
    Memory,
    MergedSequence,
    ModuleDict,
    ModuleList,
    Packing,
    QueryEmbedding,
    SessionEmbedding,
    SessionGrid,
    reset_embedding,
)
from recbole_gserec.models.search_recommender import JointRecommender
from recbole_gserec.settings import check_heads

KINDS = ("interaction", "search", "intent")
"""Kinds of token that have an embedding. An intent without words and history would else be a zero vector, which layer
norms send huge gradients through."""


class IntentState(NamedTuple):
    """The intents of B users.

    Shapes:
        - **intents**: ``[B, 2, d]``, the intent in the current session c_s and in the long history c_l, of length 1.
        - **memory**: the past sessions H_long, N events.
        - **long**: ``[B, d]``, c_l before that.
    """

    intents: Tensor
    memory: Memory
    long: Tensor


class USER(JointRecommender):
    r"""Searches and interactions are one sequence of behaviours, and both tasks rank items for an intent.

    .. math::
        [\dots; c_s] &= \mathrm{Session}(\mathrm{Session}([\text{current session}; \text{intent}])), &
        H &= [\mathrm{Session}(\text{past session})], \\
        [\dots; c_l] &= \mathrm{History}([H; c_s]), & [\dots; v^l] &= \mathrm{History}([H; v]), \\
        y &= w^\top [\cos(c_s, v), \cos(c_s, v^l), \cos(c_l, v), \cos(c_l, v^l)] + b

    The intent is the user's embedding in recommendation and the query in search. Items have no text here. An item is
    its embedding; a search is its query plus the mean of the clicked items, instead of a co-attention of their texts; a
    session is a fixed number of behaviours.

    Settings: ``properties/model/USER.yaml``. Data: a search-extended dataset.
    """

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        size, length = config["embedding_size"], config["session_length"]
        check_heads(config)
        self.session_length, self.session_passes = length, config["session_passes"]
        self.score_tanh = config["score_tanh"]

        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        self.user_embedding = nn.Embedding(dataset.user_num, size, padding_idx=0)
        self.query_embedding = QueryEmbedding(dataset.query_words, dataset.num("query_words"), size)
        self.search_embedding = SessionEmbedding(self.query_embedding, self.item_embedding)
        self.type_embedding = nn.Embedding(len(KINDS), size)
        longest = config["MAX_ITEM_LIST_LENGTH"] + config["MAX_SEARCH_LIST_LENGTH"]
        n_past = max(1, -(-longest // length) - 1)
        n_positions = {"session": length, "history": n_past * length} if config["use_positions"] else {}
        self.positions = ModuleDict({level: nn.Embedding(n, size) for level, n in n_positions.items()})
        shape = (config["n_heads"], config["inner_size"], config["hidden_dropout_prob"], config["attn_dropout_prob"])
        self.session_layers = ModuleList(EncoderLayer(size, *shape) for _ in range(config["n_layers"]))
        self.history_encoder = AppendedEncoder(size, config["n_layers"], *shape)
        self.score_layer = nn.Linear(4, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset tables (Xavier-normal, zero padding rows) and the cosine weights; layers reset themselves."""
        for table in (self.item_embedding, self.user_embedding, self.type_embedding, *self.positions.values()):
            reset_embedding(table)
        nn.init.xavier_normal_(self.score_layer.weight)
        nn.init.zeros_(self.score_layer.bias)

    # ---- behaviours and intents ---------------------------------------------------------------------------------

    def encode(self, interaction: Interaction) -> IntentState:
        """Compute the states of recommendation rows."""
        return self.encode_intent(interaction, self.user_embedding(interaction[self.USER_ID]))

    def encode_intent(self, interaction: Interaction, intent: Tensor) -> IntentState:
        """Compute the states of rows with an intent token ``[B, d]``."""
        behaviours, mask = self._sessions(interaction)
        n_past, size = mask.shape[1] - self.session_length, behaviours.shape[2]
        past, current = behaviours.tensor_split([n_past], dim=1)
        past_mask, current_mask = mask.tensor_split([n_past], dim=1)

        # The intent is at the last position of the current session.
        intent = intent + self.type_embedding.weight[KINDS.index("intent")]
        packing = Packing(F.pad(current_mask, (0, 1), value=True))
        states = packing.pack(torch.cat([current, intent.unsqueeze(1)], dim=1))
        for _ in range(self.session_passes):
            states = self._session(states, packing)
        short_intent = packing.unpack(states)[:, -1]

        packing = Packing(past_mask.reshape(-1, self.session_length))
        states = self._session(packing.pack(past.reshape(*packing.mask.shape, size)), packing)
        history = packing.unpack(states).view(-1, n_past, size)
        if self.positions:
            # Ordered by the distance to the current session.
            table = self.positions["history"].weight
            history = history + table[len(table) - n_past :]
        packing = Packing(past_mask)
        memory = self.history_encoder.memory(packing.pack(history), packing)
        long_intent = self.history_encoder(short_intent.unsqueeze(1), memory).squeeze(1)
        return IntentState(F.normalize(torch.stack([short_intent, long_intent], dim=1), dim=-1), memory, long_intent)

    def _sessions(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Return each row's behaviours as sessions, ``[B, P * session_length, d]``, and their mask; see SessionGrid."""
        items, queries = interaction[self.ITEM_SEQ], interaction["search_query_id_list"]
        searches = Packing(self.search_mask(interaction))
        merged = MergedSequence(
            interaction["item_place_list"], interaction["search_place_list"], items > 0, searches.mask
        )
        grid = SessionGrid(merged.mask, self.session_length)
        clicks = interaction["search_item_ids_list"]
        of_items, of_searches = self.type_embedding.weight[:2]
        embedded = searches.unpack(self.search_embedding(searches.pack(queries), searches.pack(clicks)))
        joined = torch.cat([self.item_embedding(items) + of_items, embedded + of_searches], dim=1)
        # Merging and right alignment are one selection.
        rows = torch.arange(len(items), device=items.device).unsqueeze(1)
        chosen = merged.order.gather(1, grid.columns) + rows * joined.shape[1]
        behaviours = joined.flatten(0, 1).index_select(0, chosen.flatten())
        if self.positions:
            behaviours = behaviours.view(-1, self.session_length, joined.shape[2]) + self.positions["session"].weight
        return behaviours.view(*grid.mask.shape, -1), grid.mask

    def _session(self, behaviours: Tensor, packing: Packing) -> Tensor:
        """Apply the session Transformer."""
        for layer in self.session_layers:
            behaviours = layer(behaviours, packing)
        return behaviours

    # ---- scores and losses --------------------------------------------------------------------------------------

    def score(self, state: IntentState, candidates: Tensor) -> Tensor:
        """Compare both intents with each candidate, as it is and given the long history."""
        items = self.item_embedding(candidates)
        in_history = self.history_encoder(items, state.memory)
        cosines = [state.intents @ F.normalize(view, dim=-1).transpose(1, 2) for view in (items, in_history)]
        # [B, 2 intents, 2 views, C]
        features = torch.stack(cosines, dim=2).flatten(1, 2)
        logits = self.score_layer(features.transpose(1, 2)).squeeze(-1)
        return logits.tanh() if self.score_tanh else logits

    def next_item_states(self, state: IntentState) -> Tensor:
        """Return the intents given the long history, ``[B, d]``."""
        return state.long

    def recommendation_losses(self, interaction: Interaction) -> dict[str, Tensor]:
        return self.ranking_losses(self.encode(interaction), self.training_candidates(interaction))

    def encode_search(self, interaction: Interaction) -> IntentState:
        """Compute the states of search rows, whose intent is the query."""
        return self.encode_intent(interaction, self.query_embedding(interaction[QUERY]))

    def search_losses(self, interaction: Interaction) -> dict[str, Tensor]:
        state = self.encode_search(interaction)
        return {"rank": self.candidate_loss(state, self.training_candidates(interaction), self.score)}
