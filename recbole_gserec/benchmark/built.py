"""Everything that a training needs, made in RecBole's order."""

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


class Built(NamedTuple):
    """What a training needs.

    Attributes:
        dataset: All of the dataset.
        train_data: Its dataloader of the training part.
        valid_data: Of the validation part.
        test_data: Of the test part.
        model: Untrained.
        flops: As RecBole counts them.
        trainer: Of the model.
    """

    dataset: Any
    train_data: Any
    valid_data: Any
    test_data: Any
    model: Any
    flops: Any
    trainer: Any


def build(config: Config, make_dataset: Callable[[], Any], trainer_class: type) -> Built:
    """Make them as ``recbole.quick_start.run_recbole`` does, with all that draws random numbers on the way.

    The process keeps the memory that the training frees: :func:`recbole_gserec.freed_memory.keep_freed_memory`.

    Args:
        config: RecBole's settings.
        make_dataset: Makes the dataset, and leaves the random states that ``create_dataset`` would.
        trainer_class: Of the trainer.
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
    # Not only to be told: it lets the model predict, which may draw random numbers.
    flops = get_flops(model, dataset, config["device"], logger, construct_transform(config))
    train_data, valid_data, test_data = loaders
    return Built(dataset, train_data, valid_data, test_data, model, flops, trainer_class(config, model))
