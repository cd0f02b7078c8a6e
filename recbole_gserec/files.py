"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

# What the operating system says of a disk, a user's share of it, or a file that has no room for more.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it to ``path`` when the block succeeds.

    The temporary name keeps the suffix of ``path``, since some writers choose a format by it. When the block
    raises, the temporary file is removed and ``path`` is left as it was.

    Raises:
        OSError: If the file cannot be written, with its own name and not the temporary one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        with _named(path, NO_ROOM):
            yield temporary
        with _named(path):
            _share(temporary, 0o666)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_aside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` and rename it to ``path`` when the block succeeds.

    ``path`` must not exist yet, or be empty. If another process finishes the same folder first, its result is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        with _named(path, NO_ROOM):
            yield temporary
        try:
            with _named(path):
                _share(temporary, 0o777)
                os.replace(temporary, path)
        except OSError:
            if not (path.is_dir() and any(path.iterdir())):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _share(temporary: Path, rights: int) -> None:
    """Give what was made for the owner alone the rights that anything new has."""
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(rights & ~umask)


@contextmanager
def _named(path: Path, numbers: set[int] | None = None) -> Iterator[None]:
    """Let errors of the operating system, or those with such numbers, tell of this path."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (numbers is not None and error.errno not in numbers):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def is_plain_name(text: str) -> bool:
    """Whether a text names something that lies within a folder, and is no path to another place."""
    return text not in ("", "..") and Path(text).name == text


def sha256_of_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_known_file(path: str | Path) -> str:
    """The same, read once for as long as the file's size and time of change stay as they are."""
    state = os.stat(path)
    return _known_sha256(os.path.abspath(path), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _known_sha256(path: str, size: int, modified: int) -> str:
    return sha256_of_file(path)
