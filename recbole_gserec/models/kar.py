r"""KAR: Towards Open-World Recommendation with Knowledge Augmentation from Large Language Models.

Xi et al., RecSys 2024, https://doi.org/10.1145/3640457.3688104. The recommender is DIN: Deep Interest Network for
Click-Through Rate Prediction, Zhou et al., KDD 2018, https://doi.org/10.1145/3219819.3219823.
"""

from typing import NamedTuple

import torch
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_gserec.errors import SettingError
from recbole_gserec.layers import HybridExpertAdaptor, InterestAttention, PredictionMLP, after, reset_embedding
from recbole_gserec.models.search_recommender import SearchRecommender
from recbole_gserec.settings import check_choice

TASKS = ("user", "item")
ITEMS_AT_ONCE = 1 << 13
"""Number of items whose texts are adapted at once outside of training."""


class UserState(NamedTuple):
    """The parts of a batch of B rows that do not depend on candidates.

    Shapes:
        - **history**: ``[B, N, d]``, **mask**: ``[B, N]``, True on real events.
        - **knowledge**: ``[B, k]``, features from the user's text.
    """

    history: Tensor
    mask: Tensor
    knowledge: Tensor


class KAR(SearchRecommender):
    r"""DIN with additional features from a language model's knowledge about the user's tastes and the item.

    .. math::
        \hat y = \mathrm{MLP}([w; e_t; v_{user}; v_{item}])

    with DIN's interest :math:`w` and candidate :math:`e_t`. Vectors of texts are not trained; a hybrid-expert adaptor
    maps them to :math:`v`. The user's text is the summary of training interactions that GSERec also uses, and the
    item's text comes from its file. Without a text, :math:`v = 0`.

    Settings: ``properties/model/KAR.yaml``. Data: a search-extended dataset with texts of items; searches are not read.
    """

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        check_choice("attention_activation", config["attention_activation"], ("dice", "prelu"))
        if not config["expert_hidden_size"]:
            raise SettingError("expert_hidden_size is []; it must have at least one layer")
        size, dropout = config["embedding_size"], config["hidden_dropout_prob"]
        for task in TASKS:
            self.register_buffer(f"{task}_vectors", dataset.text_vectors[task], persistent=False)
        sizes = {task: dataset.text_vectors[task].shape[1] for task in TASKS}
        if sizes["user"] != sizes["item"]:
            raise SettingError(
                f"KAR's experts need text vectors of one size, but the sizes are {sizes}. Make both again"
            )

        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        self.attention = InterestAttention(
            size, config["attention_hidden_size"], dropout, config["attention_activation"]
        )
        self.adaptor = HybridExpertAdaptor(
            TASKS,
            sizes["item"],
            config["n_shared_experts"],
            config["n_specific_experts"],
            config["expert_hidden_size"],
            dropout,
        )
        knowledge_size = self.adaptor.output_size
        self.mlp = PredictionMLP(knowledge_size, 2 * size + knowledge_size, config["mlp_hidden_size"], dropout)
        reset_embedding(self.item_embedding)

    # ---- knowledge from texts -----------------------------------------------------------------------------------

    def knowledge(self, task: str, ids: Tensor) -> Tensor:
        """Compute the features from texts of users or items, ``[..., k]`` for ids ``[...]``; 0 without a text."""
        if task == "item" and self.is_evaluated:
            return self.cached("item knowledge", self._knowledge_of_all_items)[ids]
        distinct, inverse = ids.unique(return_inverse=True)
        vectors = getattr(self, f"{task}_vectors")[distinct]
        return self.adaptor(task, vectors)[inverse]

    def _knowledge_of_all_items(self) -> Tensor:
        return torch.cat([self.adaptor("item", vectors) for vectors in self.item_vectors.split(ITEMS_AT_ONCE)])

    # ---- scores and loss ----------------------------------------------------------------------------------------

    def encode(self, interaction: Interaction) -> UserState:
        items = interaction[self.ITEM_SEQ]
        return UserState(self.item_embedding(items), items > 0, self.knowledge("user", interaction[self.USER_ID]))

    def score(self, state: UserState, candidates: Tensor) -> Tensor:
        items = self.item_embedding(candidates)
        interests = self.attention(state.history, state.mask, items)
        of_items = torch.cat([items, self.knowledge("item", candidates)], dim=-1).expand(len(interests), -1, -1)
        return self.mlp(state.knowledge, torch.cat([interests, of_items], dim=-1))

    def next_item_states(self, state: UserState) -> Tensor:
        """Return the last interactions, ``[B, d]``: DIN has no encoder of sequences."""
        rows = torch.arange(len(state.mask), device=state.mask.device)
        return after(state.history, rows, state.mask.sum(1))

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        losses = self.ranking_losses(self.encode(interaction), self.training_candidates(interaction))
        self.loss_names = tuple(losses)
        return tuple(losses.values())
