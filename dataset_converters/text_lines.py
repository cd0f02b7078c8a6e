"""Lines of texts that may be hostile: a compressed file of 3 MB can hold a line of 3 GB."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from recbole_gserec.errors import DataError

#: Bytes of the longest line that is read.
LONGEST_LINE = 16 << 20
_CHARACTERS_AT_ONCE = 16 << 20


def bounded(stream: Any, path: Path) -> io.BufferedReader:
    """The bytes of a stream, until a line is longer than :data:`LONGEST_LINE`.

    Reading raises a DataError, with the line, before more than that line's beginning is in memory.

    Args:
        stream: Bytes that are not compressed any more; it is closed with the result.
        path: The file, for messages.
    """
    return io.BufferedReader(_Bounded(stream, path), io.DEFAULT_BUFFER_SIZE)


class _Bounded(io.RawIOBase):
    def __init__(self, stream: Any, path: Path):
        super().__init__()
        self._stream, self._path = stream, path
        self._line, self._length = 1, 0
        self._end, self._after_return = b"\r", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._stream.read(min(len(buffer), LONGEST_LINE))
        # Old texts end their lines by a carriage return alone.
        if b"\n" in chunk:
            self._end = b"\n"
        end = self._end
        if self._after_return and chunk.startswith(b"\n"):
            self._line -= 1
        self._after_return = end == b"\r" and chunk.endswith(b"\r")
        first = chunk.find(end)
        if self._length + (len(chunk) if first < 0 else first) > LONGEST_LINE:
            problem = f"a line longer than {LONGEST_LINE >> 20} MiB"
            remedy = "Give one record a line, and check that the file is what it should be."
            raise DataError(self._path, problem, remedy, self._line)
        if first < 0:
            self._length += len(chunk)
        else:
            self._line += chunk.count(end)
            self._length = len(chunk) - chunk.rfind(end) - 1
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def batches_of(lines: Iterable[str], n_lines: int) -> Iterator[list[str]]:
    """Lines that follow each other, so many at once, or fewer where they are long."""
    lines = iter(lines)
    while True:
        batch, size = [], 0
        for line in itertools.islice(lines, n_lines):
            batch.append(line)
            size += len(line)
            if size > _CHARACTERS_AT_ONCE:
                break
        if not batch:
            return
        yield batch
