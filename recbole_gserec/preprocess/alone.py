"""One process at a time makes the files that the offline stage leaves beside a dataset."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)


@contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """Wait until no other process is in such a block for the same file; then look whether it is there by now.

    The lock is free when its process is gone, however that ended.

    Args:
        path: What is made: codes, or vectors, for which the codes' path stands too.
    """
    path = Path(path)
    file = path.with_name(f".{path.name}.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("Another process makes the files of %s; waiting for it", path)
        lock.acquire()
    try:
        yield
    finally:
        # Before it is released: those who wait look whether the file that they have opened is still there.
        file.unlink(missing_ok=True)
        lock.release()
