"""Identifies a model, to record it and to distinguish stored results of different models."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from recbole_gserec.files import sha256_of_file


def model_identity(name: str) -> dict[str, Any]:
    """Describe a model by its name on a hub, or by the content of its folder wherever that is.

    The revision of a model on a hub is unknown before the download. Name a folder if the revision matters.

    Args:
        name: A folder, or a name on a hub.
    """
    folder = Path(name)
    if not folder.is_dir():
        return {"model": name}
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_hidden(path, folder))
    content = hashlib.sha256()
    for path in files:
        state = path.stat()
        # Hash whole files: fine-tuned weights may differ only in the middle of a file.
        digest = _hash_of(path, state.st_size, state.st_mtime_ns)
        content.update(f"{path.relative_to(folder).as_posix()}\0{digest}\0".encode())
    return {"content": content.hexdigest()}


@cache
def _hash_of(path: Path, size: int, changed: int) -> str:
    return sha256_of_file(path)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
