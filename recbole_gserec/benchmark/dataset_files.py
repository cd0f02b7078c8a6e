"""Checksums of the files that a run reads: those of the dataset, and those that the offline stage made for a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from recbole_gserec.data.dataset_paths import dataset_files, dataset_path, vectors_read
from recbole_gserec.errors import DataError
from recbole_gserec.files import sha256_of_file


def dataset_digest(config: Mapping[str, Any]) -> str:
    """Compute the SHA-256 over the sizes and checksums of a dataset's files. It is the same for all models.

    Codes and vectors are excluded. Otherwise, new codes for one model would make the runs of all other models obsolete.

    Args:
        config: RecBole's settings of a run on the dataset.

    Raises:
        DataError: If the interactions are missing.
    """
    content = {suffix: [path.stat().st_size, sha256_of_file(path)] for suffix, path in dataset_files(config)}
    if not any(suffix.endswith("inter") for suffix in content):
        raise DataError(
            dataset_path(config, "inter"), "file not found", "Put the dataset there, or make it with gserec convert."
        )
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def derived_suffixes(config: Mapping[str, Any]) -> list[str]:
    """Return the suffixes of the files that the offline stage makes and the model reads."""
    codes = ["code"] if "code" in (config["additional_feat_suffix"] or ()) else []
    return [*codes, *vectors_read(config)]


def derived_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Map the name of each existing file that the offline stage made and the model reads to its SHA-256."""
    paths = [dataset_path(config, suffix) for suffix in derived_suffixes(config)]
    return {path.name: sha256_of_file(path) for path in paths if path.is_file()}


def missing_derived(config: Mapping[str, Any]) -> list[str]:
    """Return the suffixes of the files that the model reads and the offline stage has not made yet."""
    return [suffix for suffix in derived_suffixes(config) if not dataset_path(config, suffix).is_file()]
