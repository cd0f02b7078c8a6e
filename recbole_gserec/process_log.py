"""The log of a process that works unseen."""

from __future__ import annotations

import faulthandler
import os
from pathlib import Path


def write_to_log(path: Path) -> None:
    """Send all output of this process, that of libraries too, to the end of a file, which must be no link to another.

    Raises:
        OSError: If it cannot be written.
    """
    follow_no_link = getattr(os, "O_NOFOLLOW", 0)  # Windows has none.
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | follow_no_link, 0o666)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    faulthandler.enable()
