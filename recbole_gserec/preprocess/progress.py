"""Progress of the offline stage: a bar in a terminal, a few lines in a file."""

import io
import sys
from typing import Any

from tqdm import tqdm

_LINES = 10


class _ProgressLines(tqdm):
    """Writes a line each time that another tenth of the work is done."""

    def __init__(self, **options: Any):
        # What tqdm writes itself, such as the end of its line, is not for the reader.
        super().__init__(file=io.StringIO(), mininterval=0, miniters=1, ncols=100, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        tenth = self.n * _LINES // self.total if self.total else 0
        if tenth > getattr(self, "_tenth", 0):
            self._tenth = tenth
            print(self, file=sys.stderr, flush=True)


def progress_bar(show: bool, **options: Any) -> tqdm:
    """Create a progress bar; with output to a file or a pipe, at most ten lines.

    Args:
        show: Whether anything is shown.
        options: Of ``tqdm``, with ``total``.
    """
    if not show or sys.stderr.isatty():
        return tqdm(disable=not show, **options)
    return _ProgressLines(**options)
