"""Reading ``.item`` and ``.user`` files the same way for all models, and the datasets of RecBole's own models.

Which interactions, targets and candidates a model gets never depends on these files.

"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.utils import FeatureSource, FeatureType

from recbole_gserec.data.checks import MIN_INTERACTIONS, check_filtered, check_known_queries, check_time_order
from recbole_gserec.data.search_files import (
    QUERY_COLUMNS,
    SEARCH_COLUMNS,
    check_types,
    refuse_duplicates,
    split_sequences,
    to_pandas,
)
from recbole_gserec.files import field_types, has_no_rows, read_columns, sequences_of_numbers


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


def check_files(dataset: Dataset) -> None:
    """Refuse the files that :class:`SearchDataset` refuses, after the interactions have been read.

    A ``.search`` file without rows is accepted, because RecBole's models need no searches.

    Raises:
        DataError: For unordered times, a malformed file of searches or queries, or an unknown query.
    """
    in_order = dataset.config["unordered_timestamps"] == "error"
    # The parts of a user's own split have their own order.
    if in_order and dataset.benchmark_filename_list is None:
        users, times = dataset.inter_feat[dataset.uid_field], dataset.inter_feat[dataset.time_field].to_numpy()
        encoding = format_options(dataset)["encoding"]
        check_time_order(_path(dataset, "inter"), users.astype("category"), times, encoding)
    search = _path(dataset, "search")
    if search.is_file():
        _check_searches(search, _path(dataset, "query"), in_order, **format_options(dataset))


def sort_interactions(dataset: Dataset) -> None:
    """Sort interactions by their full-precision times, if ``unordered_timestamps`` requests it.

    RecBole's own 32-bit sort keeps the order of equal times, so all models then have the same targets.
    """
    if dataset.config["unordered_timestamps"] == "sort" and dataset.benchmark_filename_list is None:
        dataset.inter_feat = dataset.inter_feat.sort_values(dataset.time_field, kind="stable", ignore_index=True)


def remove_repeated(dataset: Dataset) -> None:
    """Replace ``Dataset._remove_duplication``, whose sort does not keep the file's order of equal times."""
    if dataset.config["rm_dup_inter"] is not None:
        dataset.inter_feat.sort_values(dataset.time_field, kind="stable", inplace=True)
        subset = [dataset.uid_field, dataset.iid_field]
        dataset.inter_feat.drop_duplicates(subset, keep=dataset.config["rm_dup_inter"], inplace=True)


def check_interactions(dataset: Dataset) -> None:
    """Refuse interactions that cannot be split after RecBole's filters.

    Raises:
        DataError: If no interactions remain, or users have too few.
    """
    users = dataset.inter_feat[dataset.uid_field]
    check_filtered(_path(dataset, "inter"), users, dataset.config["short_users"])


def split_off_short_users(dataset: Dataset, groups: Iterable[Sequence[int]]) -> tuple[list[int], list[Sequence[int]]]:
    """Return the rows of users who are only trained on, and the rows of all others.

    RecBole tests its general models on the second interaction of a user who has two. Its sequential models train on
    that interaction, and have one row less for each user.

    Args:
        dataset: The dataset before the split.
        groups: Rows of each user.
    """
    groups = list(groups)
    if isinstance(dataset, SequentialDataset):
        return [], groups
    short = [row for rows in groups if len(rows) < MIN_INTERACTIONS for row in rows]
    return short, [rows for rows in groups if len(rows) >= MIN_INTERACTIONS]


def _path(dataset: Dataset, suffix: str) -> Path:
    return Path(dataset.dataset_path) / f"{dataset.dataset_name}.{suffix}"


def _check_searches(path: Path, query_path: Path, in_order: bool, *, separator: str, encoding: str) -> None:
    check_types(path, SEARCH_COLUMNS, separator=separator, encoding=encoding)
    if has_no_rows(path, encoding):
        return
    fields = [field for field, kind in SEARCH_COLUMNS.items() if not kind.endswith("_seq")]
    table = read_columns(path, list(SEARCH_COLUMNS), separator=separator, encoding=encoding, required=fields)
    if in_order:
        users, times = to_pandas(table["search_user_id"]), table["search_timestamp"].to_numpy()
        check_time_order(path, users, times, encoding)
    if query_path.is_file():
        check_types(query_path, QUERY_COLUMNS, separator=separator, encoding=encoding)
        queries = read_columns(
            query_path, list(QUERY_COLUMNS), separator=separator, encoding=encoding, required=["query_id"]
        )
        known = to_pandas(queries["query_id"])
        refuse_duplicates(query_path, known, "query")
        check_known_queries(path, to_pandas(table["search_query_id"]), known, encoding)
