"""Checksums in the files written by this package, which are verified when such a file is read.

A changed bit can produce another valid number, which neither torch nor Parquet's reader would notice. A binary file
contains the SHA-256 of its own bytes, in a text field of its format. It thus stays a single file, and other readers of
the format still accept it. JSON files contain the checksum of their values; see :mod:`json_files`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from recbole_gserec.errors import DataError
from recbole_gserec.files import written_aside

CHANGED = "damaged: its checksum does not match"

_MARK = b"recbole-gserec sha256:"
_DIGITS = 64
_EMPTY = b"0" * _DIGITS
PLACE = _MARK + _EMPTY
"""Placeholder that a writer puts near the end of the file, where the checksum will be."""
PARQUET_METADATA = {b"recbole_gserec.sha256": PLACE}
"""For the schema of a Parquet file."""

_TAIL = 1 << 20
_BLOCK = 1 << 20


@contextmanager
def written_with_checksum(path: str | Path) -> Iterator[Path]:
    """Write as :func:`files.written_aside`, then replace the block's :data:`PLACE` by the checksum.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If the block did not write a placeholder.
    """
    with written_aside(path) as temporary:
        yield temporary
        with open(temporary, "r+b") as file:
            start, digits = _find(file)
            if digits != _EMPTY:
                raise ValueError(f"{path} was written without a place for its checksum")
            checksum = _checksum(file, start)
            file.seek(start)
            file.write(checksum)


def verify(path: str | Path, remedy: str) -> bool:
    """Compare a file with its checksum before anything reads it.

    Args:
        path: The file.
        remedy: Advice on what to do about a damaged file.

    Returns:
        Whether it has a checksum; files of earlier versions and other programs have none.

    Raises:
        DataError: If the file has changed since it was written.
        OSError: If it cannot be read.
    """
    with open(path, "rb") as file:
        start, digits = _find(file)
        if digits is None:
            return False
        if digits != _checksum(file, start):
            raise DataError(path, CHANGED, remedy)
    return True


def _find(file: BinaryIO) -> tuple[int, bytes | None]:
    """Return the position and the digits of the checksum; None in a file without one."""
    size = file.seek(0, os.SEEK_END)
    before = max(0, size - _TAIL)
    file.seek(before)
    tail = file.read()
    mark = tail.rfind(_MARK)
    if mark < 0:
        return size, None
    start = mark + len(_MARK)
    return before + start, tail[start : start + _DIGITS]


def _checksum(file: BinaryIO, start: int) -> bytes:
    """Compute the checksum over all bytes except the digits from ``start`` on."""
    digest = hashlib.sha256()
    file.seek(0)
    while start > file.tell() and (block := file.read(min(_BLOCK, start - file.tell()))):
        digest.update(block)
    digest.update(_EMPTY)
    file.seek(start + _DIGITS)
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest().encode()
