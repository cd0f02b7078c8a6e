"""Refuses input that RecBole would accept without a message."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_gserec.data.atomic_files import line_of_row
from recbole_gserec.errors import DataError
from recbole_gserec.setting_values import check_choice

UNORDERED_TIMESTAMPS = ("error", "sort")
SHORT_USERS = ("error", "keep")
MIN_INTERACTIONS = 3


def check_policies(config: Mapping[str, Any]) -> None:
    """Refuse unknown values of ``unordered_timestamps`` and ``short_users``."""
    check_choice("unordered_timestamps", config["unordered_timestamps"], UNORDERED_TIMESTAMPS)
    check_choice("short_users", config["short_users"], SHORT_USERS)


def check_time_order(path: str | Path, users: pd.Series, times: np.ndarray, encoding: str) -> None:
    """Refuse a file in which a user's times are not ascending.

    Equal times keep the order of the file, and RecBole stores times as 32-bit floats, which round times in seconds to
    about a minute. Therefore only a file in chronological order gives every model the same targets.

    Args:
        path: The file.
        users: User of each row, categorical, in file order.
        times: Time of each row.
        encoding: Of the file.

    Raises:
        DataError: With the first line whose time is earlier than that of the same user's row above.
    """
    codes = users.cat.codes.to_numpy()
    order = np.argsort(codes, kind="stable")
    backwards = (np.diff(times[order]) < 0) & (np.diff(codes[order]) == 0)
    rows = order[1:][backwards]
    if len(rows) == 0:
        return
    row = int(rows.min())
    raise DataError(
        path,
        f"the time of user '{users.iloc[row]}' runs backwards ({len(rows):,} rows in all)",
        "Sort each user's rows by time, or let them be sorted: --unordered_timestamps=sort",
        line=line_of_row(path, row, encoding),
    )


def check_filtered(path: str | Path, users: pd.Series, short_users: str) -> None:
    """Refuse interactions that cannot be split, after all filters.

    Args:
        path: The ``.inter`` file.
        users: User of each remaining interaction.
        short_users: The setting of this name.

    Raises:
        DataError: If no interactions remain, or users have too few interactions and the setting does not allow it.
    """
    if len(users) == 0:
        remedy = "Check the file, and settings such as user_inter_num_interval and val_interval."
        raise DataError(path, "no interaction in it passes the filters", remedy)
    if short_users == "error":
        check_short_users(path, users)


def check_known_queries(path: str | Path, searched: pd.Series, known: pd.Series, encoding: str) -> None:
    """Refuse searches whose query has no row in ``.query``.

    Args:
        path: The ``.search`` file.
        searched: Query of each search, in file order.
        known: The queries of ``.query``.
        encoding: Of the file.

    Raises:
        DataError: With the first such query.
    """
    unknown = np.flatnonzero(~searched.isin(known))
    if len(unknown):
        raise DataError(
            path,
            f"{len(unknown):,} searches have a query that is not in .query (first: '{searched.iloc[unknown[0]]}')",
            "Add the queries to .query.",
            line=line_of_row(path, int(unknown[0]), encoding),
        )


def check_short_users(path: str | Path, users: pd.Series) -> None:
    """Refuse users with too few interactions for a training, a validation and a test target.

    Args:
        path: The ``.inter`` file.
        users: User of each interaction that remains after filtering.

    Raises:
        DataError: With the number of such users, and one of them.
    """
    counts = users.value_counts()
    counts = counts[counts > 0]
    short = counts[counts < MIN_INTERACTIONS]
    if len(short):
        raise DataError(
            path,
            f"{len(short):,} users have fewer than {MIN_INTERACTIONS} interactions (one of them: '{short.index[0]}')",
            f'Drop them with --user_inter_num_interval="[{MIN_INTERACTIONS},inf)", '
            "or train on them without evaluating them: --short_users=keep",
        )
