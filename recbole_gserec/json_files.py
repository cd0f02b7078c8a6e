"""JSON: values as it can hold them, and files of it, whole or not at all, with a checksum of their values."""

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
    """A value as JSON can hold it; what it cannot is told as text."""
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
    """Write values aside, with their checksum behind them, then rename the file.

    Raises:
        OSError: If it cannot be written.
    """
    text = json.dumps(
        {**content, _CHECKSUM: _checksum_of(json.loads(json.dumps(content)))}, indent=1, ensure_ascii=False
    )
    with written_aside(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read what :func:`write_json` wrote; files without a checksum, of earlier versions or made by hand, too.

    Args:
        path: The file.
        remedy: What to do about one that cannot be used.

    Raises:
        FileNotFoundError: If there is none.
        DataError: If it cannot be read, is no JSON with names and values, or these are not those that were written.
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
        # Where its very name has changed, it is known by what it says.
        *others, (_, last) = content.items()
        if last == _checksum_of(dict(others)):
            raise DataError(path, CHANGED, remedy)
    return content


def _checksum_of(content: dict[str, Any]) -> str:
    """Of values as JSON gives them back, however the file is laid out: line ends change in copies between systems."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
