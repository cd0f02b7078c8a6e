"""The sources of a derived file, to detect when it is outdated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_gserec.errors import DataError
from recbole_gserec.files import sha256_of_known_file

FILES = ("inter", "search", "query", "item")
_FORMAT = ("field_separator", "seq_separator", "encoding")
SETTINGS = (
    "USER_ID_FIELD",
    "ITEM_ID_FIELD",
    "TIME_FIELD",
    "rm_dup_inter",
    "val_interval",
    "filter_inter_by_user_or_item",
    "user_inter_num_interval",
    "item_inter_num_interval",
    "unordered_timestamps",
    "short_users",
    *_FORMAT,
)
SPLIT_PARTS = ("split", "order", "group_by")
"""Parts of ``eval_args`` that the training part depends on."""


def dataset_fingerprint(dataset_path: str | Path, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return hashes of the dataset's files, and the settings that its training part depends on.

    Args:
        dataset_path: The dataset's folder.
        name: The dataset's name.
        config: RecBole's settings.
    """
    files = {suffix: Path(dataset_path) / f"{name}.{suffix}" for suffix in FILES}
    settings = {setting: config[setting] for setting in SETTINGS}
    settings["eval_args"] = {part: config["eval_args"][part] for part in SPLIT_PARTS}
    return {
        "files": {suffix: sha256_of_known_file(path) for suffix, path in files.items() if path.is_file()},
        "settings": json.loads(json.dumps(settings, default=str)),
    }


def check_fingerprint(made_from: Mapping[str, Any], now: Mapping[str, Any], path: str | Path, remedy: str) -> None:
    """Refuse a derived file that was made from other data or another split.

    Args:
        made_from: The fingerprint stored with the derived file.
        now: The current fingerprint of the dataset.
        path: The derived file.
        remedy: Advice on how to make it again.

    Raises:
        DataError: With the file or the setting that differs, because the derived file could contain data hidden from
            models.
    """
    for part, what in (("files", "file"), ("settings", "setting")):
        old, new = made_from.get(part, {}), now[part]
        # The first records do not say how the files were read.
        recorded = [key for key in {**old, **new} if key in old or key not in _FORMAT]
        different = [key for key in recorded if old.get(key) != new.get(key)]
        if different:
            raise DataError(path, f"made from other data: the {what} '{different[0]}' has changed since", remedy)
