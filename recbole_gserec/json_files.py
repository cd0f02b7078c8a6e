"""Converts values to JSON, and writes JSON files atomically with a checksum of their values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from recbole_gserec.checksums import CHANGED
from recbole_gserec.errors import DataError
from recbole_gserec.files import written_aside

_CHECKSUM = "checksum"


def plain(value: Any) -> Any:
    """Convert a value to JSON types; unsupported values become text."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write values with their checksum to a temporary file, then rename it.

    Raises:
        OSError: If it cannot be written.
    """
    text = json.dumps(
        {**content, _CHECKSUM: _checksum_of(json.loads(json.dumps(content)))}, indent=1, ensure_ascii=False
    )
    with written_aside(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a file of :func:`write_json`, or one without a checksum, from an earlier version or made by hand.

    Args:
        path: The file.
        remedy: Advice on what to do about a file that cannot be used.

    Raises:
        FileNotFoundError: If the file is missing.
        DataError: If it cannot be read, is not a JSON object, or its values have changed since it was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", remedy) from error
    except (ValueError, RecursionError) as error:
        raise DataError(path, "damaged: truncated, or not JSON", remedy) from error
    if not isinstance(content, dict):
        raise DataError(path, "damaged: not a JSON object", remedy)
    if _CHECKSUM in content:
        if content.pop(_CHECKSUM) != _checksum_of(content):
            raise DataError(path, CHANGED, remedy)
    elif content:
        # If the key of the checksum itself is damaged, its value still identifies it.
        *others, (_, last) = content.items()
        if last == _checksum_of(dict(others)):
            raise DataError(path, CHANGED, remedy)
    return content


def _checksum_of(content: dict[str, Any]) -> str:
    """Compute the checksum of values as JSON returns them, independent of the layout: copies may change line ends."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
