"""Writes vectors for other systems: as Parquet, or as NumPy arrays with a file of ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.files import folder_written_aside, sha256_of_file
from recbole_gserec.json_files import write_json
from recbole_gserec.recommend.vectors import Exported, Vectors

FORMATS = ("parquet", "npy")
DESCRIPTION_FILE = "export.json"


def check_export(folder: Path, file_format: str) -> None:
    """Refuse an unknown format, and a folder that is not empty.

    Raises:
        SettingError: For the format.
        DataError: For the folder.
    """
    if file_format not in FORMATS:
        raise SettingError(f"--format is '{file_format}'; it takes {' or '.join(FORMATS)}")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(folder, "exists and is not an empty folder", "Name another, or delete it.")


def write_export(folder: Path, exported: Exported, file_format: str, description: Mapping[str, Any]) -> None:
    """Write all tables and their description, ``export.json``, into a new folder.

    Args:
        folder: The folder; it must be missing or empty.
        exported: The tables.
        file_format: One of :data:`FORMATS`.
        description: Provenance of the tables.

    Raises:
        SettingError: If the format is unknown.
        DataError: If the folder is not empty.
    """
    check_export(folder, file_format)
    with folder_written_aside(folder) as temporary:
        tables = {}
        for table in exported.tables:
            file = _write(temporary, table, file_format)
            n, size = table.values.shape
            tables[table.name] = {"file": file, "rows": n, "size": size, "meaning": table.meaning}
        content = {**description, "score": None, "tables": tables}
        if exported.score:
            content["score"] = f"dot products of {' and '.join(exported.score)}"
        content["sha256"] = {file.name: sha256_of_file(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / DESCRIPTION_FILE, content)


def _write(folder: Path, table: Vectors, file_format: str) -> str:
    ids = {name: _array(values) for name, values in table.ids.items()}
    if file_format == "npy":
        np.save(folder / f"{table.name}.npy", table.values, allow_pickle=False)
        options = pa.csv.WriteOptions(quoting_style="needed")
        pa.csv.write_csv(pa.table(ids), folder / f"{table.name}.csv", write_options=options)
        return f"{table.name}.npy"
    flat = pa.array(np.ascontiguousarray(table.values).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(flat, table.values.shape[1])
    pq.write_table(pa.table({**ids, "vector": vectors}), folder / f"{table.name}.parquet")
    return f"{table.name}.parquet"


def _array(values: np.ndarray) -> pa.Array:
    if np.issubdtype(values.dtype, np.integer):
        return pa.array(values.astype(np.int32))
    return pa.array(values.astype(object), pa.string())
