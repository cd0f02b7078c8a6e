"""Digests of the files that codes, vectors and checkpoints were made from, so that stale ones are noticed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_gserec.errors import DataError
from recbole_gserec.files import sha256_of_known_file
from recbole_gserec.settings import dataset_files, dataset_path, vectors_read

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


def evaluates_searches(config: Mapping[str, Any]) -> bool:
    """Return whether searches are evaluated instead of interactions: ``eval_task`` is ``search``."""
    return config["eval_task"] == "search"


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


def check_fingerprint(made_from: Mapping[str, Any], now: Mapping[str, Any], path: str | Path, advice: str) -> None:
    """Refuse a derived file that was made from other data or another split.

    Args:
        made_from: The fingerprint stored with the derived file.
        now: The current fingerprint of the dataset.
        path: The derived file.
        advice: Advice on how to make it again.

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
            raise DataError(path, f"made from other data: the {what} '{different[0]}' has changed since", advice)


def file_record(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of each existing file of a dataset, by suffix.

    Codes are excluded: models store those they were trained with, and compare them.

    Args:
        config: RecBole's settings.
    """
    paths = dict(dataset_files(config))
    vectors = {suffix: dataset_path(config, suffix) for suffix in vectors_read(config)}
    record = {}
    for suffix, path in {**paths, **vectors}.items():
        if path.is_file():
            # A training saves many checkpoints, but its files are hashed only once.
            record[suffix] = sha256_of_known_file(path)
    return record


def check_file_record(record: Mapping[str, str], config: Mapping[str, Any], checkpoint: str | Path) -> None:
    """Refuse a dataset whose files are not those of the record.

    Args:
        record: What :func:`file_record` returned when the checkpoint was made.
        config: RecBole's settings, with the current path of the dataset.
        checkpoint: The checkpoint, for the message.

    Raises:
        DataError: With the first file that differs.
    """
    now = file_record(config)
    different = [suffix for suffix in {**record, **now} if record.get(suffix) != now.get(suffix)]
    if not different:
        return
    suffix = different[0]
    problem = f"not the file that {checkpoint} was trained on"
    if suffix not in now:
        problem = f"file not found, but {checkpoint} was trained on it"
    elif suffix not in record:
        problem = f"did not exist when {checkpoint} was trained"
    advice = "Restore the old files, or train again."
    if suffix in _OPTIONS:
        advice = (
            "To use new rows without training again, restore the old file and "
            f"pass the new rows in a separate file: {_OPTIONS[suffix]}. Or train again."
        )
    raise DataError(dataset_path(config, suffix), problem, advice)


_OPTIONS = {
    "inter": "gserec recommend --new-interactions FILE",
    "search": "gserec recommend --new-searches FILE",
    "query": "gserec recommend --new-searches FILE --new-queries FILE",
}
"""How to give new events to a trained model, by the file that they would otherwise be added to."""
