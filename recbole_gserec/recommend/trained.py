"""A trained model from its checkpoint, with the dataset it was trained on and all events of it."""

import os
import re
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import Dataset
from recbole.data.utils import create_samplers, get_dataloader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.sampler import KGSampler
from recbole.utils import ModelType, get_model, get_trainer, init_seed

from recbole_gserec.data import Columns, SearchDataset, check_file_record, no_searches
from recbole_gserec.errors import CheckpointError, DataError, SettingError
from recbole_gserec.evaluation import PHASES
from recbole_gserec.plugin import check_model_of, load_other_parameter, read_checkpoint
from recbole_gserec.settings import MODELS


@dataclass(frozen=True)
class RawEvents:
    """Events in the order of the files, as expected by :func:`build_event_log`.

    Attributes:
        interactions: Users, items and times, ``[n_interactions]`` each; times are 0 if the dataset has none.
        searches: Users, queries and times, ``[n_searches]`` each; empty for RecBole's own datasets.
        clicks: Clicked items ``[n_clicks]``, and where the clicks of each search begin, ``[n_searches + 1]``.
        table: All columns of the interactions, as RecBole loads them; None for search-aware datasets.
    """

    interactions: Columns
    searches: Columns
    clicks: Columns
    table: pd.DataFrame | None = None


def raw_events(dataset: Dataset) -> RawEvents:
    """Return the events of a dataset that has been read and filtered, but not built."""
    if isinstance(dataset, SearchDataset):
        return RawEvents(*dataset.events_as_read())
    table = dataset.inter_feat
    users, items = (table[field].to_numpy().astype(np.int64) for field in (dataset.uid_field, dataset.iid_field))
    times = table[dataset.time_field].to_numpy() if dataset.time_field in table else np.zeros(len(table))
    return RawEvents((users, items, times), *no_searches(), table)


logger = getLogger(__name__)

_MISFIT = re.compile(r"(size mismatch for|Missing key\(s\) in state_dict:|Unexpected key\(s\) in state_dict:) ?(.*)")


@dataclass(frozen=True)
class Trained:
    """A trained model with its dataset.

    Attributes:
        checkpoint: File of the checkpoint.
        config: RecBole's settings of the training.
        dataset: The whole dataset, built; its ids are those of the model.
        raw: All events of the dataset, from every part of the split.
        model: The model, in evaluation mode.
    """

    checkpoint: Path
    config: Config
    dataset: Dataset
    raw: RawEvents
    model: AbstractRecommender

    @property
    def is_ours(self) -> bool:
        """Whether this is one of this package's search-aware models, which read searches and score candidates."""
        return self.config["model"] in MODELS


def load_trained(checkpoint: str | Path, data_path: str | Path | None = None) -> Trained:
    """Load a model and its dataset.

    Args:
        checkpoint: A checkpoint of any model of this package or of RecBole, written by this package.
        data_path: Parent folder of all datasets; by default that of the training.

    Raises:
        CheckpointError: If the file is not a complete checkpoint, or does not fit the dataset.
        DataError: If the dataset is missing or has changed since the training.
        SettingError: If the model cannot make recommendations.
    """
    checkpoint = Path(checkpoint)
    state, config, dataset = _read(checkpoint, data_path)
    if config["lambda_rec"] == 0:
        raise SettingError(f"{checkpoint} has learnt to rank searches alone (lambda_rec: 0): it cannot recommend")
    # Must precede building the dataset, which converts interactions into rows to predict and drops the times of
    # searches.
    raw = raw_events(dataset)
    model = _model(checkpoint, state, _training_part(config, dataset))
    return Trained(checkpoint, config, dataset, raw, model)


@dataclass(frozen=True)
class Evaluation:
    """A trained model with the data on which it was validated and tested.

    Attributes:
        checkpoint: File of the checkpoint.
        config: RecBole's settings of the training.
        dataset: The dataset; its ids are those of the model.
        training: Dataloader of the training part, of which some metrics need facts.
        parts: Dataloaders of the parts ``valid`` and ``test``; a part without targets is left out.
        trainer: Trainer of the model, which evaluates it. It leaves no files.
    """

    checkpoint: Path
    config: Config
    dataset: Dataset
    training: Any
    parts: dict[str, Any]
    trainer: Any


def load_evaluation(checkpoint: str | Path, data_path: str | Path | None = None) -> Evaluation:
    """Load a model with the rows and candidates of its validation and test.

    Arguments and errors are those of :func:`load_trained`.
    """
    checkpoint = Path(checkpoint)
    state, config, dataset = _read(checkpoint, data_path)
    training, *others = data_preparation(config, dataset)
    model = _model(checkpoint, state, training._dataset)
    config["log_wandb"] = False
    with TemporaryDirectory() as scratch, chdir(scratch):
        # RecBole's trainers make folders for checkpoints and TensorBoard.
        config["checkpoint_dir"] = scratch
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        trainer.tensorboard.close()
    parts = {name: part for name, part in zip(PHASES, others, strict=True) if part}
    return Evaluation(checkpoint, config, dataset, training, parts, trainer)


def _read(checkpoint: Path, data_path: str | Path | None) -> tuple[dict[str, Any], Config, Dataset]:
    """Return the content of a checkpoint, its settings, and the dataset, read and filtered but not built."""
    state = read_checkpoint(checkpoint)
    config = state["config"]
    _check_model(config, checkpoint)
    _find_dataset(config, data_path, checkpoint)
    # The training may have had several processes.
    config.final_config_dict.update({"single_spec": True, "world_size": 1, "local_rank": 0})
    init_seed(config["seed"], config["reproducibility"])
    return state, config, create_dataset(config)


def _model(checkpoint: Path, state: dict[str, Any], training: Dataset) -> AbstractRecommender:
    """Build the model for its training part, with the weights of the checkpoint, in evaluation mode."""
    config = state["config"]
    init_seed(config["seed"] + (config["local_rank"] or 0), config["reproducibility"])
    model = get_model(config["model"])(config, training).to(config["device"])
    _load_weights(model, state, checkpoint, config)
    return model.eval()


def _check_model(config: Any, checkpoint: Path) -> None:
    if not isinstance(config, Config):
        raise CheckpointError(f"{checkpoint}: its 'config' has no settings. Train again with recbole-gserec imported")
    check_model_of(config, checkpoint)
    if config["MODEL_TYPE"] == ModelType.DECISIONTREE:
        raise SettingError(f"{checkpoint} is of {config['model']}: decision trees are not supported here")
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and config["benchmark_filename"]:
        # Rows of such files contain their histories, but not how a history continues.
        raise SettingError(
            f"{checkpoint} was trained on interactions that were split into files beforehand (benchmark_filename); "
            "these do not contain the current histories that sequential models need"
        )


def _find_dataset(config: Config, data_path: str | Path | None, checkpoint: Path) -> None:
    """Point the settings to the dataset, so that nothing is made or stored."""
    name = config["dataset"]
    if data_path is not None:
        config["data_path"] = os.path.join(data_path, name)
    folder = Path(config["data_path"]).absolute()
    if not folder.is_dir():
        raise DataError(
            folder, f"no such dataset; {checkpoint} was trained on it", "Set its parent folder with --data-path."
        )
    made_for = ("save_dataset", "save_dataloaders", "preprocess_missing_codes", "preprocess_missing_vectors")
    # New codes and vectors would differ from those of the training. Models without this setting read none.
    config.final_config_dict.update({setting: False for setting in made_for if config[setting] is not None})
    record = config.dataset_files
    if isinstance(record, Mapping):
        check_file_record(record, config, checkpoint)
    else:
        logger.warning(
            f"{checkpoint} comes from an earlier version and does not record its training files: "
            "only their ids are known to match."
        )


def _training_part(config: Config, dataset: Dataset) -> Dataset:
    """Return the training part as RecBole's ``data_preparation`` passes it to a model."""
    parts = dataset.build()
    training = parts[0]
    if config["model"] in MODELS:
        return training
    # A dataloader adds fields to its dataset, which models use as features.
    sampler = create_samplers(config, dataset, parts)[0]
    arguments = [config, training, sampler]
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
        negatives = config["train_neg_sample_args"]
        arguments.append(KGSampler(dataset, negatives["distribution"], negatives["alpha"]))
    return get_dataloader(config, "train")(*arguments, shuffle=False)._dataset


def _load_weights(model: AbstractRecommender, state: dict[str, Any], checkpoint: Path, config: Config) -> None:
    try:
        model.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        misfit = _MISFIT.search(" ".join(str(error).split()))
        what = f" ({misfit[0][:100]}…)" if misfit else ""
        raise CheckpointError(
            f"{checkpoint}: does not fit the dataset in {config['data_path']}{what}: it was trained on other data. "
            "Set the folder of that data with --data-path, or train again"
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
    load_other_parameter(model, state.get("other_parameter"), config["device"])
    for name in getattr(model, "other_parameter_name", None) or ():
        if name.startswith("restore_"):
            # These are propagated vectors cached for evaluation; the model recomputes them from its weights.
            setattr(model, name, None)
