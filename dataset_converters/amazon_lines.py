"""Reading of text files of any size, compressed or not, as batches of numbered lines."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from tqdm import tqdm

from dataset_converters.text_lines import limit_line_length
from recbole_gserec.errors import DataError

_BLOCK_BYTES = 8 << 20
_GZIP_MARK = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def batches_of_lines(path: Path) -> Iterator[pa.Table]:
    """Read a file with a progress bar. Gzip compression is detected from the content, not from the name.

    Yields:
        Tables of several thousand rows with the columns ``line`` (1-based number, int64), ``text`` (string, without
        the line end) and ``readable`` (bool, whether the line is UTF-8). Blank lines are left out.

    Raises:
        DataError: If the file cannot be read completely.
    """
    first = 1
    for block in _blocks_of_whole_lines(path):
        # The last line of a block has no line end.
        lines = block.removesuffix(b"\r").replace(b"\r\n", b"\n").split(b"\n")
        table = _numbered(lines, first)
        first += len(lines)
        has_text = [bool(line) and not line.isspace() for line in lines]
        yield table if all(has_text) else table.filter(pa.array(has_text))


def first_line(path: Path) -> str:
    """The first line that is not blank; the empty string if all are."""
    for table in batches_of_lines(path):
        if len(table):
            return table["text"][0].as_py()
    return ""


def _numbered(lines: list[bytes], first: int) -> pa.Table:
    raw = pa.array(lines, pa.binary())
    try:
        text, readable = raw.cast(pa.string()), pa.repeat(True, len(lines))
    except pa.ArrowInvalid:
        decoded = [line.decode("utf-8", "replace") for line in lines]
        readable = pa.array([text.encode() == line for text, line in zip(decoded, lines, strict=True)])
        text = pa.array(decoded, pa.string())
    numbers = pa.array(range(first, first + len(lines)), pa.int64())
    return pa.table({"line": numbers, "text": text, "readable": readable})


def _blocks_of_whole_lines(path: Path) -> Iterator[bytes]:
    """Yield blocks of a few megabytes that end with a whole line, without its line end."""
    rest = b""
    for chunk in _chunks(path):
        whole, end, tail = chunk.rpartition(b"\n")
        if end:
            yield rest + whole
            rest = tail
        else:
            rest += chunk
    if rest:
        yield rest


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as raw, _bar(path) as bar:
        compressed = raw.peek(len(_GZIP_MARK)).startswith(_GZIP_MARK)
        opened = limit_line_length(gzip.GzipFile(fileobj=raw) if compressed else raw, path)
        at_start = True
        while chunk := _next_chunk(opened, path):
            bar.update(raw.tell() - bar.n)
            yield chunk.removeprefix(_BYTE_ORDER_MARK) if at_start else chunk
            at_start = False


def _next_chunk(opened: BinaryIO, path: Path) -> bytes:
    try:
        return opened.read(_BLOCK_BYTES)
    except EOFError:
        raise DataError(path, "the compressed file is incomplete", "Download it again.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(path, f"the compressed file is damaged ({error})", "Download it again.") from None


def _bar(path: Path) -> tqdm:
    return tqdm(
        total=path.stat().st_size,
        desc=f"Reading {path.name}",
        unit="B",
        unit_scale=True,
        leave=False,
        disable=not sys.stderr.isatty(),
    )
