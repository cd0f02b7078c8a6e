"""Hooks into how RecBole reads and evaluates data, each with its reason."""

from collections.abc import Callable, Mapping
from logging import getLogger
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import recbole.data.utils
import recbole.trainer.trainer
from recbole.config import Config
from recbole.data.dataset import Dataset, KnowledgeBasedDataset
from recbole.trainer import Trainer
from recbole.utils import EvaluatorType, ModelType

from dataset_converters import convert_ml_100k
from recbole_gserec.data import (
    ItemTrainDataLoader,
    ItemWindowTrainDataLoader,
    JointTrainDataLoader,
    SearchDataset,
    SearchTrainDataLoader,
    WindowTrainDataLoader,
    align_features,
    check_files,
    check_interactions,
    check_policies,
    load_feature_file,
    reads_windows,
    remove_repeated,
    sort_interactions,
    split_off_short_users,
)
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.evaluation import (
    BoundedFullSortEvalDataLoader,
    CandidateBatch,
    CandidateEvalDataLoader,
    PlainEvaluator,
    SearchCandidateEvalDataLoader,
    TieAwareCollector,
    score_batch,
)
from recbole_gserec.models import SAMPLED, is_of_recbole, warn_of_no_head
from recbole_gserec.settings import DEFAULT_DATASET, MODELS, has_searches, no_such_dataset


def add_dataset_downloads() -> None:
    """Make the default dataset when RecBole would download a missing dataset."""
    download_stock = Dataset._download

    def _download(self: Any) -> None:
        if make_default_dataset(self.dataset_name, self.dataset_path, self.config):
            return
        try:
            download_stock(self)
        except ValueError as error:
            raise no_such_dataset(Path(self.dataset_path).absolute()) from error

    Dataset._download = _download


def check_search_data() -> None:
    """Read, check, sort and split search-extended data in the same way for every model, whatever files it loads.

    RecBole's reader silently accepts missing and unordered times, empty ids, and users with too few events to split. It
    misreads some texts as quoted or as missing values. It drops interactions whose user, item or entity has no row in a
    file that only some models load. The dataset class of our models makes the same checks while it reads.
    """
    stock = SimpleNamespace(
        load_data=Dataset._load_data,
        load_feat=Dataset._load_feat,
        load_inter=Dataset._load_inter_feat,
        remove_duplication=Dataset._remove_duplication,
        filter_by_number=Dataset._filter_by_inter_num,
        illegal_ids=Dataset._get_illegal_ids_by_inter_num,
        filter_link=KnowledgeBasedDataset._filter_link,
        split=Dataset._split_index_by_leave_one_out,
    )

    def is_extended(dataset: Any) -> bool:
        # Settings of a time when the dataset had no searches do not say what to refuse.
        return "short_users" in dataset.config and has_searches(dataset.dataset_path, dataset.dataset_name)

    def is_checked_here(dataset: Any) -> bool:
        return not isinstance(dataset, SearchDataset) and is_extended(dataset)

    def _load_data(self: Any, token: str, dataset_path: str) -> None:
        stock.load_data(self, token, dataset_path)
        if is_extended(self):
            align_features(self)

    def _load_feat(self: Any, filepath: str, source: Any) -> Any:
        return (load_feature_file if is_checked_here(self) else stock.load_feat)(self, filepath, source)

    def _load_inter_feat(self: Any, token: str, dataset_path: str) -> None:
        if not is_checked_here(self):
            stock.load_inter(self, token, dataset_path)
            return
        check_policies(self.config)
        stock.load_inter(self, token, dataset_path)
        check_files(self)
        sort_interactions(self)

    def _remove_duplication(self: Any) -> None:
        (remove_repeated if is_extended(self) else stock.remove_duplication)(self)

    def _get_illegal_ids_by_inter_num(
        self: Any, field: str, feat: Any, inter_num: Any, inter_interval: Any = None
    ) -> set[Any]:
        # With a file of users or items, RecBole holds only the first of several intervals against them.
        return stock.illegal_ids(self, field, None if is_extended(self) else feat, inter_num, inter_interval)

    def _filter_by_inter_num(self: Any) -> None:
        stock.filter_by_number(self)
        if is_checked_here(self):
            check_interactions(self)
        if is_extended(self):
            # The last of the filters; items and users may have lost all their interactions.
            align_features(self)

    def _filter_link(self: Any) -> None:
        kept = self.inter_feat.copy() if is_extended(self) else None
        stock.filter_link(self)
        if kept is not None:
            # An item without an entity is one that the graph says nothing of.
            self.inter_feat = kept

    def _split_index_by_leave_one_out(self: Any, grouped_index: Any, leave_one_num: int) -> Any:
        trained_on: list[Any] = []
        groups = grouped_index
        if is_checked_here(self) and leave_one_num == 2:
            trained_on, groups = split_off_short_users(self, groups)
        parts = stock.split(self, groups, leave_one_num)
        parts[0].extend(trained_on)
        return parts

    KnowledgeBasedDataset._filter_link = _filter_link
    for hook in (
        _load_data,
        _load_feat,
        _load_inter_feat,
        _remove_duplication,
        _get_illegal_ids_by_inter_num,
        _filter_by_inter_num,
        _split_index_by_leave_one_out,
    ):
        setattr(Dataset, hook.__name__, hook)


def replace_evaluation() -> None:
    """Evaluate on candidates that are drawn once, with one scoring pass per target and ties against the target.

    RecBole draws new candidates in every pass, including the user's own items. It encodes a history once per candidate
    and breaks ties at random.
    """
    get_stock = recbole.data.utils.get_dataloader

    def get_dataloader(config: Any, phase: str) -> type:
        return choose_dataloader(config, phase, get_stock, is_ours=config["model"] in MODELS)

    # `data_preparation` looks the name up in its module; `recbole.data` holds a second reference to it.
    recbole.data.utils.get_dataloader = get_dataloader
    recbole.data.get_dataloader = get_dataloader
    recbole.trainer.trainer.Collector = TieAwareCollector
    # Not the ranks but their record: NumPy 2 shows its numbers by the name of their type.
    recbole.trainer.trainer.Evaluator = PlainEvaluator
    evaluate_stock = Trainer._neg_sample_batch_eval

    def _neg_sample_batch_eval(self: Any, batched_data: Any) -> Any:
        if isinstance(batched_data, CandidateBatch):
            return score_batch(self.model, batched_data, self.device, self.test_batch_size)
        return evaluate_stock(self, batched_data)

    Trainer._neg_sample_batch_eval = _neg_sample_batch_eval


def choose_dataloader(config: Config, phase: str, stock: Callable, is_ours: bool) -> type:
    """Return the dataloader class for a phase.

    Args:
        config: RecBole's settings.
        phase: ``train``, ``valid`` or ``test``.
        stock: RecBole's own choice, ``get_dataloader``.
        is_ours: Whether the model belongs to this package.
    """
    if phase == "train":
        has_objective = not is_ours and is_of_recbole(config.model_class)
        takes_negatives = has_objective and config["loss_type"] in SAMPLED
        if has_objective and not takes_negatives:
            warn_of_no_head(config)
        if reads_windows(config):
            if is_ours and config.model_class.reads_search_rows(config):
                raise SettingError("train_rows is 'users'; it must be 'targets' for a model that also learns to search")
            return WindowTrainDataLoader if is_ours else ItemWindowTrainDataLoader
        if not is_ours:
            return ItemTrainDataLoader if takes_negatives else stock(config, phase)
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


def make_default_dataset(name: str, path: str, config: Mapping[str, Any]) -> bool:
    """Create the default dataset if it is requested.

    Args:
        name: Name of the requested dataset, which has no folder.
        path: The folder that it should have.
        config: RecBole's settings.

    Returns:
        Whether the dataset exists now.

    Raises:
        DataError: In distributed training, because each process would create it.
    """
    if name != DEFAULT_DATASET:
        return False
    if not config["single_spec"]:
        raise DataError(path, "no such dataset", f"Make it first: gserec convert ml-100k --output {Path(path).parent}")

    getLogger(__name__).info(f"Making the default dataset {name} in {path} from the MovieLens-100k inside RecBole.")
    convert_ml_100k(Path(path).parent, name)
    return True
