r"""JSR: Joint Modeling and Optimization of Search and Recommendation.

Zamani and Croft, DESIRES 2018; the variant with item texts is Learning a Joint Search and Recommendation Model from
User-Item Interactions, Zamani and Croft, WSDM 2020, https://doi.org/10.1145/3336191.3371818.
"""

from collections.abc import Mapping
from typing import Any

import torch
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_gserec.data import QUERY, Ragged
from recbole_gserec.errors import SettingError
from recbole_gserec.layers import (
    HistoryEncoder,
    Packing,
    PredictionMLP,
    QueryEmbedding,
    UnigramText,
    reset_embedding,
)
from recbole_gserec.models.search_recommender import JointRecommender
from recbole_gserec.settings import check_choice, check_heads


class JSR(JointRecommender):
    """Recommendation and search share one item table and nothing else; scores do not read searches.

    Settings: ``properties/model/JSR.yaml``.
    """

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        check_choice("jsr_variant", config["jsr_variant"], ("joint18", "text20"))
        check_choice("user_tower", config["user_tower"], ("seq", "id"))
        size, n_heads, dropout = config["embedding_size"], config["n_heads"], config["hidden_dropout_prob"]
        self.variant, self.user_tower = config["jsr_variant"], config["user_tower"]

        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        if self.user_tower == "id":
            self.user_embedding = nn.Embedding(dataset.user_num, size, padding_idx=0)
        else:
            check_heads(config)
            self.history_encoder = HistoryEncoder(
                size,
                config["MAX_ITEM_LIST_LENGTH"],
                config["n_layers"],
                n_heads,
                config["inner_size"],
                dropout,
                config["attn_dropout_prob"],
                causal=True,
            )
        self.recommendation_mlp = PredictionMLP(0, size, config["mlp_hidden_size"], dropout)
        self.text_field = config["item_text_field"] if self.variant == "text20" else None
        if self.text_field is None:
            texts = QueryEmbedding(dataset.query_words, dataset.num("query_words"), size)
        else:
            texts = QueryEmbedding(item_texts(dataset, self.text_field), dataset.num(self.text_field), size)
        if self.variant == "text20":
            self.text = UnigramText(texts, size)
        else:
            self.query_embedding, self.query_layer = texts, nn.Linear(size, size)
            self.search_mlp = PredictionMLP(0, size, config["mlp_hidden_size"], dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset tables to Xavier-normal rows with zero padding rows; layers reset themselves."""
        reset_embedding(self.item_embedding)
        if self.user_tower == "id":
            reset_embedding(self.user_embedding)
        if self.variant == "joint18":
            nn.init.xavier_normal_(self.query_layer.weight)
            nn.init.zeros_(self.query_layer.bias)

    # ---- recommendation -----------------------------------------------------------------------------------------

    def encode(self, interaction: Interaction) -> Tensor:
        r"""Compute the user :math:`h_u`, ``[B, d]``: the state after the latest interaction, or the user embedding."""
        if self.user_tower == "id":
            return self.user_embedding(interaction[self.USER_ID])
        items = interaction[self.ITEM_SEQ]
        packing = Packing(items > 0)
        return packing.last(self.history_encoder(self.item_embedding(packing.pack(items)), packing))

    def score(self, state: Tensor, candidates: Tensor) -> Tensor:
        r"""Compute :math:`s_F(u, i) = \mathrm{FFN}_F(h_u \circ h_i)`."""
        return self._match(self.recommendation_mlp, state, candidates)

    def next_item_states(self, state: Tensor) -> Tensor:
        """Return the users."""
        return state

    def _match(self, mlp: PredictionMLP, vectors: Tensor, candidates: Tensor) -> Tensor:
        """Compute logits ``[B, C]`` of the Hadamard products of ``[B, d]`` with candidates."""
        products = vectors.unsqueeze(1) * self.item_embedding(candidates)
        return mlp(vectors[:, :0], products)

    def recommendation_losses(self, interaction: Interaction) -> dict[str, Tensor]:
        losses = self.ranking_losses(self.encode(interaction), self.training_candidates(interaction))
        if self.text_field is not None and self.lambda_src > 0:
            items = interaction[self.ITEM_ID]
            losses["text"] = self.lambda_src * self.text(items, items, self.item_embedding)
        return losses

    # ---- search -------------------------------------------------------------------------------------------------

    @classmethod
    def reads_search_rows(cls, config: Mapping[str, Any]) -> bool:
        """Item texts are learnt from recommendation rows."""
        reads_item_texts = config["jsr_variant"] == "text20" and config["item_text_field"] is not None
        return super().reads_search_rows(config) and not reads_item_texts

    def search_losses(self, interaction: Interaction) -> dict[str, Tensor]:
        if self.variant == "text20":
            return {"text": self.text(interaction[self.ITEM_ID], interaction[QUERY], self.item_embedding)}
        state = self.encode_search(interaction)
        return {"click": self.candidate_loss(state, self.training_candidates(interaction), self.score_search)}

    @classmethod
    def ranks_searches(cls, config: Mapping[str, Any]) -> bool:
        """Texts are learnt, but no item is ranked for them, with ``text20``."""
        return super().ranks_searches(config) and config["jsr_variant"] != "text20"

    def encode_search(self, interaction: Interaction) -> Tensor:
        """Compute :math:`h_q`, ``[B, d]``: a layer over the mean word of the query."""
        return self.query_layer(self.query_embedding(interaction[QUERY]))

    def score_search(self, state: Tensor, candidates: Tensor) -> Tensor:
        r"""Compute :math:`s_R(q, i) = \mathrm{FFN}_R(h_q \circ h_i)`, ``[B, C]``."""
        return self._match(self.search_mlp, state, candidates)


def item_texts(dataset: Dataset, field: str) -> Ragged:
    """Return the words of each item id in a column of the ``.item`` file.

    Raises:
        SettingError: If the column is not loaded.
    """
    if dataset.item_feat is None or field not in dataset.item_feat:
        raise SettingError(f"item_text_field is '{field}', which is not loaded; add it to load_col: item")
    words = dataset.item_feat[field]
    if words.is_floating_point():
        raise SettingError(f"item_text_field is '{field}', which holds numbers; it must be a token or token_seq column")
    words = words.view(len(words), -1)
    lengths = (words > 0).sum(1)
    return Ragged(words[words > 0], torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
