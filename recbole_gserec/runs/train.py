"""One run, trained and tested as RecBole's ``run_recbole`` would, and the files it leaves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from logging import getLogger
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.transform import construct_transform
from recbole.utils import get_flops, get_model, get_trainer, init_seed

from recbole_gserec.compute import keep_freed_memory
from recbole_gserec.errors import DataError, one_line
from recbole_gserec.evaluation import AllItemsEvalDataLoader, CandidateEvalDataLoader, has_full_ranking
from recbole_gserec.files import plain
from recbole_gserec.plugin import resumable
from recbole_gserec.runs.prepare import dataset_digest, derived_digests
from recbole_gserec.runs.record import (
    candidates_digest,
    code_digest,
    evaluation_mode,
    interactions_digest,
    new_record,
    peak_memory_bytes,
    provenance,
    write_ranks,
)
from recbole_gserec.runs.run_store import (
    ALL_ITEMS,
    CHECKPOINT_FILE,
    FINISHED,
    RANKS_FILE,
    SETTINGS_FILE,
    STATE_FILE,
    Run,
    Spec,
)
from recbole_gserec.settings import begin_run, make_config, without_login

if TYPE_CHECKING:
    from recbole.trainer import Trainer as _Trainer
else:
    _Trainer = object

_NOTED = ("train_seconds", "train_cpu_seconds", "train_losses", "valid_seconds", "valid_scores", "valid_epochs")


class TimedEpochs(_Trainer):
    """Mixin that comes before a RecBole trainer class and does not change its behaviour.

    Attributes:
        train_seconds: Epoch -> seconds of training. Models that train their parts in turn have several calls per epoch.
        train_cpu_seconds: Epoch -> CPU seconds of training, over all threads of this process. Other programs on the
            machine affect them less than the elapsed seconds.
        train_losses: Epoch -> the loss, or a list of its parts.
        valid_seconds: Seconds of each validation.
        valid_scores: Score of each validation.
        valid_epochs: The epoch before each validation.
        last_valid_result: The metrics of the last validation.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self.train_seconds: dict[int, float] = {}
        self.train_cpu_seconds: dict[int, float] = {}
        self.train_losses: dict[int, Any] = {}
        self.valid_seconds: list[float] = []
        self.valid_scores: list[float] = []
        self.valid_epochs: list[int] = []
        self.last_valid_result: Any = None
        super().__init__(*args, **kwargs)

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        start, cpu_start = perf_counter(), process_time()
        losses = super()._train_epoch(train_data, epoch_idx, *args, **kwargs)
        self.train_seconds[epoch_idx] = self.train_seconds.get(epoch_idx, 0.0) + perf_counter() - start
        cpu_seconds = process_time() - cpu_start
        self.train_cpu_seconds[epoch_idx] = self.train_cpu_seconds.get(epoch_idx, 0.0) + cpu_seconds
        self.train_losses[epoch_idx] = plain(losses)
        return losses

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> tuple[float, Any]:
        start = perf_counter()
        score, result = super()._valid_epoch(*args, **kwargs)
        self.valid_seconds.append(perf_counter() - start)
        self.valid_scores.append(float(score))
        self.valid_epochs.append(max(self.train_seconds, default=0))
        self.last_valid_result = result
        return score, result

    def extra_state(self) -> dict[str, Any]:
        """Return all attributes above, to resume training later; see :class:`ResumableTraining`."""
        return {name: getattr(self, name) for name in _NOTED}

    def restore_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`extra_state` returned."""
        for name in _NOTED:
            setattr(self, name, state[name])

    def seconds_before(self, n_epochs: int) -> float:
        """Return the seconds of the first epochs, including their validations."""
        trained = self.train_seconds.items()
        validated = zip(self.valid_epochs, self.valid_seconds, strict=True)
        return sum(seconds for part in (trained, validated) for epoch, seconds in part if epoch < n_epochs)

    def epoch_record(self) -> dict[str, Any]:
        """Return the ``epochs`` part of a run's record."""
        return {
            "trained": len(self.train_seconds),
            "best": self._best_epoch(),
            "seconds": list(self.train_seconds.values()),
            "cpu_seconds": list(self.train_cpu_seconds.values()),
            "validation_seconds": self.valid_seconds,
            "train_loss": list(self.train_losses.values()),
            "valid_score": self.valid_scores,
        }

    def _best_epoch(self) -> int:
        """Return the epoch whose weights were kept; RecBole keeps the last of equally good ones."""
        if not self.valid_scores:
            return max(self.train_seconds, default=0)
        best = (max if self.valid_metric_bigger else min)(self.valid_scores)
        return max(epoch for epoch, score in zip(self.valid_epochs, self.valid_scores, strict=True) if score == best)


def with_timing(trainer_class: type) -> type:
    """Return a trainer class with :class:`TimedEpochs` before it."""
    return type(f"Timed{trainer_class.__name__}", (TimedEpochs, trainer_class), {})


class TrainingSetup(NamedTuple):
    """Everything that training needs.

    Attributes:
        dataset: The whole dataset.
        train_data: Dataloader of the training part.
        valid_data: Dataloader of the validation part.
        test_data: Dataloader of the test part.
        model: The untrained model.
        flops: Number of floating-point operations, as RecBole counts them.
        trainer: Trainer of the model.
    """

    dataset: Any
    train_data: Any
    valid_data: Any
    test_data: Any
    model: Any
    flops: Any
    trainer: Any


def build_training(config: Config, make_dataset: Callable[[], Any], trainer_class: type) -> TrainingSetup:
    """Create everything in the order of ``recbole.quick_start.run_recbole``.

    This includes every step that draws random numbers. The process keeps the memory that training frees; see
    :func:`recbole_gserec.compute.processes.keep_freed_memory`.

    Args:
        config: RecBole's settings.
        make_dataset: Creates the dataset and leaves the same random states as ``create_dataset``.
        trainer_class: Class of the trainer.
    """
    keep_freed_memory()
    logger = getLogger()
    init_seed(config["seed"], config["reproducibility"])
    begin_run(config)
    logger.info(config)
    dataset = make_dataset()
    logger.info(dataset)
    loaders = data_preparation(config, dataset)
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    model = get_model(config["model"])(config, loaders[0]._dataset).to(config["device"])
    logger.info(model)
    # Needed even if nobody reads the number: counting makes the model predict, which may draw random numbers.
    flops = get_flops(model, dataset, config["device"], logger, construct_transform(config))
    train_data, valid_data, test_data = loaders
    return TrainingSetup(dataset, train_data, valid_data, test_data, model, flops, trainer_class(config, model))


def train(spec: Spec) -> dict[str, Any]:
    """Train and evaluate a model; leave its checkpoint and its ranks in the run's folder.

    Calls have the order of ``recbole.quick_start.run_recbole``, including every step that draws random numbers.

    Args:
        spec: The run.

    Returns:
        The content of its ``run.json``.

    Raises:
        DataError: If the dataset has changed since the run was planned.
    """
    # Record the loaded code, not the code as it may be after training.
    start, record = perf_counter(), new_record(spec.run, datetime.now(UTC))
    run, here = spec.run, {"data_path": str(spec.data_path), "checkpoint_dir": str(spec.folder), **spec.machine}
    config = make_config(run.model, run.dataset, {**run.requested, "seed": run.seed}, here, spec.folder / SETTINGS_FILE)
    check_dataset(run, config)
    trainer_class = with_timing(resumable(get_trainer(config["MODEL_TYPE"], config["model"])))
    setup = build_training(config, lambda: create_dataset(config), trainer_class)
    dataset, train_data, valid_data, test_data, model, flops, trainer = setup
    trainer.state_file, trainer.training_identity = spec.folder / STATE_FILE, training_identity(run, config)
    # RecBole's own file name contains the time in seconds, which two runs can share.
    trainer.saved_model_file = str(spec.folder / CHECKPOINT_FILE)
    _, valid_result = trainer.fit(train_data, valid_data, saved=True, show_progress=config["show_progress"])
    resumed_epochs = getattr(trainer, "resumed_epochs", 0)
    test_start = perf_counter()
    test_result = trainer.evaluate(test_data, load_best_model=True, show_progress=config["show_progress"])
    test_seconds = perf_counter() - test_start
    ranks = ranks_of_best_weights(trainer, valid_data, test_data)
    costs, all_items_start = device_and_memory(on_gpu=config["device"].type == "cuda"), perf_counter()
    if (among_all := ranks_among_all_items(config, trainer, test_data)) is not None:
        ranks[ALL_ITEMS] = among_all
    all_items_seconds = perf_counter() - all_items_start
    write_ranks(spec.folder / RANKS_FILE, ranks, dataset)
    getLogger().info(f"test result: {test_result}")
    return {
        **record,
        "status": FINISHED,
        "settings": plain(without_login(config.final_config_dict)),
        "epochs": trainer.epoch_record(),
        "test_seconds": test_seconds,
        "all_items": {"users": 0 if among_all is None else len(among_all), "seconds": all_items_seconds},
        "samples_per_epoch": len(train_data._dataset),
        "parameters": sum(weights.numel() for weights in model.parameters() if weights.requires_grad),
        "flops": plain(flops),
        **costs,
        "valid": plain(valid_result or {}),
        "test": plain(test_result or {}),
        "candidates": {
            "valid": candidates_digest(valid_data),
            "test": candidates_digest(test_data),
            "mode": evaluation_mode(config),
        },
        "interactions": interactions_digest([train_data, valid_data, test_data]),
        "resumed_epochs": resumed_epochs,
        "wall_seconds": perf_counter() - start - all_items_seconds + trainer.seconds_before(resumed_epochs),
    }


def training_identity(run: Run, config: Config) -> dict[str, Any]:
    """Return everything that a training depends on; if any of it changes, an interrupted training is not resumed."""
    record = provenance()
    threads = {"device": str(config["device"]), "threads": torch.get_num_threads()}
    model = {"model_code": code_digest(run.model)}
    return {"run": run.key, **model, **{name: record[name] for name in ("versions", "python", "git")}, **threads}


def check_dataset(run: Run, config: Config) -> None:
    """Refuse a dataset that changed since the run was planned, or that differs on this machine.

    Raises:
        DataError: With the dataset's folder.
    """
    if dataset_digest(config) != run.dataset_digest or derived_digests(config) != dict(run.derived):
        raise DataError(config["data_path"], "its files changed since the run was planned", "Start it again.")


def ranks_of_best_weights(trainer: Any, valid_data: Any, test_data: Any) -> dict[str, pd.DataFrame]:
    """Return the ranks of both parts, in internal ids.

    The trainer must have just evaluated the test part with its best weights.
    """
    ranks = {}
    if test_data:
        ranks["test"] = trainer.eval_collector.per_user_ranks()
    if valid_data:
        # Validate again, because the last validation used the last weights.
        trainer.evaluate(valid_data, load_best_model=False)
        ranks["valid"] = trainer.eval_collector.per_user_ranks()
    return ranks


MAX_SCORES_OF_ALL_ITEMS, FEWEST_USERS = 20_000_000, 100
"""Fewer than these users are not worth ranking among all items, and more scores take too long."""


def ranks_among_all_items(config: Config, trainer: Any, test_data: Any) -> pd.DataFrame | None:
    """Return the ranks of some users' test targets among all items, in internal ids; None if that is not asked for.

    It is not done either where targets are ranked among all items anyway or by RecBole's own draw of candidates, and
    where all items are too many. If it fails, the run has no such ranks. The trainer must have its best weights.
    """
    n_users = config["all_items_users"] or 0
    if n_users < 1 or not test_data or not isinstance(test_data, CandidateEvalDataLoader):
        return None
    n_items = test_data._dataset.item_num
    if (most := MAX_SCORES_OF_ALL_ITEMS // n_items) < min(n_users, FEWEST_USERS):
        getLogger().info(f"No targets are ranked among all {n_items:,} items, which would take long.")
        return None
    try:
        loader = AllItemsEvalDataLoader(config, test_data, min(n_users, most), has_full_ranking(trainer.model))
        trainer.evaluate(loader, load_best_model=False)
    except (RuntimeError, MemoryError) as error:
        getLogger().warning(f"Ranking targets among all items failed, and is left out: {one_line(error)}")
        return None
    return trainer.eval_collector.per_user_ranks()


def device_and_memory(on_gpu: bool) -> dict[str, Any]:
    """Return the device of this process and its peak memory."""
    return {
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "threads": torch.get_num_threads(),
    }
