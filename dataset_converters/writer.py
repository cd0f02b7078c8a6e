"""Writing of a search-extended dataset as atomic files, with a record of its source and settings."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.files import TYPES, folder_written_aside, sha256_of_file, written_aside
from recbole_gserec.provenance import installed_versions

Columns = Mapping[str, Sequence | np.ndarray | pa.Array | pa.ChunkedArray]
"""Values of one file's columns, keyed by ``field:type``. A pandas data frame with such column names works too."""

Stream = Callable[[], pa.RecordBatchReader]
"""Function that returns a reader of one file's rows. The columns are named ``field:type``."""

_LARGEST_EXACT = 2.0**53
_ROWS_AT_ONCE = 65536
_PACKAGES = ("recbole-gserec", "recbole", "numpy", "pyarrow", "duckdb", "rjieba")


def write_atomic_file(path: str | Path, columns: Columns) -> None:
    """Write one atomic file that RecBole's reader and ours read in the same way. It appears when it is complete.

    Args:
        path: The file.
        columns: Values ``[n_rows]`` keyed by ``field:type``. Sequences are texts with entries separated by white
            space; any run of white space becomes one space. If a text starts with a quotation mark, all its quotation
            marks become apostrophes, because RecBole would read it as a quoted cell.

    Raises:
        DataError: If a number is not finite, a value is missing, or a token contains a control character such as a tab,
            or starts with a quotation mark.
    """
    with written_aside(path) as temporary:
        _write_rows(temporary, Path(path), columns)


def _write_rows(file: Path, path: Path, rows: Columns | Stream) -> int:
    """Write ``file``, which later moves to ``path``, and return its number of rows."""
    if callable(rows):
        batches = rows()
        headers = batches.schema.names
    else:
        headers = list(rows)
        batches = [pa.record_batch([_array(rows[name]) for name in headers], names=headers)]
    written = 0
    with (
        open(file, "w", encoding="utf-8", newline="\n") as opened,
        tqdm(desc=f"Writing {path.name}", unit=" rows", leave=False, disable=not sys.stderr.isatty()) as bar,
    ):
        opened.write("\t".join(headers) + "\n")
        for batch in batches:
            cells = [_cells(path, name, batch.column(name), written) for name in headers]
            for part in pa.table(cells, names=headers).to_batches(max_chunksize=_ROWS_AT_ONCE):
                lines = pc.binary_join_element_wise(*part.columns, "\t").to_pylist()
                opened.write("\n".join([*lines, ""]))
            written += batch.num_rows
            bar.update(batch.num_rows)
    return written


def _array(values: Sequence | np.ndarray | pa.Array | pa.ChunkedArray) -> pa.Array:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _cells(path: Path, header: str, array: pa.Array, first_row: int) -> pa.Array:
    """Convert one column to ``[n_rows]`` strings without tabs and line breaks."""
    field, _, kind = header.rpartition(":")
    if not field or kind not in TYPES:
        raise ValueError(f"'{header}' is not 'field:type'")
    if array.null_count:
        row = first_row + int(np.flatnonzero(np.asarray(array.is_null()))[0])
        raise DataError(path, f"{field} is missing in row {row}", "Give every row a value.")
    if kind == "float":
        return _numbers(path, field, np.asarray(array, dtype=np.float64), first_row)
    text = array.cast(pa.string())
    if kind.endswith("_seq"):
        text = pc.utf8_trim_whitespace(pc.replace_substring_regex(text, r"[\s\pZ\p{Cc}]+", " "))
        return pc.if_else(pc.starts_with(text, '"'), pc.replace_substring(text, '"', "'"), text)
    bad = np.flatnonzero(np.asarray(pc.match_substring_regex(text, r'^"|\p{Cc}')))
    if len(bad):
        problem = f"{field} {text[int(bad[0])].as_py()!r} contains a tab, a line break or a leading quotation mark"
        raise DataError(path, problem, "Clean the ids in the source.")
    return text


def _numbers(path: Path, field: str, values: np.ndarray, first_row: int) -> pa.Array:
    """Format numbers as the shortest text that reads back the same. Whole numbers get no fraction or exponent."""
    if not np.isfinite(values).all():
        row = first_row + int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(path, f"{field} is not a finite number in row {row}", "Give every row a number.")
    whole = (np.trunc(values) == values) & (np.abs(values) <= _LARGEST_EXACT)
    integers = pa.array(np.where(whole, values, 0).astype(np.int64)).cast(pa.string())
    return pc.if_else(pa.array(whole), integers, pa.array(values).cast(pa.string()))


def check_name(name: str) -> None:
    """Raise SettingError if ``name`` cannot be a dataset name, and so the name of a folder and files."""
    if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|') or not name.isprintable():
        raise SettingError(f"'{name}' is not a valid dataset name. Use letters, digits, '-' and '_'.")


def already_made(folder: Path, made_from: Mapping[str, object]) -> bool:
    """Whether ``folder`` contains a finished dataset made from the same source with the same settings.

    Args:
        folder: The dataset's folder, which has the dataset's name.
        made_from: The source, settings and options that determine the files, as plain JSON values.

    Raises:
        DataError: If the folder has other content, which is never overwritten.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    advice = "Choose another name or folder, or move the existing one."
    try:
        record = json.loads((folder / f"{folder.name}.json").read_text(encoding="utf-8"))
        recorded, files = record["made_from"], record["files"]
        changed = [name for name, digest in files.items() if sha256_of_file(folder / name) != digest]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(folder, "already exists, but is not a complete dataset of this converter", advice) from error
    if recorded != made_from:
        raise DataError(folder, "already exists, made from another source or with other settings", advice)
    if changed:
        raise DataError(folder / changed[0], "has changed since the dataset was made", advice)
    return True


def write_dataset(
    folder: Path,
    tables: Mapping[str, Columns | Stream],
    made_from: Mapping[str, object],
    *,
    report: Mapping[str, object] | None = None,
    write_more: Callable[[Path], None] | None = None,
) -> None:
    """Write a dataset's atomic files and its record. The folder appears when all files are complete.

    Args:
        folder: The dataset's folder, which has the dataset's name.
        tables: Rows of each file, keyed by the suffix (``inter``, ``item``, ``search``, ``query``).
        made_from: As in :func:`already_made`.
        report: More content of the record.
        write_more: Function that writes additional files into a folder.

    Raises:
        DataError: If a value or a file cannot be written, or another dataset appeared in the folder meanwhile.
    """
    name = folder.name
    try:
        with folder_written_aside(folder) as aside:
            counts = {
                suffix: _write_rows(aside / f"{name}.{suffix}", folder / f"{name}.{suffix}", rows)
                for suffix, rows in tables.items()
            }
            # Additional files such as figures may be made again later, so they have no hash in the record.
            digests = {file.name: sha256_of_file(file) for file in sorted(aside.iterdir())}
            if write_more is not None:
                write_more(aside)
            record = {
                "dataset": name,
                "made_from": made_from,
                "rows": counts,
                **(report or {}),
                "files": digests,
                "versions": dict.fromkeys(_PACKAGES) | installed_versions(_PACKAGES),
            }
            (aside / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(folder, f"cannot be written ({error.strerror})", "Check the disk and permissions.") from error
    # If another process was faster, its result is kept and must be identical.
    already_made(folder, made_from)
