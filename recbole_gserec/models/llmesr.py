r"""LLM-ESR: Large Language Models Enhancement for Long-tailed Sequential Recommendation.

Liu et al., NeurIPS 2024, https://arxiv.org/abs/2405.20646.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from recbole_gserec.data import SEEN_ITEMS, TARGETS, reads_windows
from recbole_gserec.errors import SettingError
from recbole_gserec.layers import (
    DualViewEncoder,
    ModuleList,
    Packing,
    dot_product,
    most_similar,
    reset_embedding,
)
from recbole_gserec.models.search_recommender import (
    SearchRecommender,
    check_train_positions,
    states_before_targets,
)
from recbole_gserec.settings import check_heads

ITEMS_AT_ONCE = 1 << 14
"""Number of items whose texts are adapted at once outside of training."""


class LLMESR(SearchRecommender):
    r"""SASRec over two views of the items, and users who learn from users with similar summaries.

    .. math::
        c_i = [E_i; \mathrm{Adapter}(x_i)], \quad \hat y = h^\top c_i, \quad
        L = L_{rec} + \alpha\,\mathrm{MSE}\bigl(h_u, \mathrm{sg}(\tfrac1n \textstyle\sum_{v \sim u} h_v)\bigr)

    :math:`E` is a table initialised with the principal components of the items' text vectors :math:`x`, which are not
    trained. :math:`h` is the last state of :class:`DualViewEncoder`. The users :math:`v \sim u` have the recommendation
    summaries most similar to that of u. Their states are those after their last training interaction, without dropout,
    and get no gradient from u. The semantic view of an item without a text is 0.

    Settings: ``properties/model/LLMESR.yaml``. Data: a search-extended dataset with texts of items; searches are not
    read.
    """

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        check_train_positions(config)
        check_heads(config)
        size = config["embedding_size"]
        n_cross_heads = config["n_cross_heads"]
        if n_cross_heads < 1 or size % n_cross_heads:
            raise SettingError(f"embedding_size {size} is not a multiple of n_cross_heads {n_cross_heads}")
        self.train_positions, self.alpha = config["train_positions"], config["alpha"]
        self.register_buffer("item_vectors", dataset.text_vectors["item"], persistent=False)
        text_size = self.item_vectors.shape[1]

        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        hidden_size = max(1, text_size // 2)
        self.adapter = ModuleList([nn.Linear(text_size, hidden_size), nn.Linear(hidden_size, size)])
        self.encoder = DualViewEncoder(
            size,
            config["MAX_ITEM_LIST_LENGTH"],
            config["n_layers"],
            config["n_heads"],
            n_cross_heads,
            config["hidden_dropout_prob"],
            config["attn_dropout_prob"],
            # In windows, an event has no fixed position, so attention tells positions by distance.
            span=config["MAX_ITEM_LIST_LENGTH"] if reads_windows(config) else 0,
        )
        self.teaches = self.alpha > 0 and config["n_sim"] > 0
        if self.teaches:
            self._find_teachers(dataset, config)
        self.reset_parameters()
        if config["pca_init"]:
            self._start_from_texts(config["seed"])

    def reset_parameters(self) -> None:
        """Reset to Xavier-normal weights and zero biases; the encoder resets itself."""
        reset_embedding(self.item_embedding)
        for layer in self.adapter:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _find_teachers(self, dataset: Dataset, config: Config) -> None:
        """Find each user's most similar users, and the training histories of all users."""
        events = dataset.events
        users = torch.arange(events.n_users)
        items, lengths = events.item_histories(users, events.train_ends, config["MAX_ITEM_LIST_LENGTH"])
        vectors = dataset.text_vectors["user"].to(config["device"])
        similar = most_similar(vectors, (lengths > 0).to(vectors.device), config["n_sim"]).cpu()
        self.register_buffer("similar_users", similar.int(), persistent=False)
        self.register_buffer("training_histories", items.int(), persistent=False)

    def _start_from_texts(self, seed: int) -> None:
        """Initialise items with texts by principal components of their vectors, if there are enough components."""
        size, has_text = self.item_embedding.embedding_dim, self.item_vectors.any(1)
        if min(self.item_vectors.shape[1], int(has_text.sum())) < size:
            self.logger.info("Text vectors have fewer components than embedding_size: items start at random.")
            return
        components = principal_components(self.item_vectors[has_text].numpy(), size, seed)
        with torch.no_grad():
            self.item_embedding.weight[has_text] = torch.from_numpy(components)

    # ---- views of items -----------------------------------------------------------------------------------------

    def semantic(self, items: Tensor) -> Tensor:
        """Return adapted text vectors, ``[..., d]`` for items ``[...]``; 0 for those without a text."""
        if self.is_evaluated:
            return self.cached("semantic view", self._semantic_view_of_all_items)[items]
        distinct, inverse = items.unique(return_inverse=True)
        return self._adapt(self.item_vectors[distinct])[inverse]

    def _semantic_view_of_all_items(self) -> Tensor:
        return torch.cat([self._adapt(part) for part in self.item_vectors.split(ITEMS_AT_ONCE)])

    def _adapt(self, vectors: Tensor) -> Tensor:
        # Nothing is between the two layers, so they are combined, which is much cheaper for many items.
        first, second = self.adapter
        weight = second.weight @ first.weight
        bias = second.weight @ first.bias + second.bias
        return F.linear(vectors, weight, bias) * vectors.any(1, keepdim=True)

    # ---- histories ----------------------------------------------------------------------------------------------

    def encode(self, interaction: Interaction) -> Tensor:
        """Compute the last states of rows, or those before the targets of windows: ``[n, 2d]``.

        They are 0 for rows without interactions.
        """
        histories = interaction[self.ITEM_SEQ]
        if TARGETS not in interaction:
            return self._last_states(histories)
        return states_before_targets(self._states(histories), interaction[SEEN_ITEMS], interaction)

    def _last_states(self, histories: Tensor) -> Tensor:
        packing = Packing(histories > 0)
        items = packing.pack(histories)
        return self.encoder.last(self.item_embedding(items), self.semantic(items), packing)

    def _states(self, histories: Tensor) -> Tensor:
        """Compute the states after each interaction, ``[B, N, 2d]``; undefined for padding."""
        packing = Packing(histories > 0)
        items = packing.pack(histories)
        return packing.unpack(self.encoder(self.item_embedding(items), self.semantic(items), packing))

    def score(self, state: Tensor, candidates: Tensor) -> Tensor:
        return dot_product(state, torch.cat([self.item_embedding(candidates), self.semantic(candidates)], dim=-1))

    def item_factors(self) -> tuple[Tensor, str]:
        """Return both views, as used by :meth:`score`."""
        semantic = self.cached("semantic view", self._semantic_view_of_all_items)
        views = torch.cat([self.item_embedding.weight, semantic], dim=1)
        return views, "items, both views side by side"

    # ---- losses -------------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """Compute the loss of the next items and the weighted distillation loss."""
        candidates, histories = self.training_candidates(interaction), interaction[self.ITEM_SEQ]
        users, has_history = interaction[self.USER_ID], (histories > 0).any(1)
        if self.train_positions == "last":
            last = self.encode(interaction)
            losses = self.ranking_losses(last, candidates)
            if TARGETS in interaction:
                windows = (interaction[TARGETS] > 0).nonzero()[:, 0]
                users, has_history = users[windows], has_history[windows]
        else:
            states = self._states(histories)
            rows, columns = (histories > 0).nonzero(as_tuple=True)
            following = torch.cat([histories[:, 1:], torch.zeros_like(histories[:, :1])], dim=1)
            is_last = following == 0
            following = torch.where(is_last, candidates[:, :1], following)[rows, columns]
            # A row's negatives are outside of the user's training part, so they are also negatives at its earlier
            # positions.
            compared = torch.cat([following.unsqueeze(1), candidates[rows, 1:]], dim=1)
            losses = self.ranking_losses(states[rows, columns], compared)
            ends = (histories > 0).sum(1) - 1
            last = states[torch.arange(len(states), device=states.device), ends.clamp_min(0)]
        if self.teaches:
            losses["distil"] = self.alpha * self.distillation_loss(users, last, has_history)
        self.loss_names = tuple(losses)
        return tuple(losses.values())

    def distillation_loss(self, users: Tensor, states: Tensor, has_history: Tensor) -> Tensor:
        """Compute the mean squared distance to similar users' mean state, over rows with a state and such users."""
        similar = self.similar_users[users].long()
        rows = has_history & (similar > 0).any(1)
        similar = similar[rows]
        # Many rows of a batch have the same similar users, so each of them is encoded once.
        distinct, inverse = similar.unique(return_inverse=True)
        vectors = self._states_of_teachers(distinct)[inverse]
        is_real = (similar > 0).unsqueeze(-1)
        targets = (vectors * is_real).sum(1) / is_real.sum(1).clamp_min(1)
        return _loss_or_0(F.mse_loss, states[rows], targets)

    @torch.no_grad()
    def _states_of_teachers(self, users: Tensor) -> Tensor:
        """Compute states ``[n, 2d]`` after the training part of users ``[n]``, as in evaluation."""
        histories = self.training_histories[users].long()
        self.encoder.eval()
        try:
            return self._last_states(histories)
        finally:
            self.encoder.train(self.training)


def _loss_or_0(loss: Callable[..., Tensor], values: Tensor, *others: Tensor) -> Tensor:
    """Average over rows; 0 if there are none."""
    return loss(values, *others) if len(values) else values.sum()


def principal_components(vectors: np.ndarray, n_components: int, seed: int) -> np.ndarray:
    """Return coordinates ``[n, n_components]`` of vectors ``[n, D]`` along their principal components."""
    # With several threads, the order of additions varies; equal vectors must have equal initial values.
    with threadpool_limits(limits=1):
        return PCA(n_components, random_state=seed).fit_transform(vectors).astype(np.float32)
