r"""NRHUB: Neural News Recommendation with Heterogeneous User Behavior.

Wu et al., EMNLP 2019, https://doi.org/10.18653/v1/D19-1493.
"""

import torch
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_gserec.data import SEEN_ITEMS, SEEN_SEARCHES, TARGETS
from recbole_gserec.layers import (
    AdditiveAttention,
    Dropout,
    ModuleDict,
    Packing,
    QueryEmbedding,
    Seen,
    dot_product,
    reset_embedding,
)
from recbole_gserec.models.search_recommender import SearchRecommender

VIEWS = ("interactions", "queries", "clicks")


class NRHUB(SearchRecommender):
    r"""A user has three views. Additive attention AP pools the records of each view, and then the views.

    .. math::
        u = \mathrm{AP}([\mathrm{AP}(\text{interactions}), \mathrm{AP}(\text{queries}), \mathrm{AP}(\text{clicks})]),
        \quad y = u^\top \tanh(W e_t + b)

    The paper's records are texts: titles of clicked news and of browsed pages, and queries. Here a record is an item's
    embedding or the mean of a query's words, and the items clicked in searches replace the pages. A view
    without records does not count.

    Settings: ``properties/model/NRHUB.yaml``. Data: a search-extended dataset.
    """

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        self.require_files(config, "search", "query")
        self.max_items, self.max_searches = config["MAX_ITEM_LIST_LENGTH"], config["MAX_SEARCH_LIST_LENGTH"]
        size, hidden_size = config["embedding_size"], config["hidden_size"]

        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        self.query_embedding = QueryEmbedding(dataset.query_words, dataset.num("query_words"), size)
        self.dropout = Dropout(config["hidden_dropout_prob"])
        self.view_attention = ModuleDict({view: AdditiveAttention(size, hidden_size) for view in VIEWS})
        self.user_attention = AdditiveAttention(hidden_size, hidden_size)
        self.candidate_projection = nn.Linear(size, hidden_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset to a Xavier-normal table with a zero padding row, and projection; layers reset themselves."""
        reset_embedding(self.item_embedding)
        nn.init.xavier_normal_(self.candidate_projection.weight)
        nn.init.zeros_(self.candidate_projection.bias)

    def encode(self, interaction: Interaction) -> Tensor:
        """Compute users ``[n, hidden_size]`` of rows, or as the targets of windows see them; 0 without any record."""
        queries = interaction["search_query_id_list"]
        is_search = self.search_mask(interaction)
        items, clicks = interaction[self.ITEM_SEQ], interaction["search_item_ids_list"]
        records = {
            "interactions": (self.item_embedding, items, items > 0),
            "queries": (self.query_embedding, queries, is_search & self._has_words(queries)),
            "clicks": (self.item_embedding, clicks.flatten(1), (is_search.unsqueeze(-1) & (clicks > 0)).flatten(1)),
        }
        seen = self._seen(interaction)
        views, masks = [], []
        for view, (embedding, ids, mask) in records.items():
            packing, attention = Packing(mask), self.view_attention[view]
            vectors = self.dropout(embedding(packing.pack(ids)))
            if seen is None:
                views.append(attention(vectors, packing))
                masks.append(mask.any(1))
            else:
                is_target, visible = interaction[TARGETS] > 0, seen[view] & mask.unsqueeze(1)
                views.append(attention.of_targets(vectors, packing, visible)[is_target])
                masks.append(visible.any(2)[is_target])
        packing = Packing(torch.stack(masks, dim=1))
        return self.user_attention(packing.pack(torch.stack(views, dim=1)), packing)

    def _seen(self, interaction: Interaction) -> dict[str, Tensor] | None:
        """Return which records of each view the targets of windows may see, ``[B, T, N]``; None for rows."""
        if TARGETS not in interaction:
            return None
        n_items, (n_searches, n_clicks) = (
            interaction[self.ITEM_SEQ].shape[1],
            interaction["search_item_ids_list"].shape[1:],
        )
        searches = Seen(interaction[SEEN_SEARCHES], self.max_searches, n_searches).mask
        return {
            "interactions": Seen(interaction[SEEN_ITEMS], self.max_items, n_items).mask,
            "queries": searches,
            "clicks": searches.repeat_interleave(n_clicks, dim=2),
        }

    def _has_words(self, queries: Tensor) -> Tensor:
        """Return whether each query has any words."""
        offsets = self.query_embedding.word_offsets
        return offsets[queries + 1] > offsets[queries]

    def score(self, state: Tensor, candidates: Tensor) -> Tensor:
        """Compute dot products of users and candidates."""
        items = self.dropout(self.item_embedding(candidates))
        return dot_product(state, self.candidate_projection(items).tanh())

    def item_factors(self) -> tuple[Tensor, str]:
        """Return items as projected in :meth:`score`."""
        return self.candidate_projection(self.item_embedding.weight).tanh(), "items, projected"

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        losses = self.ranking_losses(self.encode(interaction), self.training_candidates(interaction))
        self.loss_names = tuple(losses)
        return tuple(losses.values())
