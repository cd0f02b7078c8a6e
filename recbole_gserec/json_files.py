"""JSON: values as it can hold them, and files of it, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from recbole_gserec.files import written_aside


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


def write_json(path: Path, content: Any) -> None:
    """Write a value aside, then rename the file.

    Raises:
        OSError: If it cannot be written.
    """
    with written_aside(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
