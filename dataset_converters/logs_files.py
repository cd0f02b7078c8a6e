"""Which files hold the logs, how they are stored, and reading them as text."""

from __future__ import annotations

import codecs
import glob
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import pyarrow as pa

from dataset_converters.text_lines import bounded
from recbole_gserec.errors import DataError, SettingError

FORMATS = {
    "csv": (".csv", ".tsv", ".tab", ".txt"),
    "json": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet", ".pq"),
}
COMPRESSIONS = (".gz", ".zst")
_SUFFIXES = {suffix: kind for kind, suffixes in FORMATS.items() for suffix in suffixes}
_START = 4096
# White space and byte order marks, as they look in Latin 1.
_NOTHING = "\r\n\t \0\xef\xbb\xbf\xff\xfe"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _mark(error: UnicodeError) -> tuple[str, int]:
    """What a byte that the encoding does not know becomes."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    # Half of a surrogate pair, which no text holds: the row is found later.
    return "\udcff", error.end


codecs.register_error("gserec-mark", _mark)


@dataclass(frozen=True)
class LogFile:
    """One file of a log.

    Args:
        path: Where it is.
        name: Under which rows of it are told of: its name, or its place in the folder of parts.
        kind: ``csv``, ``json`` or ``parquet``.
    """

    path: Path
    name: str
    kind: str


def find(given: str | Path) -> list[LogFile]:
    """The files behind a path: one file, all logs in a folder, or those that match a pattern such as ``part-*.csv``.

    Raises:
        DataError: If there is none, or one of them is in no known format.
    """
    path = Path(given)
    if path.is_file():
        return [_log_file(path, path.name)]
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if _is_log(file.relative_to(path)) and file.is_file())
        parent = path
    else:
        found = sorted(file for file in map(Path, glob.glob(str(given), recursive=True)) if file.is_file())
        parent = Path(*_fixed_part(path))
    if not found:
        raise DataError(path, "file not found", f"Give a file, folder or pattern of {_told_suffixes()} files.")
    return [_log_file(file, file.relative_to(parent).as_posix()) for file in found]


def find_in_folder(folder: Path, stem: str) -> Path | None:
    """The file or folder of parts named ``stem`` in a folder, whatever its suffix; none if there is none.

    Raises:
        SettingError: If there are several.
    """
    found = [path for path in sorted(folder.iterdir()) if path.name.split(".")[0] == stem] if folder.is_dir() else []
    found = [path for path in found if path.is_dir() or _is_log(Path(path.name))]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SettingError(f"{folder} holds several files of {stem}: {names}. Name one: --{stem} FILE.")
    return found[0] if found else None


def is_empty(file: LogFile) -> bool:
    """Whether a file holds nothing, also once it is uncompressed."""
    if not file.path.stat().st_size:
        return True
    if file.kind == "parquet":
        return False
    with opened(file, "latin-1") as (text, _):
        return not text.read(_START).strip(_NOTHING) and not text.read(1)


@contextmanager
def opened(file: LogFile, encoding: str) -> Iterator[tuple[TextIO, BinaryIO]]:
    r"""Yield a file's text, lines ending as they do, and the bytes that it comes from, whose position tells how far.

    Bytes that the encoding does not know become ``\udcff``.

    Raises:
        DataError: If the file is compressed and damaged or cut short, or stored in another encoding.
        SettingError: If there is no such encoding.
    """
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        raise SettingError(f"there is no encoding '{encoding}'. Give one like utf-8, gbk or cp1252.") from None
    # The mark that may begin a text in UTF-8 is no part of its first column's name.
    encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    try:
        with open(file.path, "rb") as raw:
            stream = bounded(_uncompressed(raw, file.path), file.path)
            with io.TextIOWrapper(stream, encoding=encoding, errors="gserec-mark", newline="") as text:
                yield text, raw
    except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowException) as error:
        raise _damaged(file.path, error) from None
    except UnicodeError as error:
        problem = f"not text in {encoding} ({error})"
        raise DataError(file.path, problem, "Give the file's --encoding.") from None
    except OSError as error:
        # Arrow tells of a damaged file by an OSError without a number.
        if error.errno is None:
            raise _damaged(file.path, error) from None
        raise DataError(file.path, f"cannot be read ({error.strerror})", "Check the file and its rights.") from None


def refuse_utf16(file: LogFile, encoding: str) -> None:
    """Raise DataError for a text whose first bytes say that it is in UTF-16, unless it is read so."""
    if not codecs.lookup(encoding).name.startswith("utf-16"):
        with opened(file, "latin-1") as (text, _):
            start = text.read(2).encode("latin-1")
        if start in _UTF16_MARKS:
            raise DataError(file.path, f"the text is in UTF-16, not in {encoding}", "Give --encoding utf-16.")


def _uncompressed(raw: BinaryIO, path: Path) -> BinaryIO | gzip.GzipFile:
    if path.suffix.lower() == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if path.suffix.lower() == ".zst":
        return pa.CompressedInputStream(pa.PythonFile(raw), "zstd")
    return raw


def _damaged(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()).rstrip(".")
    return DataError(path, f"the compressed file is damaged or cut short ({reason})", "Get it again.")


def _log_file(path: Path, name: str) -> LogFile:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    kind = _SUFFIXES.get("".join(suffixes[:-1][-1:] if compressed else suffixes[-1:]))
    if kind is None or (compressed and kind == "parquet"):
        raise DataError(path, "its name tells no format that can be read", f"Name it one of {_told_suffixes()}.")
    return LogFile(path, name, kind)


def _is_log(path: Path) -> bool:
    """Whether a file is a log by its name; Spark and others leave hidden files and marks beside their parts."""
    if any(part.startswith((".", "_")) for part in path.parts):
        return False
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return bool(suffixes) and (suffixes[-1] in _SUFFIXES or (suffixes[-1] in COMPRESSIONS and len(suffixes) > 1))


def _fixed_part(pattern: Path) -> list[str]:
    parts = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts if len(parts) < len(pattern.parts) else parts[:-1]


def _told_suffixes() -> str:
    return ", ".join(_SUFFIXES) + f" (texts also with {' or '.join(COMPRESSIONS)})"
