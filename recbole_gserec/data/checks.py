"""Refusals of input that RecBole would accept in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from recbole_gserec.data.atomic_files import line_of_row
from recbole_gserec.errors import DataError, SettingError

UNORDERED_TIMESTAMPS = ("error", "sort")
SHORT_USERS = ("error", "keep")
MIN_INTERACTIONS = 3


def check_choice(name: str, value: object, choices: tuple) -> None:
    """Raise SettingError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise SettingError(f"{name} is '{value}'; it takes {' or '.join(repr(choice) for choice in choices)}")


def check_time_order(path: str | Path, users: pd.Series, times: np.ndarray, encoding: str) -> None:
    """Refuse a file in which a user's clock runs backwards.

    Equal times keep the order of the file, and RecBole keeps times with the precision of 32-bit floats, about a minute
    for times in seconds. Only a file in time order therefore gives every model the same targets.

    Args:
        path: The file.
        users: User of each row, categorical, in file order.
        times: Time of each row.
        encoding: Of the file.

    Raises:
        DataError: Naming the first line whose time is earlier than that of the user's row above it.
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


def check_short_users(path: str | Path, users: pd.Series) -> None:
    """Refuse users with too few interactions for a training, a validation and a test target.

    Args:
        path: The ``.inter`` file.
        users: User of each interaction that is left after filtering.

    Raises:
        DataError: Naming how many there are, and one of them.
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
