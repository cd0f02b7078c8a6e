"""RecBole's own atomic files (``.inter``, ``.item``, ``.user``, ``.kg``, ...), read the same way for every model.

RecBole's reader treats quotation marks as quoted text that may span lines, ``NA`` as a missing id, a short line as one
with empty cells, and a byte order mark as part of a name. Its filters drop interactions of items and users without a
row in ``.item`` or ``.user``. A model's rows would therefore depend on which of these files it loads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType

from recbole_gserec.data.atomic_files import field_types, read_columns, sequences_of_numbers
from recbole_gserec.data.search_files import check_types, split_sequences, to_pandas


def format_options(dataset: Dataset) -> dict[str, str]:
    """Return the format of a dataset's files, as expected by :func:`read_columns`."""
    config = dataset.config
    return {"separator": config["field_separator"], "encoding": config["encoding"] or "utf-8"}


def load_feature_file(
    dataset: Dataset, path: str | Path, source: Any, *, categorical: bool = False
) -> pd.DataFrame | None:
    """Replace ``Dataset._load_feat`` by a fast and strict reader with the same result.

    Cells are unquoted text. An empty cell is a missing value or an empty sequence.

    Args:
        dataset: RecBole's dataset, in which the fields are registered.
        path: The file.
        source: The file's role in RecBole: a ``FeatureSource`` or a suffix.
        categorical: Whether tokens become categorical; otherwise they are objects, as in RecBole.

    Returns:
        The columns to load; None if there are none.

    Raises:
        DataError: If the file is missing or malformed, or a user, item or time of an interaction is missing.
    """
    load_col, unload_col = dataset._get_load_and_unload_col(source)
    if load_col == set():
        return None
    options = format_options(dataset)
    types = field_types(path, **options)
    fields = [field for field in types if load_col is None or field in load_col]
    fields = [field for field in fields if not unload_col or field not in unload_col]
    required: list[str] = []
    if source == FeatureSource.INTERACTION:
        expected = {dataset.uid_field: "token", dataset.iid_field: "token", dataset.time_field: "float"}
        check_types(path, expected, **options)
        required = list(expected)
        left_out = [field for field in required if field not in fields]
        if left_out:
            dataset.logger.warning(
                f"load_col leaves out {', '.join(left_out)} of .inter: loaded anyway, because every model needs it"
            )
        fields += left_out
    if source in (FeatureSource.USER, FeatureSource.ITEM) and fields:
        required = [dataset.uid_field if source == FeatureSource.USER else dataset.iid_field]
        check_types(path, {required[0]: "token"}, **options)
        fields += [field for field in required if field not in fields]
    if not fields:
        dataset.logger.warning(f"No columns has been loaded from [{source}]")
        return None
    table = read_columns(path, fields, required=required, **options)
    frame = {}
    for field in fields:
        kind, length = FeatureType(types[field]), 1
        if kind.value.endswith("seq"):
            cells = _sequences(table[field], field, dataset.config["seq_separator"])
            if kind == FeatureType.FLOAT_SEQ:
                cells = sequences_of_numbers(path, field, cells, options["encoding"])
            length = max(map(len, cells), default=0)
            if dataset.config["seq_len"] and field in dataset.config["seq_len"]:
                length = min(length, dataset.config["seq_len"][field])
                cells = [cell[:length] for cell in cells]
            frame[field] = pd.Series(cells, dtype=object)
        else:
            frame[field] = _values(table[field], categorical)
        if "float" in kind.value:
            dataset.field2bucketnum[field] = 2
        # RecBole reads links into a mapping, and their fields belong to other files.
        if source != "link":
            dataset.set_field_property(field, kind, source, length)
    if source in (FeatureSource.USER, FeatureSource.ITEM):
        repeated = int(frame[required[0]].duplicated().sum())
        if repeated:
            dataset.logger.warning(
                f"{path}: {repeated:,} rows repeat an id of {required[0]}; the first row of each counts"
            )
    return pd.DataFrame(frame)


def _values(column: pa.ChunkedArray, categorical: bool) -> pd.Series:
    if not pa.types.is_string(column.type):
        return column.to_pandas()
    empty = pc.equal(column, "")
    tokens = to_pandas(pc.if_else(empty, None, column) if pc.any(empty).as_py() else column)
    return tokens if categorical else tokens.astype(object)


def _sequences(column: pa.ChunkedArray, field: str, separator: str) -> list[np.ndarray]:
    """Split each cell into tokens; as objects, because fixed-width text would be as wide as the longest token."""
    flat = split_sequences(column, field, separator)
    return np.split(flat.frame[field].to_numpy(dtype=object), flat.offsets[1:-1]) if len(column) else []


def align_features(dataset: Dataset) -> None:
    """Give each user and item of the interactions and searches exactly one row in ``.user`` and ``.item``.

    Added rows have missing values, and other rows are removed. RecBole's filters then find no interaction whose user or
    item lacks a row. A row without an interaction adds no id that only models with this file would know.

    Args:
        dataset: RecBole's dataset whose ids are still tokens.
    """
    clicks, searches = getattr(dataset, "search_click_feat", None), getattr(dataset, "search_feat", None)
    for name, field, others in (
        ("user_feat", dataset.uid_field, [] if searches is None else [searches["search_user_id"]]),
        ("item_feat", dataset.iid_field, [] if clicks is None else [clicks["search_item_ids"]]),
    ):
        feat = getattr(dataset, name, None)
        if feat is None:
            continue
        tokens = [pd.unique(column.dropna()).astype(object) for column in (dataset.inter_feat[field], *others)]
        known = pd.DataFrame({field: pd.unique(np.concatenate(tokens))}, dtype=object)
        rows = known.merge(feat.astype({field: object}), on=field, how="left", indicator="added")
        n_added = int((rows["added"] == "left_only").sum())
        filtered = [name for name in dataset.config["val_interval"] or () if name in feat and name != field]
        if n_added and filtered:
            dataset.logger.warning(
                f"{n_added:,} ids of {field} have no row in their file, and so no {filtered[0]}: val_interval leaves "
                "out their interactions"
            )
        _fill_sequences(rows, dataset.field2type)
        setattr(dataset, name, rows.drop(columns="added"))


def _fill_sequences(rows: pd.DataFrame, field2type: dict[str, FeatureType]) -> None:
    """Fill added rows with empty sequences, because RecBole joins all sequences before it fills missing ones."""
    added = np.flatnonzero(rows["added"] == "left_only")
    for field in rows.columns:
        kind = field2type.get(field)
        if kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ) and len(added):
            empty = np.array([], dtype=object if kind == FeatureType.TOKEN_SEQ else np.float64)
            filled = rows[field].to_numpy(copy=True)
            filled[added] = pd.Series([empty] * len(added), dtype=object)
            rows[field] = filled
