"""Files that this package writes and reads back: JSON and tensors, each with a checksum of its content.

A flipped bit can be a valid number, and neither torch nor Parquet's reader would notice it. So every file of ours
carries a SHA-256, which is verified whenever the file is read.

"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from recbole_gserec.errors import DataError
from recbole_gserec.files.writing import written_aside

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
                raise ValueError(f"{path} was written without space for its checksum")
            checksum = _checksum(file, start)
            file.seek(start)
            file.write(checksum)


def verify(path: str | Path, advice: str) -> bool:
    """Compare a file with its checksum before anything reads it.

    Args:
        path: The file.
        advice: Advice on what to do about a damaged file.

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
            raise DataError(path, CHANGED, advice)
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


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """Read a file of :func:`write_json`, or one without a checksum, from an earlier version or made by hand.

    Args:
        path: The file.
        advice: Advice on what to do about a file that cannot be used.

    Raises:
        FileNotFoundError: If the file is missing.
        DataError: If it cannot be read, is not a JSON object, or its values have changed since it was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", advice) from error
    except (ValueError, RecursionError) as error:
        raise DataError(path, "damaged: truncated, or not JSON", advice) from error
    if not isinstance(content, dict):
        raise DataError(path, "damaged: not a JSON object", advice)
    if _CHECKSUM in content:
        if content.pop(_CHECKSUM) != _checksum_of(content):
            raise DataError(path, CHANGED, advice)
    elif content:
        # If the key of the checksum itself is damaged, its value still identifies it.
        *others, (_, last) = content.items()
        if last == _checksum_of(dict(others)):
            raise DataError(path, CHANGED, advice)
    return content


def _checksum_of(content: dict[str, Any]) -> str:
    """Compute the checksum of values as JSON returns them, independent of the layout: copies may change line ends."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def save_tensors(state: Any, path: str | Path) -> None:
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


def load_tensors(path: str | Path, advice: str, *, mmap: bool = False) -> Any:
    """Load onto the CPU as ``torch.load``, without running code, if the file is unchanged since :func:`save`.

    Without a checksum, as in files of earlier versions and of torch alone, each part is compared with its own checksum
    in the zip archive, which torch ignores. Bytes between the parts are not covered.

    Args:
        path: The file.
        advice: Advice on what to do about a damaged file.
        mmap: Read tensors on access.

    Raises:
        DataError: If the file has changed since it was written.
        OSError: If it cannot be read.
        Exception: Almost any error of torch, for a file without a checksum that torch did not write.
    """
    if not verify(path, advice) and zipfile.is_zipfile(path):
        _check_parts(path, advice)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _check_parts(path: str | Path, advice: str) -> None:
    with open(path, "rb") as file:
        file.seek(-2, os.SEEK_END)
        # The length of a comment, which torch never writes: a nonzero value is the remainder of a checksum.
        if file.read() != b"\0\0":
            raise DataError(path, CHANGED, advice)
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise DataError(path, f"damaged: '{damaged}' in it does not match its checksum", advice)
