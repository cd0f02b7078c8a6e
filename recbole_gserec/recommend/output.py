"""Recommendations as Parquet, CSV or JSON Lines, written batch by batch, and the file that lists users."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.files import sha256_of_file, write_json, written_aside
from recbole_gserec.recommend.recommender import SCHEMA


def read_user_list(path: Path) -> list[str]:
    """Return the non-empty lines of a text file.

    Raises:
        DataError: If the file is not text, or contains no user.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(path, "not UTF-8 text", "Give a text file with one user id per line.") from error
    names = [line for line in lines if line.strip()]
    if not names:
        raise DataError(path, "names no user", "Give a text file with one user id per line.")
    return names


Write = Callable[[pa.RecordBatch], None]

_ROWS_PER_GROUP = 1 << 20


def check_output(path: Path) -> None:
    """Raise SettingError unless the suffix of a path is a known format."""
    if path.suffix not in _WRITERS:
        raise SettingError(f"{path}: recommendations are written as {', '.join(_WRITERS)}; use one of these suffixes")


def write_recommendations(path: Path, tables: Iterable[pa.RecordBatch], description: Mapping[str, Any]) -> int:
    """Write tables batch by batch, and their provenance to ``<path>.json``; return the number of rows.

    Args:
        path: The file; its suffix is the format.
        tables: Tables with the columns of :data:`SCHEMA`.
        description: Provenance of the tables.

    Raises:
        SettingError: If the suffix is not a known format.
    """
    check_output(path)
    n_rows = 0
    with written_aside(path) as temporary, _WRITERS[path.suffix](temporary) as write:
        for table in tables:
            write(table)
            n_rows += len(table)
    digest = sha256_of_file(path)
    write_json(path.with_name(path.name + ".json"), {**description, "rows": n_rows, "sha256": digest})
    return n_rows


def csv_to_stream(stream: IO[str]) -> Write:
    """Write the CSV header to a stream; return a function that writes tables to it."""
    stream.write(",".join(SCHEMA.names) + "\n")

    def write(table: pa.RecordBatch) -> None:
        table.to_pandas().to_csv(stream, header=False, index=False, lineterminator="\n")

    return write


@contextmanager
def _csv_writer(path: Path) -> Iterator[Write]:
    with open(path, "w", encoding="utf-8", newline="") as file:
        yield csv_to_stream(file)


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Write]:
    # With few users in a batch, row groups would be too small to read quickly.
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(path, SCHEMA) as writer:

        def flush() -> None:
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting.clear()

        def write(table: pa.RecordBatch) -> None:
            waiting.append(table)
            if sum(map(len, waiting)) >= _ROWS_PER_GROUP:
                flush()

        yield write
        flush()


@contextmanager
def _jsonl_writer(path: Path) -> Iterator[Write]:
    with open(path, "w", encoding="utf-8") as file:

        def write(table: pa.RecordBatch) -> None:
            if len(table):
                frame = table.to_pandas()
                # All digits of a 32-bit float.
                frame["score"] = frame["score"].astype(float)
                frame.to_json(file, orient="records", lines=True, force_ascii=False, double_precision=15)

        yield write


_WRITERS = {".parquet": _parquet_writer, ".csv": _csv_writer, ".jsonl": _jsonl_writer}
