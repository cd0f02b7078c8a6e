"""The files that a run reads, by their content: the dataset's, and those the offline stage made for a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from recbole_gserec.data.dataset_paths import dataset_files, dataset_path, vectors_read
from recbole_gserec.errors import DataError
from recbole_gserec.files import sha256_of_file


def dataset_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 over the sizes and the SHA-256 of a dataset's files: the same for all models.

    Codes and vectors are not among them, or making codes for one model would outdate the runs of all others.

    Args:
        config: RecBole's settings of a run on the dataset.

    Raises:
        DataError: If there are no interactions.
    """
    content = {suffix: [path.stat().st_size, sha256_of_file(path)] for suffix, path in dataset_files(config)}
    if not any(suffix.endswith("inter") for suffix in content):
        raise DataError(
            dataset_path(config, "inter"), "file not found", "Put the dataset there, or make it with gserec convert."
        )
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def derived_suffixes(config: Mapping[str, Any]) -> list[str]:
    """Suffixes of the files that the offline stage makes and the model reads."""
    codes = ["code"] if "code" in (config["additional_feat_suffix"] or ()) else []
    return [*codes, *vectors_read(config)]


def derived_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Name -> SHA-256 of the files that the offline stage made and the model reads, as far as they are there."""
    paths = [dataset_path(config, suffix) for suffix in derived_suffixes(config)]
    return {path.name: sha256_of_file(path) for path in paths if path.is_file()}


def missing_derived(config: Mapping[str, Any]) -> list[str]:
    """Suffixes of the files that the model reads and the offline stage has not made yet."""
    return [suffix for suffix in derived_suffixes(config) if not dataset_path(config, suffix).is_file()]
