"""Codes beside those of a dataset, made with other settings from the same summaries and vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def other_codes(folder: Path, data_path: Path, dataset: str, deciding: Mapping[str, Any]) -> dict[str, str]:
    """The settings that say where such codes lie, and where what they share is kept.

    Args:
        folder: What they are made for; they lie in its folder ``codes``, those of each settings in a file of their own.
        data_path: Folder of all datasets; absolute.
        dataset: Name of the dataset.
        deciding: The settings that decide them, as JSON can hold them.
    """
    key = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:10]
    return {
        "code_path": str(folder / "codes" / f"{dataset}-{key}.code"),
        "preprocess_store": f"{data_path / dataset / dataset}.preprocess.sqlite3",
    }
