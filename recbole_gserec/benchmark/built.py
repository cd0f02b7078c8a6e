"""Everything that training needs, created in RecBole's order."""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import Any, NamedTuple

from recbole.config import Config
from recbole.data import data_preparation
from recbole.data.transform import construct_transform
from recbole.utils import get_flops, get_model, init_seed

from recbole_gserec.freed_memory import keep_freed_memory
from recbole_gserec.run_checks import begin_run


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
    :func:`recbole_gserec.freed_memory.keep_freed_memory`.

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
