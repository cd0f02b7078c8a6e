"""The log of a background process."""

from __future__ import annotations

import faulthandler
import os
from pathlib import Path


def write_to_log(path: Path) -> None:
    """Append all output of this process, including that of libraries, to a file that is not a link.

    Raises:
        OSError: If it cannot be written.
    """
    follow_no_link = getattr(os, "O_NOFOLLOW", 0)  # Not available on Windows.
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | follow_no_link, 0o666)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    faulthandler.enable()
