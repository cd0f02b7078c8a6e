"""Ensures that only one process at a time makes the offline stage's files of a dataset."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)


@contextmanager
def exclusive_lock(path: str | Path) -> Iterator[None]:
    """Wait until no other process is in such a block for the same file. Afterwards, check whether the file exists.

    The lock is released when its process ends, for whatever reason.

    Args:
        path: The file to make: codes or vectors. Vectors use the path of the codes too.
    """
    path = Path(path)
    file = path.with_name(f".{path.name}.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("Another process is making the files of %s; waiting for it", path)
        lock.acquire()
    try:
        yield
    finally:
        # Remove the file before releasing it: waiting processes check whether the file that they opened still exists.
        file.unlink(missing_ok=True)
        lock.release()
