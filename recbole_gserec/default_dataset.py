"""The built-in default dataset, made the first time it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_gserec.errors import DataError
from recbole_gserec.settings import DEFAULT_DATASET


def make_default_dataset(name: str, path: str, config: Mapping[str, Any]) -> bool:
    """Make the default dataset if that is the one asked for.

    Args:
        name: Name of the dataset that has no folder.
        path: The folder it should have.
        config: RecBole's settings.

    Returns:
        Whether the dataset is there now.

    Raises:
        DataError: In distributed training, whose processes would each make it.
    """
    if name != DEFAULT_DATASET:
        return False
    if not config["single_spec"]:
        raise DataError(path, "no such dataset", f"Make it first: gserec convert ml-100k --output {Path(path).parent}")
    from dataset_converters.ml_100k import convert_ml_100k

    getLogger(__name__).info(f"Making the default dataset {name} in {path} from the MovieLens-100k inside RecBole.")
    convert_ml_100k(Path(path).parent, name)
    return True
