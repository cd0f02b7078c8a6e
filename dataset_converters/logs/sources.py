"""Which files hold the logs, how they are stored, and reading them as text; JSON Lines among them."""

import codecs
import glob
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import pyarrow as pa

from dataset_converters.text_lines import limit_line_length
from recbole_gserec.errors import DataError, SettingError

Record = tuple[int, dict | None, str | None]
"""Line of a row, its values by name, and its problem. One of the last two is None."""


def _no_number(text: str) -> None:
    return None


# Numbers stay text, so that long ids keep all digits and 1.0 does not become 1.
_decode = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_number).decode


def read_records(lines: Iterable[str], first: int = 1) -> Iterator[Record]:
    """Yield the rows of some lines, without blank lines. ``first`` is the number of the first line."""
    for line, text in enumerate(lines, first):
        if text.isspace():
            continue
        try:
            value = _decode(text)
        except (ValueError, RecursionError):
            yield line, None, "not JSON"
            continue
        if isinstance(value, dict):
            yield line, value, None
        else:
            yield line, None, "not a JSON object"


def key_names(lines: Iterable[str]) -> list[str]:
    """All keys in some rows, in the order of their first appearance."""
    found: dict[str, None] = {}
    for _, value, _ in read_records(lines):
        found |= dict.fromkeys(value or ())
    return list(found)


def as_text(value: object, is_list: bool) -> str | None:
    """Convert a value to the text of a cell.

    Args:
        value: JSON value, with numbers as text.
        is_list: Whether to keep a list as JSON. Otherwise its entries are joined by spaces.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and not is_list:
        return " ".join(text for text in (as_text(entry, False) for entry in value) if text)
    return json.dumps(value, ensure_ascii=False)


FORMATS = {
    "csv": (".csv", ".tsv", ".tab", ".txt"),
    "json": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet", ".pq"),
}
COMPRESSIONS = (".gz", ".zst")
_SUFFIXES = {suffix: kind for kind, suffixes in FORMATS.items() for suffix in suffixes}
_START = 4096
# White space and byte order marks, decoded as Latin-1.
_NOTHING = "\r\n\t \0\xef\xbb\xbf\xff\xfe"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Error handler that marks bytes which the encoding cannot decode."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    # An unpaired surrogate never occurs in a valid text, so the row can be found later.
    return "\udcff", error.end


codecs.register_error("gserec-mark", _mark)


@dataclass(frozen=True)
class LogFile:
    """One file of a log.

    Args:
        path: Path of the file.
        name: Name in messages: the file name, or the path within the folder of parts.
        kind: ``csv``, ``json`` or ``parquet``.
    """

    path: Path
    name: str
    kind: str


def find_log_files(location: str | Path) -> list[LogFile]:
    """Find the files of a log: one file, all logs in a folder, or the matches of a pattern such as ``part-*.csv``.

    Raises:
        DataError: If there is no such file, or a file has an unknown format.
    """
    path = Path(location)
    if path.is_file():
        return [_log_file(path, path.name)]
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if _is_log(file.relative_to(path)) and file.is_file())
        parent = path
    else:
        found = sorted(file for file in map(Path, glob.glob(str(location), recursive=True)) if file.is_file())
        parent = Path(*_fixed_part(path))
    if not found:
        raise DataError(path, "file not found", f"Give a file, folder or pattern. Known suffixes: {_known_suffixes()}.")
    return [_log_file(file, file.relative_to(parent).as_posix()) for file in found]


def find_in_folder(folder: Path, stem: str) -> Path | None:
    """Find the file or folder named ``stem``, with any suffix, in a folder; None if there is none.

    Raises:
        SettingError: If there are several.
    """
    found = [path for path in sorted(folder.iterdir()) if path.name.split(".")[0] == stem] if folder.is_dir() else []
    found = [path for path in found if path.is_dir() or _is_log(Path(path.name))]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SettingError(f"{folder} has several files for {stem}: {names}. Choose one: --{stem} FILE.")
    return found[0] if found else None


def is_empty(file: LogFile) -> bool:
    """Whether a file is empty, before or after decompression."""
    if not file.path.stat().st_size:
        return True
    if file.kind == "parquet":
        return False
    with open_text(file, "latin-1") as (text, _):
        return not text.read(_START).strip(_NOTHING) and not text.read(1)


@contextmanager
def open_text(file: LogFile, encoding: str) -> Iterator[tuple[TextIO, BinaryIO]]:
    r"""Yield a file as text with its original line ends, and its raw byte stream, whose position shows the progress.

    Bytes that the encoding cannot decode become ``\udcff``.

    Raises:
        DataError: If the compressed file is damaged or incomplete, or the file has another encoding.
        SettingError: If the encoding is unknown.
    """
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        raise SettingError(f"unknown encoding '{encoding}'. Give one like utf-8, gbk or cp1252.") from None
    # A byte order mark at the start of UTF-8 text is not part of the first column name.
    encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    try:
        with open(file.path, "rb") as raw:
            stream = limit_line_length(_uncompressed(raw, file.path), file.path)
            with io.TextIOWrapper(stream, encoding=encoding, errors="gserec-mark", newline="") as text:
                yield text, raw
    except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowException) as error:
        raise _damaged(file.path, error) from None
    except UnicodeError as error:
        problem = f"not text in {encoding} ({error})"
        raise DataError(file.path, problem, "Set --encoding.") from None
    except OSError as error:
        # Arrow reports a damaged file with an OSError without an error number.
        if error.errno is None:
            raise _damaged(file.path, error) from None
        raise DataError(file.path, f"cannot be read ({error.strerror})", "Check the file and permissions.") from None


def reject_utf16(file: LogFile, encoding: str) -> None:
    """Raise DataError if a file starts with a UTF-16 byte order mark but another encoding is set."""
    if not codecs.lookup(encoding).name.startswith("utf-16"):
        with open_text(file, "latin-1") as (text, _):
            start = text.read(2).encode("latin-1")
        if start in _UTF16_MARKS:
            raise DataError(file.path, f"the text is UTF-16, not {encoding}", "Set --encoding utf-16.")


def _uncompressed(raw: BinaryIO, path: Path) -> BinaryIO | gzip.GzipFile:
    if path.suffix.lower() == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if path.suffix.lower() == ".zst":
        return pa.CompressedInputStream(pa.PythonFile(raw), "zstd")
    return raw


def _damaged(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()).rstrip(".")
    return DataError(path, f"the compressed file is damaged or incomplete ({reason})", "Download it again.")


def _log_file(path: Path, name: str) -> LogFile:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    kind = _SUFFIXES.get("".join(suffixes[:-1][-1:] if compressed else suffixes[-1:]))
    if kind is None or (compressed and kind == "parquet"):
        raise DataError(path, "unknown file format", f"Use one of the suffixes {_known_suffixes()}.")
    return LogFile(path, name, kind)


def _is_log(path: Path) -> bool:
    """Whether a file is a log, judging by its name. Spark and others write hidden and marker files beside the parts."""
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


def _known_suffixes() -> str:
    return ", ".join(_SUFFIXES) + f" (text files also with {' or '.join(COMPRESSIONS)})"
