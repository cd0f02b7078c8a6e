"""The files that a run reads, by their content: the dataset's, and those the offline stage made for a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_gserec.errors import DataError
from recbole_gserec.files import sha256_of_file

SUFFIXES = ("inter", "search", "query", "item", "user", "kg", "link")
VECTORS = ("user.vectors.parquet", "item.vectors.parquet")


def dataset_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 over the sizes and the SHA-256 of a dataset's files: the same for all models.

    Codes and vectors are not among them, or making codes for one model would outdate the runs of all others.

    Args:
        config: RecBole's settings of a run on the dataset.

    Raises:
        DataError: If there are no interactions.
    """
    # Datasets may be split beforehand, into files such as D.train.inter.
    parts = [f"{part}.inter" for part in config["benchmark_filename"] or ()]
    paths = {suffix: _path(config, suffix) for suffix in (*SUFFIXES, *parts)}
    content = {suffix: [path.stat().st_size, sha256_of_file(path)] for suffix, path in paths.items() if path.is_file()}
    if not any(suffix.endswith("inter") for suffix in content):
        raise DataError(paths["inter"], "file not found", "Put the dataset there, or make it with gserec convert.")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def derived_suffixes(config: Mapping[str, Any]) -> list[str]:
    """Suffixes of the files that the offline stage makes and the model reads."""
    codes = ["code"] if "code" in (config["additional_feat_suffix"] or ()) else []
    # Only models that read vectors have this setting, whatever its value.
    vectors = [] if config["preprocess_missing_vectors"] is None else VECTORS
    return [*codes, *vectors]


def derived_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Name -> SHA-256 of the files that the offline stage made and the model reads, as far as they are there."""
    paths = [_path(config, suffix) for suffix in derived_suffixes(config)]
    return {path.name: sha256_of_file(path) for path in paths if path.is_file()}


def missing_derived(config: Mapping[str, Any]) -> list[str]:
    """Suffixes of the files that the model reads and the offline stage has not made yet."""
    return [suffix for suffix in derived_suffixes(config) if not _path(config, suffix).is_file()]


def _path(config: Mapping[str, Any], suffix: str) -> Path:
    if suffix == "code" and "code_path" in config and config["code_path"]:
        return Path(config["code_path"])
    return Path(config["data_path"]) / f"{config['dataset']}.{suffix}"
