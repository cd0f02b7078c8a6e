"""torch files with a checksum of all bytes, and a clear error for a full disk."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from recbole_gserec.checksums import CHANGED, PLACE, verify, written_with_checksum
from recbole_gserec.errors import DataError


def save(state: Any, path: str | Path) -> None:
    """Save as ``torch.save``, but atomically.

    The checksum is the comment of the zip archive that torch writes, at the very end.

    Raises:
        OSError: If there is no room for the file, or it cannot be written.
    """
    with written_with_checksum(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # torch's own writer continues after a failed write, and then reports wrong positions in the file.
            reason = error.__context__
            if isinstance(reason, OSError):
                raise OSError(reason.errno, reason.strerror) from error
            raise
        # Overwrites the last field of the archive, which is the length of the comment.
        file.seek(-2, os.SEEK_END)
        file.write(len(PLACE).to_bytes(2, "little") + PLACE)


def load(path: str | Path, remedy: str, *, mmap: bool = False) -> Any:
    """Load onto the CPU as ``torch.load``, without running code, if the file is unchanged since :func:`save`.

    Without a checksum, as in files of earlier versions and of torch alone, each part is compared with its own checksum
    in the zip archive, which torch ignores. Bytes between the parts are not covered.

    Args:
        path: The file.
        remedy: Advice on what to do about a damaged file.
        mmap: Read tensors on access.

    Raises:
        DataError: If the file has changed since it was written.
        OSError: If it cannot be read.
        Exception: Almost any error of torch, for a file without a checksum that torch did not write.
    """
    if not verify(path, remedy) and zipfile.is_zipfile(path):
        _check_parts(path, remedy)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _check_parts(path: str | Path, remedy: str) -> None:
    with open(path, "rb") as file:
        file.seek(-2, os.SEEK_END)
        # The length of a comment, which torch never writes: a nonzero value is the remainder of a checksum.
        if file.read() != b"\0\0":
            raise DataError(path, CHANGED, remedy)
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise DataError(path, f"damaged: '{damaged}' in it does not match its checksum", remedy)
