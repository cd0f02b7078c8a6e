"""The checks and rules of :class:`SearchDataset` for RecBole's own datasets, whose reader accepts almost anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from recbole.data.dataset import Dataset, SequentialDataset

from recbole_gserec.data.atomic_files import has_no_rows, read_columns
from recbole_gserec.data.checks import (
    MIN_INTERACTIONS,
    check_filtered,
    check_known_queries,
    check_time_order,
)
from recbole_gserec.data.feature_files import format_options
from recbole_gserec.data.search_files import QUERY_COLUMNS, SEARCH_COLUMNS, check_types, refuse_duplicates, to_pandas


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
