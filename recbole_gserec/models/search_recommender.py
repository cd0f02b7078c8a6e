"""What all models of this package share, and what those share that also learn to search."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self, TypeVar

import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_gserec.data import SEARCH, TARGETS, evaluates_searches, reads_windows, training_counts
from recbole_gserec.errors import SettingError
from recbole_gserec.layers import after, all_items_loss, dot_product
from recbole_gserec.models.objective import Objective
from recbole_gserec.settings import check_choice, registered_models

MAX_PAIRS = 1 << 16
"""Maximum number of (row, candidate) pairs scored at once outside of training; bounds the memory of evaluation."""

T = TypeVar("T")


def check_train_positions(config: Mapping[str, Any]) -> None:
    """Raise SettingError unless ``train_positions`` is ``last`` or ``all``, and ``last`` with windows."""
    check_choice("train_positions", config["train_positions"], ("last", "all"))
    if reads_windows(config) and config["train_positions"] == "all":
        raise SettingError(
            "train_positions is 'all', but with train_rows: users every position is a target of its own; leave one out"
        )


def states_before_targets(states: Tensor, counts: Tensor, interaction: Interaction) -> Tensor:
    """Select the state of the last event that each target of a batch of windows may see.

    Args:
        states: ``[B, N, d]``, a state for each event of a window.
        counts: ``[B, T]``, how many of the events each target may see.
        interaction: The batch.

    Returns:
        ``[n_targets, d]``, of real targets; 0 for those that see nothing.
    """
    windows, columns = (interaction[TARGETS] > 0).nonzero(as_tuple=True)
    return after(states, windows, counts[windows, columns])


class SearchRecommender(SequentialRecommender):
    """A model that encodes a row's histories once and scores any number of candidates against them.

    Subclasses implement :meth:`encode`, :meth:`score` and ``calculate_loss``.

    Attributes:
        objective (Objective): What the model is trained for, by :meth:`ranking_losses`.
        loss_names (tuple): Names of the terms that ``calculate_loss`` returned last, for the log; may be empty.
        epoch (int): Number of the current training epoch, from 0.
    """

    input_type = InputType.PAIRWISE
    loss_names: tuple[str, ...] = ()
    epoch = 0
    item_embedding: nn.Embedding

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        # In a dict, because a tensor attribute would be treated as state that training leaves behind.
        self._kept: dict[str, Any] = {}
        self.register_load_state_dict_post_hook(lambda module, _: module._kept.clear())
        self.objective = Objective(
            config, self.n_items, lambda: torch.from_numpy(training_counts(dataset.events, self.n_items))
        )
        if config["model"] not in registered_models() or type(self).calculate_loss.__module__.startswith(__package__):
            # Other packages' models may have losses of their own.
            self.objective.check(self.is_dot_product)

    def train(self, mode: bool = True) -> Self:
        self._kept.clear()
        return super().train(mode)

    @classmethod
    def reads_search_rows(cls, config: Mapping[str, Any]) -> bool:
        """Whether training batches contain rows of the search task: :class:`JointInteraction`."""
        return False

    @classmethod
    def ranks_searches(cls, config: Mapping[str, Any]) -> bool:
        """Whether the model learns to rank the items clicked in searches, so that ``eval_task`` can be ``search``."""
        return False

    @property
    def is_evaluated(self) -> bool:
        """Whether the weights cannot change: outside of training, without gradients."""
        return not self.training and not torch.is_grad_enabled()

    def cached(self, name: str, compute: Callable[[], T]) -> T:
        """Cache a value that depends only on the weights: in evaluation, compute it once after each change."""
        if not self.is_evaluated:
            return compute()
        if name not in self._kept:
            # Later calls may be outside of mixed precision.
            with torch.autocast(next(self.parameters()).device.type, enabled=False):
                self._kept[name] = compute()
        return self._kept[name]

    @staticmethod
    def require_files(config: Mapping[str, Any], *suffixes: str) -> None:
        """Raise SettingError unless the model's dataset loads these files."""
        loaded = config["additional_feat_suffix"] or []
        missing = [suffix for suffix in suffixes if suffix not in loaded]
        if missing:
            named = " and ".join(f"'{suffix}'" for suffix in missing)
            raise SettingError(f"additional_feat_suffix is {loaded}; {config['model']} also reads {named}")

    @staticmethod
    def search_mask(interaction: Interaction) -> Tensor:
        """Return True for the real searches in a batch's search histories, ``[B, S]``."""
        queries = interaction["search_query_id_list"]
        position = torch.arange(queries.shape[1], device=queries.device)
        return position < interaction["search_length"].unsqueeze(1)

    def encode(self, interaction: Interaction) -> Any:
        """Compute everything about the rows of a batch that does not depend on the candidates.

        From a batch of windows (:class:`Windows`), models with the setting ``train_rows`` compute the same for each
        target, as if it was a row; those of a window come one after the other.
        """
        raise NotImplementedError

    def score(self, state: Any, candidates: Tensor) -> Tensor:
        """Compute logits of candidates.

        Args:
            state: Result of :meth:`encode` for B rows.
            candidates: Item ids ``[B, C]``, or ``[1, C]`` when all rows share them.

        Returns:
            ``[B, C]``.
        """
        raise NotImplementedError

    def item_factors(self) -> tuple[Tensor, str] | None:
        """Return vectors ``[n_items, d]`` of all items whose dot products with :meth:`user_factors` are the scores.

        Returns:
            The vectors, and what they are; None for a model that scores in another way.
        """
        return None

    def user_factors(self, interaction: Interaction) -> Tensor:
        """Return vectors ``[B, d]`` of the rows of a batch; see :meth:`item_factors`."""
        return self.factors_of(self.encode(interaction))

    def factors_of(self, state: Any) -> Tensor:
        """Return vectors ``[B, d]`` of the states of :meth:`encode`, which are these vectors unless overridden."""
        return state

    @property
    def is_dot_product(self) -> bool:
        """Whether scores are dot products of users and items."""
        return type(self).item_factors is not SearchRecommender.item_factors

    # ---- the next-item head -------------------------------------------------------------------------------------

    def next_item_states(self, state: Any) -> Tensor:
        """Return the states of the last interactions ``[n, d]``, which the next-item head compares with items."""
        if self.is_dot_product:
            return self.factors_of(state)
        raise SettingError(f"lambda_next_item is above 0, but {type(self).__name__} has no next-item head")

    def next_item_vectors(self, state: Any) -> Tensor:
        """Return the vectors of all items ``[n_items, d]`` that the next-item head compares with states."""
        factors = self.item_factors()
        return self.item_embedding.weight if factors is None else factors[0]

    def next_item_candidates(self, state: Any, candidates: Tensor) -> Tensor:
        """Return the same for candidates ``[...]`` alone: ``[..., d]``."""
        return F.embedding(candidates, self.next_item_vectors(state))

    @property
    def adds_next_item(self) -> bool:
        """Whether the score of the next-item head is added; a score that is a dot product already is that score."""
        return self.objective.next_item > 0 and not self.is_dot_product

    def logits(self, state: Any, candidates: Tensor) -> Tensor:
        """Compute :meth:`score`, and add the score of the next-item head."""
        logits = self.score(state, candidates)
        if self.adds_next_item:
            items = self.next_item_candidates(state, candidates)
            logits = logits + dot_product(self.next_item_states(state), items)
        return logits

    # ---- evaluation ---------------------------------------------------------------------------------------------

    def scorer(self, interaction: Interaction) -> Callable[[Tensor], Tensor]:
        """Return what computes logits ``[B, C]`` of candidates ``[B, C]`` or ``[1, C]``, with the rows encoded once."""
        return partial(self.logits, self.encode(interaction))

    def score_candidates(self, interaction: Interaction, candidates: Tensor) -> Tensor:
        """Compute logits ``[B, C]`` of candidates ``[B, C]``, in bounded memory."""
        step = max(1, MAX_PAIRS // candidates.shape[1])
        # Written in place: small results allocated between large temporary ones would keep the allocator from reusing
        # their memory.
        scores = torch.empty(candidates.shape, device=candidates.device)
        for start in range(0, len(candidates), step):
            part = slice(start, start + step)
            scores[part] = self.scorer(interaction[part])(candidates[part])
        return scores

    def predict(self, interaction: Interaction) -> Tensor:
        """Compute logits ``[B]`` of each row's own item."""
        return self.score_candidates(interaction, interaction[self.ITEM_ID].unsqueeze(1)).squeeze(1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Compute logits of all items, ``[B, n_items]``, with bounded memory besides the result."""
        scorer = self.scorer(interaction)
        step = max(1, MAX_PAIRS // len(interaction))
        items = torch.arange(self.n_items, device=interaction[self.ITEM_ID].device).unsqueeze(0)
        scores = torch.empty(len(interaction), self.n_items, device=items.device)
        for start in range(0, self.n_items, step):
            scores[:, start : start + step] = scorer(items[:, start : start + step])
        return scores

    # ---- training -----------------------------------------------------------------------------------------------

    def training_candidates(self, interaction: Interaction) -> Tensor:
        """Return the positive and the negatives of each row, or of each target of windows: ``[n, 1 + n_negatives]``.

        With shared negatives, those that do not count for a row are 0.
        """
        negatives = interaction[self.NEG_ITEM_ID]
        if TARGETS not in interaction:
            return torch.cat([interaction[self.ITEM_ID].unsqueeze(1), negatives.view(len(interaction), -1)], dim=1)
        is_target = interaction[TARGETS] > 0
        return torch.cat([interaction[TARGETS][is_target].unsqueeze(1), negatives[is_target]], dim=1)

    def ranking_losses(self, state: Any, candidates: Tensor) -> dict[str, Tensor]:
        """Compute the loss of each positive among its candidates and that of the next-item head, by name.

        Args:
            state: Result of :meth:`encode`, with n rows.
            candidates: ``[n, C]`` item ids, the positive first.
        """
        return {"rec": self.candidate_loss(state, candidates), **self.next_item_losses(state, candidates[:, 0])}

    def next_item_losses(self, state: Any, positives: Tensor) -> dict[str, Tensor]:
        """Compute the loss of the next-item head by name, for positives ``[n]``; none if there is no such loss."""
        if self.objective.next_item <= 0:
            return {}
        states, items = self.next_item_states(state), self.next_item_vectors(state)
        return {"next_item": self.objective.next_item_loss(states, positives, items)}

    def candidate_loss(
        self, state: Any, candidates: Tensor, score: Callable[[Any, Tensor], Tensor] | None = None
    ) -> Tensor:
        """Compute the loss, by ``loss_type``, of the first of candidates ``[n, C]``.

        Args:
            state: Of the n rows.
            candidates: Item ids, the positive first.
            score: Computes logits as :meth:`score` does, for a task of its own; :meth:`logits` by default.
        """
        if len(candidates) == 0:
            return (score or self.logits)(state, candidates).sum()
        if self.objective.scores_all and (items := self.item_factors()) is not None:
            return all_items_loss(self.factors_of(state), candidates[:, 0], items[0])
        logits = self.objective.apart(partial(score or self.logits, state), candidates)
        return self.objective.loss(logits, candidates)


class JointRecommender(SearchRecommender):
    r"""Joint training: :math:`L = \lambda_{rec} L_{rec} + \lambda_{src} L_{src}`.

    Each batch of recommendation rows comes with a batch of search rows (:class:`JointInteraction`), which has the same
    fields and ``query_id``. A task with weight 0 is not computed. The setting ``eval_task`` says which task is
    evaluated.

    Subclasses implement :meth:`recommendation_losses`, :meth:`search_losses`, :meth:`encode_search` and, unless both
    tasks are scored alike, :meth:`score_search`.
    """

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        self.require_files(config, "search", "query")
        # Checkpoints of earlier versions and files of derived models do not have the first.
        self.lambda_rec = 1 if config["lambda_rec"] is None else config["lambda_rec"]
        self.lambda_src = config["lambda_src"]
        if self.lambda_rec == 0 and not evaluates_searches(config):
            raise SettingError("lambda_rec is 0, so recommendation is not learnt; it needs eval_task 'search'")
        self._search_terms: tuple[str, ...] = ()

    @classmethod
    def reads_search_rows(cls, config: Mapping[str, Any]) -> bool:
        return config["lambda_src"] > 0

    @classmethod
    def ranks_searches(cls, config: Mapping[str, Any]) -> bool:
        return cls.reads_search_rows(config)

    def encode_search(self, interaction: Interaction) -> Any:
        """Compute the state of search rows."""
        raise NotImplementedError

    def score_search(self, state: Any, candidates: Tensor) -> Tensor:
        """Compute logits of candidates, as :meth:`score` does, for the result of :meth:`encode_search`."""
        return self.score(state, candidates)

    def scorer(self, interaction: Interaction) -> Callable[[Tensor], Tensor]:
        """Score searches to evaluate by the search task."""
        if SEARCH in interaction:
            return partial(self.score_search, self.encode_search(interaction))
        return super().scorer(interaction)

    def recommendation_losses(self, interaction: Interaction) -> dict[str, Tensor]:
        """Compute the weighted terms of the recommendation task, by name."""
        raise NotImplementedError

    def search_losses(self, interaction: Interaction) -> dict[str, Tensor]:
        """Compute the terms of the search task, by name; all are multiplied by ``lambda_src``."""
        raise NotImplementedError

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        losses = dict(self.recommendation_losses(interaction)) if self.lambda_rec > 0 else {}
        if self.lambda_rec != 1:
            losses = {name: self.lambda_rec * loss for name, loss in losses.items()}
        search = getattr(interaction, "search", None)
        if self.lambda_src > 0 and search is not None:
            if len(search) > 0:
                searched = {f"src_{name}": self.lambda_src * loss for name, loss in self.search_losses(search).items()}
                self._search_terms = tuple(searched)
            else:
                # RecBole adds up the terms that all batches of an epoch have.
                searched = {name: torch.zeros((), device=self.device) for name in self._search_terms}
            losses |= searched
        if not losses:
            # A batch without search rows, of a model that learns nothing else.
            losses["src"] = torch.zeros((), device=self.device)
        if not any(loss.requires_grad for loss in losses.values()):
            name = next(iter(losses))
            losses[name] = losses[name] + 0 * sum(weights.sum() for weights in self.parameters())
        self.loss_names = tuple(losses)
        return tuple(losses.values())
