"""Finding the reviews and metadata of one Amazon category, and reading them as batches of numbered lines."""

import gzip
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from tqdm import tqdm

from dataset_converters.text_lines import limit_line_length
from recbole_gserec.errors import DataError, SettingError

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


_REVIEWS = re.compile(r"(?:reviews_)?(?P<category>.+?)(?P<core>_5)?\.(?:jsonl?|csv)(?:\.gz)?")
_PLAIN = re.compile(r"interactions\.tsv(?:\.gz)?")
_PUBLISHED = ("query_text.txt", "train.qrels", "test.qrels")
# Enough records to detect the edition, even if some of them are malformed.
_LINES_LOOKED_AT = 100


@dataclass(frozen=True)
class Edition:
    """Keys or columns of one edition's files.

    Args:
        name: Year of the edition, or ``plain``.
        user: Key of the user id in the reviews.
        item: Key of the item id in the reviews and the metadata.
        rating: Key of the rating. None in the plain layout.
        time: Key of the time, or of the position in the user's history.
        units_per_second: Time units per second. None for a position.
    """

    name: str
    user: str
    item: str
    rating: str | None
    time: str
    units_per_second: int | None


EDITIONS = {
    edition.name: edition
    for edition in (
        Edition("2014", "reviewerID", "asin", "overall", "unixReviewTime", 1),
        Edition("2018", "reviewerID", "asin", "overall", "unixReviewTime", 1),
        Edition("2023", "user_id", "parent_asin", "rating", "timestamp", 1000),
        Edition("plain", "user_id", "item_id", None, "position", None),
    )
}


@dataclass(frozen=True)
class Source:
    """The source files of a dataset.

    Args:
        edition: Edition of the reviews.
        category: Category as in the file names. Empty in the plain layout, which has no category.
        reviews: File of the reviews.
        metadata: File of the items.
        queries: The published product-search files ``query_text.txt``, ``train.qrels`` and ``test.qrels``, if any.
    """

    edition: Edition
    category: str
    reviews: Path
    metadata: Path
    queries: tuple[Path, Path, Path] | None

    def files(self, published: bool) -> list[Path]:
        """All files to read, with or without the published queries."""
        return [self.reviews, self.metadata, *(self.queries if published and self.queries else ())]


def find_source(
    folder: Path, category: str | None = None, edition: str | None = None, queries: Path | None = None
) -> Source:
    """Find the files of one category.

    Args:
        folder: Folder with the reviews and the metadata under their published names.
        category: Category as in the file names (``Electronics``). Required if the folder has several.
        edition: One of ``EDITIONS``. By default detected from the content.
        queries: Folder of the published product-search files. By default ``folder``.

    Raises:
        DataError: If a file is missing or the choice is ambiguous.
        SettingError: If the edition is unknown.
    """
    if edition is not None and edition not in EDITIONS:
        raise SettingError(f"edition must be one of {', '.join(EDITIONS)}, not '{edition}'.")
    if not folder.is_dir():
        raise DataError(folder, "folder not found", "Check --input.")
    reviews, category = _reviews(folder, category)
    metadata = _metadata(reviews, category)
    found = EDITIONS[edition or _edition_of(reviews)]
    return Source(found, category, reviews, metadata, _published_queries(folder, queries))


def _reviews(folder: Path, category: str | None) -> tuple[Path, str]:
    found = [(path, name) for path in sorted(folder.iterdir()) if (name := _category(path)) is not None]
    found = [(path, name) for path, name in found if category in (None, name)]
    if not found:
        names = "reviews_Electronics_5.json.gz, Electronics_5.json.gz, Electronics.jsonl.gz or Electronics.csv.gz"
        of_category = f" of '{category}'" if category else ""
        raise DataError(folder, f"no reviews file{of_category}", f"Expected a name like {names}. Check --input.")
    if len(found) > 1:
        listed = ", ".join(path.name for path, _ in found)
        if len({name for _, name in found}) > 1:
            raise DataError(folder, f"several categories ({listed})", "Choose one: --category NAME.")
        raise DataError(folder, f"several reviews files ({listed})", "Keep only one of them in the folder.")
    return found[0]


def _category(path: Path) -> str | None:
    """Category in the name of a reviews file. Empty in the plain layout, None for other files."""
    # Some folders of the published product-search data have names like files.
    if not path.is_file() or path.name.startswith(("meta_", ".")):
        return None
    if _PLAIN.fullmatch(path.name):
        return ""
    match = _REVIEWS.fullmatch(path.name)
    return match["category"] if match else None


def _metadata(reviews: Path, category: str) -> Path:
    stems = [f"meta_{category}.json", f"meta_{category}.jsonl"] if category else ["items.tsv"]
    found = [path for stem in stems for path in _with_or_without_gz(reviews.parent, stem)]
    if not found:
        named = f"meta_{category}.json.gz or meta_{category}.jsonl.gz" if category else "items.tsv.gz"
        raise DataError(reviews.parent, "no metadata file", f"Put {named} beside {reviews.name}.")
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise DataError(reviews.parent, f"several metadata files ({listed})", "Keep only one of them in the folder.")
    return found[0]


def _published_queries(folder: Path, queries: Path | None) -> tuple[Path, Path, Path] | None:
    """Find the three files, or none of them. Only some of them is an error."""
    where = folder if queries is None else queries
    found = {stem: path for stem in _PUBLISHED for path in _with_or_without_gz(where, stem)[:1]}
    if queries is None and not found:
        return None
    for stem in _PUBLISHED:
        if stem not in found:
            raise DataError(where, f"no {stem}.gz", f"Provide all product-search files: {', '.join(_PUBLISHED)}.")
    first, second, third = (found[stem] for stem in _PUBLISHED)
    return first, second, third


def _with_or_without_gz(folder: Path, stem: str) -> list[Path]:
    return [path for path in (folder / f"{stem}.gz", folder / stem) if path.is_file()]


def _edition_of(reviews: Path) -> str:
    """Detect the edition from the keys of the first records."""
    lines = next(batches_of_lines(reviews), None)
    head = "\n".join(lines["text"].slice(0, _LINES_LOOKED_AT).to_pylist()) if lines is not None else ""
    if not head:
        raise DataError(reviews, "the file is empty", "Download it again.")
    if "reviewerID" in head:
        return "2018" if '"verified"' in head else "2014"
    if "parent_asin" in head:
        return "2023"
    if "item_id" in head and "position" in head:
        return "plain"
    raise DataError(
        reviews, "the first lines are not reviews of a known edition", "Use the reviews of 2014, 2018 or 2023.", 1
    )
