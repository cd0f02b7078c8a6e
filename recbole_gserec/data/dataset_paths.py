"""Where the files of a dataset lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SUFFIXES = ("inter", "search", "query", "item", "user", "kg", "link")
"""Of the files that a dataset is made of."""
VECTORS = ("user.vectors.parquet", "item.vectors.parquet")
"""Of those that the offline stage makes for models that read the vectors of texts."""


def dataset_path(config: Mapping[str, Any], suffix: str) -> Path:
    """Path of one of the files; codes may lie elsewhere.

    Args:
        config: RecBole's settings.
        suffix: What follows the dataset's name and a dot.
    """
    if suffix == "code" and "code_path" in config and config["code_path"]:
        return Path(config["code_path"])
    return Path(config["data_path"]) / f"{config['dataset']}.{suffix}"


def dataset_files(config: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Suffix and path of the files that there are; codes and vectors are not among them."""
    # Datasets may be split beforehand, into files such as D.train.inter.
    parts = [f"{part}.inter" for part in config["benchmark_filename"] or ()]
    for suffix in (*SUFFIXES, *parts):
        path = dataset_path(config, suffix)
        if path.is_file():
            yield suffix, path


def vectors_read(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Suffixes of the vectors that a model reads."""
    # Only models that read vectors have this setting, whatever its value.
    return () if config["preprocess_missing_vectors"] is None else VECTORS


def beside(prefix: Path, suffix: str) -> Path:
    """``prefix`` with ``suffix`` at its end; a dot in the dataset's name does no harm."""
    return prefix.with_name(prefix.name + suffix)
