"""Files of text vectors of items, queries or users, for models that read them."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recbole_gserec.errors import DataError
from recbole_gserec.files import PARQUET_METADATA, verify, written_with_checksum

_KEY = b"recbole_gserec"
# Checksum in files of earlier versions: it covers what is read, in addition to the checksums of Parquet's pages.
_OLD_CHECKSUM_KEY = b"recbole_gserec.checksum"
_ROWS_AT_ONCE = 65536
_ADVICE = "Write it again with 'gserec preprocess' and the setting text_vectors."


class VectorFile(NamedTuple):
    """The content of a file of text vectors.

    Attributes:
        ids: ``n`` distinct ids, as the dataset's files have them.
        vectors: Name of a column -> ``[n, d]``, ``float32``; row ``i`` is that of ``ids[i]``.
        description: Provenance of the vectors.
    """

    ids: list[str]
    vectors: dict[str, np.ndarray]
    description: dict[str, Any]


def write_vectors(
    path: str | Path, ids: Sequence[str], vectors: Mapping[str, np.ndarray], description: Mapping[str, Any]
) -> None:
    """Write a Parquet file with a column ``id``, and a column of fixed-size lists for each name.

    Args:
        path: The file; it is replaced atomically, and only on success.
        ids: ``n`` distinct ids.
        vectors: Name of a column -> ``[n, d]``, finite.
        description: Provenance of the vectors as JSON values, stored in the file's metadata.

    Raises:
        ValueError: For arguments that :func:`read_vectors` would not accept.
    """
    arrays = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in vectors.items()}
    if not arrays or "id" in arrays:
        raise ValueError(f"one column or more is needed, and none named 'id': {list(arrays)}")
    if len(set(ids)) != len(ids):
        raise ValueError("ids are not distinct")
    for name, array in arrays.items():
        if array.ndim != 2 or len(array) != len(ids) or array.shape[1] < 1:
            raise ValueError(f"'{name}' has shape {array.shape}, where [{len(ids)}, d] with d of 1 or more is needed")
        if not np.isfinite(array).all():
            raise ValueError(f"'{name}' has NaN or infinity")
    columns = {"id": pa.array(ids, type=pa.string())}
    for name, array in arrays.items():
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
    content = json.dumps(description, ensure_ascii=False, allow_nan=False).encode()
    table = pa.table(columns).replace_schema_metadata({_KEY: content, **PARQUET_METADATA})
    with written_with_checksum(path) as temporary:
        # Numbers rarely repeat, so a dictionary would only cost memory.
        pq.write_table(
            table,
            temporary,
            row_group_size=_ROWS_AT_ONCE,
            use_dictionary=False,
            write_statistics=False,
        )


def read_vectors(path: str | Path) -> VectorFile:
    """Read a file of :func:`write_vectors`.

    Raises:
        DataError: If the file is missing, damaged or something else, has duplicate ids, or has values that are NaN or
            infinite.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "there is no such file", _ADVICE)
    try:
        # Other programs may write such a file without a checksum.
        verify(path, _ADVICE)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            description = _check_schema(path, file.schema_arrow)
            ids, vectors = _read_rows(path, file)
            metadata = file.schema_arrow.metadata
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), "")[:200]
        raise DataError(path, f"damaged, or not a Parquet file ({reason})", _ADVICE) from error
    stated = metadata.get(_OLD_CHECKSUM_KEY)
    if stated is not None and stated != str(_checksum(ids, vectors, metadata[_KEY])).encode():
        raise DataError(path, "damaged: its content has changed", _ADVICE)
    _check_rows(path, ids, vectors)
    return VectorFile(ids, vectors, description)


def _check_schema(path: Path, schema: pa.Schema) -> dict[str, Any]:
    """Check that the columns are those of a file of vectors; return the description."""
    types = dict(zip(schema.names, schema.types, strict=True))
    if types.pop("id", None) != pa.string():
        raise DataError(path, "has no column 'id' of strings, so it is not a file of text vectors", _ADVICE)
    if not types:
        raise DataError(path, "has no column of vectors", _ADVICE)
    for name, kind in types.items():
        if not (pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float32()):
            raise DataError(path, f"column '{name}' is {kind}; it must be a fixed_size_list of float", _ADVICE)
    try:
        description = json.loads((schema.metadata or {})[_KEY])
    except (KeyError, ValueError) as error:
        raise DataError(path, "does not say what made its vectors", _ADVICE) from error
    if not isinstance(description, dict):
        raise DataError(path, "does not say what made its vectors", _ADVICE)
    return description


def _read_rows(path: Path, file: pq.ParquetFile) -> tuple[list[str], dict[str, np.ndarray]]:
    """Read ids and vectors, some rows at a time, which needs little memory besides the result."""
    n = file.metadata.num_rows
    ids: list[str] = []
    fields = [field for field in file.schema_arrow if field.name != "id"]
    vectors = {field.name: np.empty((n, field.type.list_size), dtype=np.float32) for field in fields}
    for batch in file.iter_batches(_ROWS_AT_ONCE):
        if any(column.null_count for column in batch.columns):
            raise DataError(path, "has rows without an id or a vector", _ADVICE)
        rows = slice(len(ids), len(ids) + batch.num_rows)
        ids += batch.column("id").to_numpy(zero_copy_only=False).tolist()
        for name, array in vectors.items():
            # A missing number within a vector becomes NaN, which is checked below.
            array[rows] = batch.column(name).flatten().to_numpy(zero_copy_only=False).reshape(-1, array.shape[1])
    if len(ids) != n:
        raise DataError(path, f"has {len(ids)} rows, and says it has {n}", _ADVICE)
    return ids, vectors


def _check_rows(path: Path, ids: list[str], vectors: Mapping[str, np.ndarray]) -> None:
    if len(set(ids)) != len(ids):
        twice = np.array(ids, dtype=object)
        twice.sort()
        first = twice[:-1][twice[1:] == twice[:-1]][0]
        raise DataError(path, f"has the id '{first}' more than once", _ADVICE)
    for name, array in vectors.items():
        is_bad = ~np.isfinite(array).all(axis=1)
        if is_bad.any():
            raise DataError(path, f"column '{name}' has NaN or infinity at id '{ids[is_bad.argmax()]}'", _ADVICE)


def _checksum(ids: Sequence[str], vectors: Mapping[str, np.ndarray], description: bytes) -> int:
    """Compute the checksum of everything that is read."""
    checksum = zlib.crc32("\0".join([*vectors, *ids]).encode("utf-8", "surrogatepass"), zlib.crc32(description))
    for array in vectors.values():
        checksum = zlib.crc32(array.data, checksum)
    return checksum
