"""What torch keeps, with a checksum of all bytes; a full disk is told as such."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from recbole_gserec.checksums import CHANGED, PLACE, verify, written_with_checksum
from recbole_gserec.errors import DataError


def save(state: Any, path: str | Path) -> None:
    """``torch.save``, whole or not at all.

    The checksum is the comment of the zip archive that torch writes, at its very end.

    Raises:
        OSError: If there is no room for the file, or it cannot be written.
    """
    with written_with_checksum(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # torch's own writer goes on after a write that failed, and then wonders about positions in the file.
            reason = error.__context__
            if isinstance(reason, OSError):
                raise OSError(reason.errno, reason.strerror) from error
            raise
        # In the place of the last field of all: the length of the comment.
        file.seek(-2, os.SEEK_END)
        file.write(len(PLACE).to_bytes(2, "little") + PLACE)


def load(path: str | Path, remedy: str, *, mmap: bool = False) -> Any:
    """``torch.load`` onto the CPU, without running code, of a file that is as :func:`save` wrote it.

    Of a file without a checksum, as earlier versions and torch alone write it, each part is compared with the checksum
    that zip archives have of their parts, which torch does not look at; what lies between the parts is not covered.

    Args:
        path: The file.
        remedy: What to do about a damaged one.
        mmap: Read tensors when they are asked for.

    Raises:
        DataError: If the file is not what was written.
        OSError: If it cannot be read.
        Exception: Almost any, of torch, for a file without a checksum that is no file of torch's.
    """
    if not verify(path, remedy) and zipfile.is_zipfile(path):
        _check_parts(path, remedy)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _check_parts(path: str | Path, remedy: str) -> None:
    with open(path, "rb") as file:
        file.seek(-2, os.SEEK_END)
        # The length of a comment that torch does not write: what stands here is left of a checksum.
        if file.read() != b"\0\0":
            raise DataError(path, CHANGED, remedy)
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise DataError(path, f"damaged: '{damaged}' in it does not match its checksum", remedy)
