"""What a model is, for the record and for telling stored results of different models apart."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

_EDGE = 1 << 20


def model_identity(name: str) -> dict[str, Any]:
    """Describe a model by its name on a hub, or by the content of its folder wherever that lies.

    Of large files the length, the first and the last mebibyte are looked at: weights that differ do so there, and whole
    files of many gigabytes would take minutes.

    Args:
        name: A folder, or a name on a hub.
    """
    folder = Path(name)
    if not folder.is_dir():
        return {"model": name}
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder)):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        with open(path, "rb") as file:
            digest.update(file.read(_EDGE))
            if size > _EDGE:
                file.seek(max(size - _EDGE, _EDGE))
                digest.update(file.read(_EDGE))
    return {"content": digest.hexdigest()}


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
