"""Safe reading of lines from untrusted files: a compressed file of 3 MB can contain a line of 3 GB."""

import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from recbole_gserec.errors import DataError

#: Maximum length of a line in bytes.
LONGEST_LINE = 16 << 20
_CHARACTERS_AT_ONCE = 16 << 20


def limit_line_length(stream: Any, path: Path) -> io.BufferedReader:
    """Wrap a byte stream so that lines longer than :data:`LONGEST_LINE` are an error.

    Reading such a line raises a DataError with its number, before the whole line is in memory.

    Args:
        stream: Stream of uncompressed bytes. Closing the result closes it.
        path: The file, for messages.
    """
    return io.BufferedReader(_LimitedLines(stream, path), io.DEFAULT_BUFFER_SIZE)


class _LimitedLines(io.RawIOBase):
    def __init__(self, stream: Any, path: Path):
        super().__init__()
        self._stream, self._path = stream, path
        self._line, self._length = 1, 0
        self._end, self._after_return = b"\r", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._stream.read(min(len(buffer), LONGEST_LINE))
        # Old text files end their lines with a carriage return only.
        if b"\n" in chunk:
            self._end = b"\n"
        end = self._end
        if self._after_return and chunk.startswith(b"\n"):
            self._line -= 1
        self._after_return = end == b"\r" and chunk.endswith(b"\r")
        first = chunk.find(end)
        if self._length + (len(chunk) if first < 0 else first) > LONGEST_LINE:
            problem = f"a line longer than {LONGEST_LINE >> 20} MiB"
            advice = "Give one record per line, and check that this is the right file."
            raise DataError(self._path, problem, advice, self._line)
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


def batched_lines(lines: Iterable[str], n_lines: int) -> Iterator[list[str]]:
    """Group consecutive lines into batches of ``n_lines``, or fewer if the lines are long."""
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
