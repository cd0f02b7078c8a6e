"""A temporary folder that goes when its work ends, or when the next work begins if its process was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: what a killed process left stays.
    fcntl = None  # type: ignore[assignment]  # mypy has no word for a module that may be missing

_PREFIX = ".converting-"
_LOCK = "in-use"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in ``parent``.

    The folder is locked while it is used, and the system frees the lock of a process that dies: folders without a
    lock are nobody's and are removed first. Where the file system has no locks, none is removed.

    Args:
        parent: Is made if it is missing, and removed again if it is empty in the end.

    Raises:
        OSError: If it cannot be written.
    """
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    try:
        _remove_abandoned(parent)
        folder, lock = _make_locked(parent)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)
    finally:
        # Stops at the first that holds anything, such as the result.
        with suppress(OSError):
            for path in missing:
                path.rmdir()


def _make_locked(parent: Path) -> tuple[Path, int | None]:
    """Make a folder; returns the open lock too."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=_PREFIX))
        if fcntl is None:
            return folder, None
        with suppress(FileNotFoundError):
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT)
            # Between the two lines another process may have taken the new folder for an abandoned one.
            if _acquire(lock) is not False and (folder / _LOCK).exists():
                return folder, lock
            os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    if fcntl is None:
        return
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = os.open(folder / _LOCK, os.O_RDWR)
            try:
                if _acquire(lock):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _acquire(lock: int) -> bool | None:
    """Whether the lock was free; none if the file system has no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
