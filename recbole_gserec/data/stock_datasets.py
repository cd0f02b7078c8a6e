"""The checks and rules of :class:`SearchDataset` for RecBole's own datasets, whose reader takes almost anything.

Files are read once more to check them, by the fast and strict reader; what RecBole reads of them stays RecBole's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.utils import FeatureSource

from recbole_gserec.data.atomic_files import field_types, has_no_rows, line_of_row, read_columns
from recbole_gserec.data.checks import (
    MIN_INTERACTIONS,
    check_filtered,
    check_known_queries,
    check_policies,
    check_time_order,
)
from recbole_gserec.data.search_files import QUERY_COLUMNS, SEARCH_COLUMNS, check_types, refuse_duplicates, to_pandas
from recbole_gserec.errors import DataError


def check_files(dataset: Dataset) -> None:
    """Refuse the files that :class:`SearchDataset` refuses, before RecBole reads its own.

    A ``.search`` file without rows passes: RecBole's models need no search.

    Raises:
        DataError: For a malformed file, a missing value, unordered times or an unknown query.
        SettingError: For a wrong value of ``unordered_timestamps`` or ``short_users``.
    """
    config = dataset.config
    check_policies(config)
    in_order = config["unordered_timestamps"] == "error"
    names = dataset.benchmark_filename_list
    if names is None:
        _check_inter(dataset, _path(dataset, "inter"), in_order)
    else:
        for name in names:
            # The parts of a split of the user's own, with an order of their own.
            _check_inter(dataset, _path(dataset, f"{name}.inter"), in_order=False)
    search = _path(dataset, "search")
    if search.is_file():
        _check_searches(search, _path(dataset, "query"), in_order, **_format_options(dataset))


def sort_interactions(dataset: Dataset) -> None:
    """Sort what RecBole has read by its full times, where ``unordered_timestamps`` asks for it.

    RecBole's own sort, at 32 bits, keeps the order of equal times: all models then have the same targets.
    """
    if dataset.config["unordered_timestamps"] == "sort" and dataset.benchmark_filename_list is None:
        dataset.inter_feat = dataset.inter_feat.sort_values(dataset.time_field, kind="stable", ignore_index=True)


def check_interactions(dataset: Dataset) -> None:
    """Refuse what is left after RecBole's filters if it cannot be split.

    Raises:
        DataError: If nothing is left, or users have too few interactions.
    """
    users = dataset.inter_feat[dataset.uid_field]
    check_filtered(_path(dataset, "inter"), users, dataset.config["short_users"])


def split_off_short_users(dataset: Dataset, groups: Iterable[Sequence[int]]) -> tuple[list[int], list[Sequence[int]]]:
    """Rows of users who are trained on only, and the rows of all others.

    RecBole tests its general models on the second interaction of a user who has two. Its sequential models train on it,
    and have one row less for each user.

    Args:
        dataset: The dataset before it is split.
        groups: Rows of each user.
    """
    groups = list(groups)
    if isinstance(dataset, SequentialDataset):
        return [], groups
    short = [row for rows in groups if len(rows) < MIN_INTERACTIONS for row in rows]
    return short, [rows for rows in groups if len(rows) >= MIN_INTERACTIONS]


def _path(dataset: Dataset, suffix: str) -> Path:
    return Path(dataset.dataset_path) / f"{dataset.dataset_name}.{suffix}"


def _format_options(dataset: Dataset) -> dict[str, str]:
    config = dataset.config
    return {"separator": config["field_separator"], "encoding": config["encoding"] or "utf-8"}


def _check_inter(dataset: Dataset, path: Path, in_order: bool) -> None:
    options = _format_options(dataset)
    types = field_types(path, **options)
    _refuse_byte_order_mark(path, options["encoding"])
    expected = {dataset.uid_field: "token", dataset.iid_field: "token", dataset.time_field: "float"}
    check_types(path, expected, **options)
    load_col, unload_col = dataset._get_load_and_unload_col(FeatureSource.INTERACTION)
    loaded = {field for field in types if (load_col is None or field in load_col) and field not in (unload_col or ())}
    # Numbers that RecBole does not load may be anything; text may hold a quotation mark anywhere.
    fields = [field for field, kind in types.items() if field in loaded or kind != "float"]
    fields += [field for field in expected if field not in fields]
    table = read_columns(path, fields, required=list(expected), **options)
    _refuse_quotation_marks(path, table, options["encoding"])
    if in_order:
        users, times = to_pandas(table[dataset.uid_field]), table[dataset.time_field].to_numpy()
        check_time_order(path, users, times, options["encoding"])


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


def _refuse_byte_order_mark(path: Path, encoding: str) -> None:
    """RecBole takes the mark for a part of the first column's name."""
    with open(path, encoding=encoding, errors="replace") as file:
        if file.read(1) == "\ufeff":
            raise DataError(
                path,
                "begins with a byte order mark, which RecBole's reader does not know",
                "Save it without, or set --encoding=utf-8-sig.",
                line=1,
            )


def _refuse_quotation_marks(path: Path, table: pa.Table, encoding: str) -> None:
    """RecBole takes a cell that begins with one for quoted text, which may go on over tabs and ends of lines."""
    for field, column in zip(table.column_names, table.columns, strict=True):
        if not pa.types.is_string(column.type):
            continue
        rows = np.flatnonzero(np.asarray(pc.starts_with(column, '"')))
        if len(rows):
            raise DataError(
                path,
                f"{field} begins with a quotation mark, which RecBole's reader takes for the start of quoted text",
                "Leave the mark out.",
                line=line_of_row(path, int(rows[0]), encoding),
            )
