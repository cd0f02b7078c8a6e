r"""CL4SRec: Contrastive Learning for Sequential Recommendation.

Xie et al., ICDE 2022, https://doi.org/10.1109/ICDE53745.2022.00099.
"""

from collections import ChainMap

import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.loss import BPRLoss
from recbole.model.sequential_recommender.sasrec import SASRec
from torch import Tensor, nn

from recbole_gserec.data import SEEN_ITEMS, TARGETS, last_window, reads_windows
from recbole_gserec.errors import SettingError, not_none
from recbole_gserec.layers import (
    DistanceBias,
    DotSimilarity,
    SequenceAugmentation,
    dot_product,
    encode_at,
    event_distances,
    nt_xent,
    use_fast_parts,
)
from recbole_gserec.models.objective import LOSSES, SAMPLED, of_recbole
from recbole_gserec.models.search_recommender import states_before_targets
from recbole_gserec.settings import check_choice, check_heads, check_negatives, check_positive, check_some_layers


class CL4SRec(SASRec):
    r"""SASRec that learns similar states for two random views of a sequence.

    .. math::
        L = L_{rec} + \lambda_{cl} L_{cl}

    Views are made by cropping, masking and reordering, two different ways for each sequence; :math:`L_{cl}` is the
    NT-Xent loss of dot products. Rows of one user, or with one target, are each other's negatives as in the paper,
    unless ``cl_dedup`` is set.

    The mask token is the last row of the table, after all items. It is never scored.

    Settings: ``properties/model/CL4SRec.yaml``. Data: any RecBole dataset with times; searches are not read.
    """

    item_embedding: nn.Embedding

    def __init__(self, config: Config, dataset: Dataset):
        self._check(config)
        # SASRec refuses our loss types, although it would not use them.
        super().__init__(ChainMap({"loss_type": "CE"}, config.final_config_dict), dataset)
        self.loss_type = config["loss_type"]
        self.objective = of_recbole(config, dataset) if self.loss_type in SAMPLED else None
        # RecBole repeats a batch for every negative of a row.
        self.n_repeats = config["train_neg_sample_args"]["sample_num"] if self.loss_type == "BPR" else 1
        self.lambda_cl, self.tau, self.cl_dedup = config["lambda_cl"], config["tau"], config["cl_dedup"]
        # The other weights equal those of a SASRec with the same seed.
        token = torch.empty(1, self.hidden_size).normal_(std=self.initializer_range)
        rows = torch.cat([self.item_embedding.weight.detach(), token])
        self.item_embedding = nn.Embedding.from_pretrained(rows, freeze=False, padding_idx=0)
        self.augmentation = SequenceAugmentation(config["eta"], config["gamma"], config["beta"], token=self.n_items)
        self.similarity = DotSimilarity()
        self.distance_bias: DistanceBias | None = None
        if reads_windows(config):
            # In windows, an event has no fixed position, so attention tells positions by distance, the same way in all
            # layers.
            self.position_embedding = None
            self.distance_bias = DistanceBias(self.n_heads, self.max_seq_length)
        use_fast_parts(self)

    @staticmethod
    def _check(config: Config) -> None:
        check_choice("loss_type", config["loss_type"], ("BPR", *LOSSES))
        check_choice("hidden_act", config["hidden_act"], ("gelu", "relu", "swish", "tanh", "sigmoid"))
        if config["loss_type"] == "BPR":
            check_negatives(config, "BPR")
            if config["shared_negatives"]:
                raise SettingError(f"shared_negatives is True, but the BPR loss takes each row's own; with {SAMPLED}")
        check_heads(config, "hidden_size")
        check_some_layers(config)
        check_positive(config, "tau")
        for name in ("eta", "gamma", "beta"):
            if config[name] > 1:
                raise SettingError(f"{name} is {config[name]}; it must be a number from 0 to 1")

    @property
    def item_weights(self) -> Tensor:
        """Return the embeddings of all items that can be scored, ``[n_items, d]``."""
        return self.item_embedding.weight[: self.n_items]

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Compute SASRec's states of the last items, ``[B, d]``; the top layer is computed only for these."""
        return encode_at(self.trm_encoder, self._embed(item_seq), self._attention_mask(item_seq), item_seq_len - 1)

    def _embed(self, item_seq: Tensor) -> Tensor:
        events = self.item_embedding(item_seq)
        if self.position_embedding is not None:
            events = events + self.position_embedding(torch.arange(item_seq.shape[1], device=item_seq.device))
        return self.dropout(self.LayerNorm(events))

    def _attention_mask(self, item_seq: Tensor) -> Tensor:
        """Return what is added to the logits of attention: RecBole's mask, and what distances add to it."""
        mask = self.get_attention_mask(item_seq)
        if self.distance_bias is None:
            return mask
        by_distance, unread = self.distance_bias(event_distances(item_seq.shape[1], item_seq.device))
        return mask + by_distance.masked_fill(unread.unsqueeze(1), -10000.0)

    def target_states(self, interaction: Interaction) -> Tensor:
        """Compute the states before the targets of windows, ``[n_targets, d]``."""
        sequences = interaction[self.ITEM_SEQ]
        states = self.trm_encoder(self._embed(sequences), self._attention_mask(sequences), False)[-1]
        return states_before_targets(states, interaction[SEEN_ITEMS], interaction)

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """Compute the loss of the next items and the weighted contrastive loss."""
        if TARGETS in interaction:
            rows, states = self._last_rows(interaction), self.target_states(interaction)
            is_target = interaction[TARGETS] > 0
            positives, negatives = interaction[TARGETS][is_target], interaction[self.NEG_ITEM_ID][is_target]
        else:
            rows = interaction[: len(interaction) // self.n_repeats]
            states = self.forward(rows[self.ITEM_SEQ], rows[self.ITEM_SEQ_LEN])
            positives = interaction[self.POS_ITEM_ID][: len(states)]
            negatives = None if self.loss_type == "CE" else interaction[self.NEG_ITEM_ID]
            if self.loss_type == "BPR":
                negatives = not_none(negatives).view(-1, len(states)).T
        loss = self.recommendation_loss(states, positives, negatives)
        if self.lambda_cl == 0:
            return (loss,)
        return loss, self.lambda_cl * self.contrast(rows)

    def _last_rows(self, interaction: Interaction) -> Interaction:
        """Return the row of each window's last target, without the target."""
        lengths = interaction[self.ITEM_SEQ_LEN]
        indices, is_real, kept = last_window(torch.zeros_like(lengths), lengths, self.max_seq_length)
        sequences = interaction[self.ITEM_SEQ].gather(1, indices) * is_real
        users = interaction[self.USER_ID]
        return Interaction({self.USER_ID: users, self.ITEM_SEQ: sequences, self.ITEM_SEQ_LEN: kept})

    def recommendation_loss(self, states: Tensor, positives: Tensor, negatives: Tensor | None) -> Tensor:
        """Compute the loss from states ``[n, d]``, next items ``[n]`` and negatives ``[n, n_neg]``; CE has none."""
        if self.loss_type == "CE":
            return F.cross_entropy(states @ self.item_weights.T, positives)
        candidates = torch.cat([positives.unsqueeze(1), not_none(negatives)], dim=1)
        if self.objective is not None:
            return self.objective.of_rows(states, candidates, self.item_weights)
        logits = dot_product(states, self.item_embedding(candidates))
        return BPRLoss()(logits[:, :1], logits[:, 1:])

    def contrast(self, rows: Interaction) -> Tensor:
        """Compute NT-Xent between the states of two views."""
        (first, first_lengths), (second, second_lengths) = self.augmentation(
            rows[self.ITEM_SEQ], rows[self.ITEM_SEQ_LEN]
        )
        states = self.forward(torch.cat([first, second]), torch.cat([first_lengths, second_lengths]))
        users = rows[self.USER_ID] if self.cl_dedup else None
        return nt_xent(*states.chunk(2), similarity=self.similarity, temperature=self.tau, groups=users)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Logits of all items, ``[B, n_items]``."""
        return self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]) @ self.item_weights.T
