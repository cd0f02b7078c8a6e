"""The files that a model was trained on, so that a checkpoint is not used with others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_gserec.data.dataset_paths import dataset_files, dataset_path, vectors_read
from recbole_gserec.errors import DataError
from recbole_gserec.files import sha256_of_known_file


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
        problem = f"file not found, and {checkpoint} was trained on it"
    elif suffix not in record:
        problem = f"not there when {checkpoint} was trained"
    remedy = "Restore the files of that time, or train again."
    if suffix in _OPTIONS:
        remedy = (
            "To use new rows without training again, restore the file of that time and "
            f"pass the new rows in a file of their own, {_OPTIONS[suffix]}. Or train again."
        )
    raise DataError(dataset_path(config, suffix), problem, remedy)


_OPTIONS = {
    "inter": "gserec recommend --new-interactions FILE",
    "search": "gserec recommend --new-searches FILE",
    "query": "gserec recommend --new-searches FILE --new-queries FILE",
}
"""How to give new events to a trained model, by the file that they would otherwise be added to."""
