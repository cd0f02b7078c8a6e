"""Writing what torch keeps so that a full disk is told as such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recbole_gserec.files import written_aside


def save(state: Any, path: str | Path) -> None:
    """``torch.save``, whole or not at all.

    Raises:
        OSError: If there is no room for the file, or it cannot be written.
    """
    with written_aside(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # torch's own writer goes on after a write that failed, and then wonders about positions in the file.
            reason = error.__context__
            if isinstance(reason, OSError):
                raise OSError(reason.errno, reason.strerror) from error
            raise
