"""Chooses the dataloader with which a model is trained and evaluated."""

from __future__ import annotations

from collections.abc import Callable

from recbole.config import Config
from recbole.utils import EvaluatorType, ModelType

from recbole_gserec.data.train_dataloaders import JointTrainDataLoader, SearchTrainDataLoader
from recbole_gserec.evaluation.dataloaders import (
    BoundedFullSortEvalDataLoader,
    CandidateEvalDataLoader,
    SearchCandidateEvalDataLoader,
)


def choose_dataloader(config: Config, phase: str, stock: Callable, is_ours: bool) -> type:
    """Return the dataloader class for a phase.

    Args:
        config: RecBole's settings.
        phase: ``train``, ``valid`` or ``test``.
        stock: RecBole's own choice, ``get_dataloader``.
        is_ours: Whether the model belongs to this package.
    """
    if phase == "train":
        if not is_ours:
            return stock(config, phase)
        return JointTrainDataLoader if config.model_class.reads_search_rows(config) else SearchTrainDataLoader
    mode = config["eval_args"]["mode"]["valid" if phase == "valid" else "test"]
    ranks = config["eval_type"] == EvaluatorType.RANKING and config["MODEL_TYPE"] != ModelType.DECISIONTREE
    # On a dataset without searches, keep RecBole's evaluation, which ranks several targets of a user together.
    shares_lists = "eval_candidate_seed" in config or "LS" in (config["eval_args"]["split"] or {})
    if ranks and shares_lists and mode[:3] in ("uni", "pop"):
        return SearchCandidateEvalDataLoader if is_ours else CandidateEvalDataLoader
    if is_ours and mode == "full":
        return BoundedFullSortEvalDataLoader
    return stock(config, phase)
