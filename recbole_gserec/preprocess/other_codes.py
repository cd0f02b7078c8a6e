"""Further codes of a dataset, made with other settings from the same summaries and vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def other_codes(folder: Path, data_path: Path, dataset: str, deciding: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings for the paths of such codes, and of the store that they share.

    Args:
        folder: Folder of what uses them; each set of settings has its own file in the folder ``codes``.
        data_path: Absolute path of the parent folder of all datasets.
        dataset: Name of the dataset.
        deciding: The settings that affect the codes, as JSON values.
    """
    key = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:10]
    return {
        "code_path": str(folder / "codes" / f"{dataset}-{key}.code"),
        "preprocess_store": f"{data_path / dataset / dataset}.preprocess.sqlite3",
    }
