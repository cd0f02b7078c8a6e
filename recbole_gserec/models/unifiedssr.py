r"""UnifiedSSR: A Unified Framework of Sequential Search and Recommendation.

Xie et al., WWW 2024, https://arxiv.org/abs/2310.13921.
"""

import math

import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_gserec.data import QUERY, evaluates_searches
from recbole_gserec.errors import SettingError
from recbole_gserec.layers import (
    Packing,
    QueryEmbedding,
    SessionWindows,
    SiameseEncoder,
    dot_product,
    reset_embedding,
)
from recbole_gserec.models.search_recommender import JointRecommender
from recbole_gserec.settings import check_choice, check_heads, check_positive

MIX_BOUNDS = (0.1, 0.9)
"""Minimum and maximum weight of the product branch in the search task."""


class UnifiedSSR(JointRecommender):
    """One encoder for the products of both tasks and for queries; recommendation does not use the query branch.

    Settings: ``properties/model/UnifiedSSR.yaml``.
    """

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        check_choice("loss_positions", config["loss_positions"], ("last", "all"))
        check_choice("session_click", config["session_click"], ("first", "last"))
        size, n_heads = config["embedding_size"], config["n_heads"]
        check_heads(config)
        check_positive(config, "window_softness")
        self.pretrain_epochs = config["pretrain_epochs"]
        if self.pretrain_epochs > 0 and evaluates_searches(config):
            raise SettingError("pretrain_epochs is above 0: searches, which are evaluated, are not learnt after that")
        self.loss_positions, self.session_click = config["loss_positions"], config["session_click"]
        self.lambda_corr, self.scale = config["lambda_corr"], math.sqrt(size)

        self.user_embedding = nn.Embedding(dataset.user_num, size, padding_idx=0)
        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        self.query_embedding = QueryEmbedding(dataset.query_words, dataset.num("query_words"), size)
        self.encoder = SiameseEncoder(
            size,
            config["n_layers"],
            n_heads,
            config["inner_size"],
            config["hidden_dropout_prob"],
            config["attn_dropout_prob"],
            causal=config["causal"],
            stacked=config["stacked"],
        )
        if config["lambda_corr"] > 0 and config["n_windows"] < 2:
            raise SettingError(
                f"n_windows is {config['n_windows']}; it must be at least 2: lambda_corr weights correlations of "
                "neighbouring windows. Set lambda_corr to 0 for none"
            )
        self.windows = SessionWindows(size, config["n_windows"], config["window_softness"])
        self.mix = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset tables to Xavier-normal rows with zero padding rows; layers reset themselves."""
        reset_embedding(self.user_embedding)
        reset_embedding(self.item_embedding)
        nn.init.zeros_(self.mix)

    # ---- the two inputs of the encoder --------------------------------------------------------------------------

    def encode_products(self, interaction: Interaction) -> tuple[Tensor, Packing]:
        """Compute the states of a recommendation history, packed ``[T, d]``."""
        items = interaction[self.ITEM_SEQ]
        packing = Packing(items > 0)
        users = self.user_embedding(interaction[self.USER_ID])[packing.rows]
        products = self.scale * (self.item_embedding(packing.pack(items)) + users)
        return self.encoder(products, packing=packing)[0], packing

    def encode_branches(
        self, users: Tensor, clicks: Tensor, queries: Tensor, packing: Packing
    ) -> tuple[Tensor, Tensor]:
        """Compute the states of the product and the query branch at each search, packed ``[T, d]``.

        Position t has query t and the product clicked for the query before: what is known when click t is predicted.
        """
        # Nothing was clicked before the first query, and possibly nothing for others: such a position only holds the
        # user.
        previous = F.pad(clicks[:, :-1], (1, 0))
        users = self.user_embedding(users)[packing.rows]
        products = self.scale * (self.item_embedding(packing.pack(previous)) + users)
        searched = self.scale * (self.query_embedding(packing.pack(queries)) + users)
        return self.encoder(products, searched, packing=packing)

    def search_history(self, interaction: Interaction) -> tuple[Tensor, Tensor, Packing]:
        """Clicked items and queries ``[B, S + 1]`` of earlier searches and of the row, oldest first; 0: no click."""
        lengths = interaction["search_length"].long().unsqueeze(1)
        clicked = interaction["search_item_ids_list"]
        if self.session_click == "last":
            position = ((clicked > 0).sum(2, keepdim=True) - 1).clamp_min(0)
            clicked = clicked.gather(2, position)
        positions = torch.arange(clicked.shape[1] + 1, device=clicked.device)
        packing = Packing(positions <= lengths)
        clicks, queries = (
            F.pad(earlier * (positions[:-1] < lengths), (0, 1)).scatter(1, lengths, own.unsqueeze(1))
            for earlier, own in (
                (clicked[:, :, 0], interaction[self.ITEM_ID]),
                (interaction["search_query_id_list"], interaction[QUERY]),
            )
        )
        return clicks, queries, packing

    # ---- recommendation -----------------------------------------------------------------------------------------

    def encode(self, interaction: Interaction) -> Tensor:
        """Compute the state after the latest interaction, ``[B, d]``."""
        states, packing = self.encode_products(interaction)
        return packing.last(states)

    def score(self, state: Tensor, candidates: Tensor) -> Tensor:
        r"""Compute :math:`h^\top \sqrt d\, e_i`."""
        return dot_product(self.scale * state, self.item_embedding(candidates))

    def item_factors(self) -> tuple[Tensor, str]:
        """Return the learnt item vectors."""
        return self.item_embedding.weight, "items, as learnt"

    def factors_of(self, state: Tensor) -> Tensor:
        """Return scaled states; see :meth:`score`."""
        return self.scale * state

    def recommendation_losses(self, interaction: Interaction) -> dict[str, Tensor]:
        states, packing = self.encode_products(interaction)
        targets = F.pad(interaction[self.ITEM_SEQ][:, 1:], (0, 1))
        ends = (packing.counts - 1).clamp_min(0).unsqueeze(1)
        targets = targets.scatter(1, ends, interaction[self.ITEM_ID].unsqueeze(1))
        losses = {"rec": self.next_product_loss(states, packing, targets, interaction)}
        losses |= self.next_item_losses(packing.last(states), interaction[self.ITEM_ID])
        if self.lambda_corr > 0:
            windows = self.session_vectors(states, packing)
            losses["corr"] = self.lambda_corr * adjacent_correlation(windows)
        return losses

    def next_product_loss(self, states: Tensor, packing: Packing, targets: Tensor, interaction: Interaction) -> Tensor:
        """Compute the loss of the next product among negatives.

        Args:
            states: Packed ``[T, d]``.
            packing: Positions of the states.
            targets: The product after each position, ``[B, N]``; 0 if there is none to predict.
            interaction: The rows, with their target, which belongs to the last position, and its negatives.
        """
        candidates = self.training_candidates(interaction)
        if self.loss_positions == "last":
            return self.candidate_loss(packing.last(states), candidates)
        # A row's negatives are not in the user's training part, so they are valid for all of its positions.
        targets = packing.pack(targets * packing.mask)
        predicted = targets > 0
        candidates = torch.cat([targets.unsqueeze(1), candidates[packing.rows, 1:]], dim=1)
        return self.candidate_loss(states[predicted], candidates[predicted])

    # ---- search -------------------------------------------------------------------------------------------------

    def search_losses(self, interaction: Interaction) -> dict[str, Tensor]:
        """Compute the losses of the two branches, mixed by a learnt weight; none after pre-training."""
        if 0 < self.pretrain_epochs <= self.epoch:
            return {}
        clicks, queries, packing = self.search_history(interaction)
        branches = self.encode_branches(interaction[self.USER_ID], clicks, queries, packing)
        by_products, by_queries = (self.next_product_loss(states, packing, clicks, interaction) for states in branches)
        weight = self.weight_of_products()
        losses = {"click": weight * by_products + (1 - weight) * by_queries}
        if self.lambda_corr > 0:
            windows = [self.session_vectors(states, packing) for states in branches]
            apart = sum(adjacent_correlation(part) for part in windows)
            together = _mean(F.cosine_similarity(windows[0], windows[1], dim=-1))
            losses["corr"] = self.lambda_corr * (apart - together)
        return losses

    def weight_of_products(self) -> Tensor:
        """Return the learnt weight of the product branch; the rest is the query branch's."""
        low, high = MIX_BOUNDS
        return low + (high - low) * self.mix.sigmoid()

    def encode_search(self, interaction: Interaction) -> Tensor:
        """Compute the mixed state of both branches at the row's query, ``[B, d]``.

        The paper mixes the losses. Scores are linear in the state, so this mixes scores with the same weight.
        """
        clicks, queries, packing = self.search_history(interaction)
        branches = self.encode_branches(interaction[self.USER_ID], clicks, queries, packing)
        by_products, by_queries = (packing.last(states) for states in branches)
        weight = self.weight_of_products()
        return weight * by_products + (1 - weight) * by_queries

    # ---- sessions -----------------------------------------------------------------------------------------------

    def session_vectors(self, states: Tensor, packing: Packing) -> Tensor:
        """Return window means ``[B', K, d]`` of the rows that have an event for each window."""
        return self.windows(states, packing)[packing.counts >= self.windows.n_windows]


def adjacent_correlation(windows: Tensor) -> Tensor:
    r"""Return the mean :math:`|\cos|` of neighbouring window means ``[B, K, d]``; 0 without any."""
    return _mean(F.cosine_similarity(windows[:, :-1], windows[:, 1:], dim=-1).abs())


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(1, values.numel())
