"""Counts the events of each user in the training part, from a dataset's files as models read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_gserec.benchmark.dataset_files import dataset_digest
from recbole_gserec.data.fingerprint import SETTINGS
from recbole_gserec.errors import DataError

SEARCHES, INTERACTIONS = "searches", "interactions"
KINDS = (SEARCHES, INTERACTIONS)
# Further settings that decide which rows are read and where the training part ends.
_OF_FILES = (*SETTINGS, "field_separator", "seq_separator", "encoding", "load_col", "unload_col", "eval_args")


def check_files(dataset: str, data_path: Path, digest: str) -> None:
    """Refuse a dataset whose files changed since the runs were made.

    Args:
        dataset: Name of the dataset.
        data_path: Parent folder of all datasets.
        digest: Digest recorded in the runs; see :mod:`recbole_gserec.benchmark.dataset_files`.

    Raises:
        DataError: If the files differ or are missing.
    """
    folder = Path(data_path) / dataset
    found = dataset_digest({"benchmark_filename": None, "data_path": folder, "dataset": dataset})
    if found != digest:
        raise DataError(
            folder,
            "its files have changed since the runs were made",
            "Name the folder of the original files with --data-path",
        )


def training_counts(dataset: str, data_path: Path, given: Mapping[str, Any], kind: str) -> pd.Series:
    """Count each user's events before the user's first evaluation target.

    Args:
        dataset: Name of the dataset.
        data_path: Parent folder of all datasets.
        given: Settings of a run; only those that say how files are read and split are used.
        kind: ``searches`` or ``interactions``.

    Returns:
        Number of events by original id of the user.

    Raises:
        DataError: If the files are malformed, or there are no searches to count.
    """
    from recbole_gserec.data.atomic_files import has_no_rows

    search_file = Path(data_path) / dataset / f"{dataset}.search"
    has_searches = search_file.is_file() and not has_no_rows(search_file, given.get("encoding") or "utf-8")
    if kind == SEARCHES and not has_searches:
        raise DataError(search_file, "there are no searches", "Group the users by interactions: --by interactions")
    events, users = _events_of(dataset, data_path, given, has_searches)
    starts, ends = (
        (events.search_offsets, events.train_search_ends)
        if kind == SEARCHES
        else (events.item_offsets, events.train_ends)
    )
    counts = (ends - starts[:-1]).numpy()
    return pd.Series(counts[1:], index=users[1:].astype(object), name=kind)


def _events_of(dataset: str, data_path: Path, given: Mapping[str, Any], has_searches: bool) -> tuple[Any, Any]:
    from recbole_gserec.config import make_config
    from recbole_gserec.data.dataset import SearchDataset

    settings = {name: given[name] for name in _OF_FILES if name in given}
    config = make_config("GSERec", dataset, settings, {"data_path": str(data_path), "use_gpu": False})
    # Queries and codes are not counted.
    config.final_config_dict["additional_feat_suffix"] = ["search"] if has_searches else []
    built = SearchDataset(config)
    built.build()
    return built.events, built.field2id_token[built.uid_field]
