r"""Query-SeqRec: Query-Aware Sequential Recommendation.

He et al., CIKM 2022, https://doi.org/10.1145/3511808.3557677.
"""

import sys

import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_gserec.data import SEEN_ITEMS, SEEN_SEARCHES, TARGETS, QueryItemGraph, reads_windows
from recbole_gserec.errors import SettingError
from recbole_gserec.layers import (
    Dropout,
    EncoderLayer,
    ModuleList,
    Packing,
    QueryEmbedding,
    QueryNormLayer,
    QueryTokens,
    TokenReplacement,
    dot_product,
    query_tokens,
    reset_embedding,
)
from recbole_gserec.models.search_recommender import (
    SearchRecommender,
    check_train_positions,
    states_before_targets,
)
from recbole_gserec.settings import check_heads


class QuerySeqRec(SearchRecommender):
    """SASRec over items and queries in chronological order, each query before its items; only items are predicted.

    In training, tokens are replaced at random, some of them by neighbours in the graph of queries and items.

    Without searches, and with the embedding of types 0, this is RecBole's SASRec with ReLU.

    Settings: ``properties/model/QuerySeqRec.yaml``. Data: a search-extended dataset.
    """

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        self._check(config)
        self.require_files(config, "search", "query")
        self.train_positions = config["train_positions"]
        self.include_clicks, self.max_tokens = config["include_clicks"], config["max_tokens"]
        size, dropout = config["embedding_size"], config["hidden_dropout_prob"]

        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        self.query_embedding = QueryEmbedding(dataset.query_words, dataset.num("query_words"), size)
        self.type_embedding = nn.Embedding(2, size)
        # In windows, a token has no fixed position, so attention tells positions by distance.
        self.span = self.max_tokens if reads_windows(config) else 0
        self.max_events = config["MAX_ITEM_LIST_LENGTH"], config["MAX_SEARCH_LIST_LENGTH"]
        self.positions = None if self.span else nn.Embedding(self.max_tokens, size)
        graph = QueryItemGraph.of_training(dataset.events, self.n_items, len(dataset.query_words))
        self.replacement = TokenReplacement(graph, config["replace_prob"], config["graph_replace_prob"])
        shape = (size, config["n_heads"], config["inner_size"], dropout, config["attn_dropout_prob"])
        self.official_block = config["official_block"]
        self.layers = ModuleList(
            QueryNormLayer(*shape) if self.official_block else EncoderLayer(*shape, causal=True, span=self.span)
            for _ in range(config["n_layers"])
        )
        self.norm, self.dropout = nn.LayerNorm(size), Dropout(dropout)
        self.reset_parameters()

    @staticmethod
    def _check(config: Config) -> None:
        check_train_positions(config)
        check_heads(config)
        if config["official_block"] and reads_windows(config):
            raise SettingError("official_block is True, but that block reads rows only: leave out train_rows")
        for name in ("replace_prob", "graph_replace_prob"):
            if config[name] > 1:
                raise SettingError(f"{name} is {config[name]}; it must be a number from 0 to 1")

    def reset_parameters(self) -> None:
        """Reset tables to Xavier-normal rows with a zero padding row; layers reset themselves."""
        for table in (self.item_embedding, self.type_embedding, self.positions):
            if table is not None:
                reset_embedding(table)

    # ---- the sequence -------------------------------------------------------------------------------------------

    def tokens(self, interaction: Interaction) -> QueryTokens:
        """Return the most recent items and queries of each row, or all of each window."""
        return query_tokens(
            interaction[self.ITEM_SEQ],
            interaction["item_place_list"],
            interaction["search_query_id_list"],
            self._clicks(interaction),
            interaction["search_place_list"],
            self.search_mask(interaction),
            sys.maxsize if TARGETS in interaction else self.max_tokens,
        )

    def _clicks(self, interaction: Interaction) -> Tensor:
        """Return the clicks that are tokens, ``[B, S, K]``; K is 0 if none are."""
        clicks = interaction["search_item_ids_list"]
        return clicks if self.include_clicks else clicks[..., :0]

    def _seen_tokens(self, interaction: Interaction) -> Tensor:
        """Return how many of a window's tokens lie before each target, ``[B, T]``.

        At equal times, searches come after all interactions. So the tokens before a target are those of the
        interactions and searches that it may see.
        """
        of_search = self.search_mask(interaction) * (1 + (self._clicks(interaction) > 0).sum(2))
        ends = F.pad(of_search.cumsum(1), (1, 0))
        return interaction[SEEN_ITEMS] + ends.gather(1, interaction[SEEN_SEARCHES])

    def embed(self, tokens: QueryTokens, packing: Packing) -> Tensor:
        """Return the input of the Transformer, packed ``[T, d]``."""
        ids, is_query = packing.pack(tokens.ids), packing.pack(tokens.is_query)
        queries = is_query.nonzero().squeeze(1)
        # Item 0 is padding with embedding 0, to which queries are added.
        embedded = self.item_embedding(ids.masked_fill(is_query, 0))
        embedded = embedded.index_add(0, queries, self.query_embedding(ids[queries]))
        if self.positions is not None:
            embedded = embedded + self.positions(packing.columns)
        embedded = embedded + self.type_embedding(is_query.long())
        return self.dropout(embedded if self.official_block else self.norm(embedded))

    def states(self, tokens: QueryTokens, packing: Packing) -> Tensor:
        """Compute each token's state given the tokens before it, packed ``[T, d]``."""
        states = self.embed(tokens, packing)
        distances = {"distances": tokens.distances(*self.max_events)} if self.span else {}
        for layer in self.layers:
            states = layer(states, packing, **distances)
        return self.norm(states) if self.official_block else states

    def last_states(self, tokens: QueryTokens, packing: Packing) -> Tensor:
        """Compute :meth:`states` of each row's last token, ``[B, d]``; 0 for rows without tokens."""
        if self.span:
            return packing.last(self.states(tokens, packing))
        states = self.embed(tokens, packing)
        for layer in self.layers[:-1]:
            states = layer(states, packing)
        states = self.layers[-1].last(states, packing) if len(self.layers) else packing.last(states)
        states = self.norm(states) if self.official_block else states
        return states * (packing.counts > 0).unsqueeze(1)

    # ---- scores and losses --------------------------------------------------------------------------------------

    def encode(self, interaction: Interaction) -> Tensor:
        """Compute the states of the last tokens of rows, or before the targets of windows: ``[n, d]``.

        They are 0 for rows without tokens.
        """
        if TARGETS not in interaction:
            tokens = self.replacement(self.tokens(interaction))
            return self.last_states(tokens, Packing(tokens.mask))
        tokens = self.replacement(self.tokens(interaction), of_window=True)
        packing = Packing(tokens.mask)
        states = packing.unpack(self.states(tokens, packing))
        return states_before_targets(states, self._seen_tokens(interaction), interaction)

    def score(self, state: Tensor, candidates: Tensor) -> Tensor:
        """Compute dot products of last states and candidates."""
        return dot_product(state, self.item_embedding(candidates))

    def item_factors(self) -> tuple[Tensor, str]:
        """Return the learnt item vectors."""
        return self.item_embedding.weight, "items, as learnt (item_embedding)"

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """Compute the loss of the item after a row's last token, or of all items that follow a token."""
        candidates = self.training_candidates(interaction)
        if self.train_positions == "last":
            losses = self.ranking_losses(self.encode(interaction), candidates)
        else:
            losses = self.ranking_losses(*self._all_positions(interaction, candidates))
        self.loss_names = tuple(losses)
        return tuple(losses.values())

    def _all_positions(self, interaction: Interaction, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states ``[n, d]`` of all tokens that an item follows, and candidates ``[n, C]``."""
        tokens = self.tokens(interaction)
        packing = Packing(tokens.mask)
        labels = tokens.next_items(candidates[:, 0])
        rows, columns = labels.nonzero(as_tuple=True)
        states = packing.unpack(self.states(self.replacement(tokens), packing))[rows, columns]
        return states, torch.cat([labels[rows, columns].unsqueeze(1), candidates[rows, 1:]], dim=1)
