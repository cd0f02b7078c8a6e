"""Creates the built-in default dataset on first use."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_gserec.errors import DataError
from recbole_gserec.settings import DEFAULT_DATASET


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
    from dataset_converters.ml_100k import convert_ml_100k

    getLogger(__name__).info(f"Making the default dataset {name} in {path} from the MovieLens-100k inside RecBole.")
    convert_ml_100k(Path(path).parent, name)
    return True
