"""The built-in default dataset, made the first time it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

import torch

from recbole_gserec.settings import DEFAULT_DATASET


def make_default_dataset(name: str, path: str, config: Mapping[str, Any]) -> bool:
    """Make the default dataset if that is the one asked for.

    Args:
        name: Name of the dataset that has no folder.
        path: The folder it should have.
        config: RecBole's settings; in distributed training one process makes it and the others wait.

    Returns:
        Whether the dataset is there now.
    """
    if name != DEFAULT_DATASET:
        return False
    distributed = not config["single_spec"]
    if not distributed or config["local_rank"] == 0:
        from dataset_converters.ml_100k import convert_ml_100k

        getLogger().info(f"Making the default dataset {name} in {path} from the MovieLens-100k inside RecBole.")
        convert_ml_100k(Path(path).parent, name)
    if distributed:
        torch.distributed.barrier()
    return True
