"""What a report requires of a ``run.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recbole_gserec.benchmark.ranks_file import REMEDY
from recbole_gserec.benchmark.runs import FAILED, FINISHED, FORMAT
from recbole_gserec.errors import DataError
from recbole_gserec.json_files import read_json

_NUMBER = (int, float)
_LONGEST = 1e9  # Seconds.
_ALWAYS = {
    "dataset": str,
    "dataset_digest": str,
    "model": str,
    "seed": int,
    "given": dict,
    "status": str,
    "started": str,
}
_WHEN_FINISHED = {
    "settings": dict,
    "epochs": dict,
    "wall_seconds": _NUMBER,
    "samples_per_epoch": int,
    "parameters": int,
    "peak_memory_bytes": int,
    "device": str,
    "threads": int,
    "test": dict,
    "candidates": dict,
    "versions": dict,
    "machine": dict,
}


def read_record(path: Path) -> dict[str, Any]:
    """Read a ``run.json``.

    Raises:
        DataError: If it is damaged, has another format, or lacks a field that a report needs.
    """
    record = read_json(path, REMEDY)
    if record.get("format") != FORMAT:
        raise DataError(
            path,
            f"is of format {record.get('format')!r}, and this version reads format {FORMAT}",
            "Use the version of recbole-gserec that wrote it, or run the benchmark again",
        )
    _check_fields(path, record, _ALWAYS)
    if record["status"] not in (FINISHED, FAILED):
        raise DataError(path, f"has the status {record['status']!r}", REMEDY)
    if record["status"] == FINISHED:
        _check_fields(path, record, _WHEN_FINISHED)
        _check_epochs(path, record["epochs"])
        if not 0 <= record["wall_seconds"] < _LONGEST:
            raise DataError(path, f"wall_seconds is {record['wall_seconds']!r}", REMEDY)
    try:
        started_at(record)
    except ValueError as error:
        raise DataError(path, f"'started' is {record['started']!r}, which is not a time", REMEDY) from error
    return record


def _check_fields(path: Path, record: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    for name, kind in fields.items():
        value = record.get(name)
        if isinstance(value, bool) or not isinstance(value, kind):
            raise DataError(path, f"{name} is {value!r}" if name in record else f"has no {name}", REMEDY)


def _check_epochs(path: Path, epochs: Mapping[str, Any]) -> None:
    best = epochs.get("best")
    if type(best) is not int or best < 0:
        raise DataError(path, f"the best epoch is {best!r}", REMEDY)
    for name in ("seconds", "cpu_seconds"):
        seconds = epochs.get(name)
        if not isinstance(seconds, list) or not all(
            isinstance(each, _NUMBER) and math.isfinite(each) for each in seconds
        ):
            raise DataError(path, f"the {name} in its epochs are not numbers", REMEDY)


def started_at(record: Mapping[str, Any]) -> datetime:
    """Return when a run started; a time without a zone is UTC."""
    started = datetime.fromisoformat(record["started"])
    return started if started.tzinfo else started.replace(tzinfo=UTC)
