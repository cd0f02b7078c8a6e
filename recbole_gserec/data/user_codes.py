"""The discrete codes of every user, as arrays for the user-code graphs (Section 4.1.3 of GSERec)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recbole_gserec.data.atomic_files import line_of_row
from recbole_gserec.data.search_files import FlatSequences
from recbole_gserec.errors import DataError

CODES_OF_SIDE = {"search": "search_codes", "recommendation": "rec_codes"}
"""Side of a user's history -> column of the ``.code`` file."""


@dataclass(frozen=True)
class UserCodes:
    """Codes of one side.

    Shapes:
        - **codes**: ``[n_users, L]``, ``int64``, coarse to fine. 0 means no code; user 0 is padding. A code's id
          includes its level, so equal names on different levels are different codes.
    """

    codes: Tensor
    n_codes: int


def user_codes(
    path: str | Path, users: np.ndarray, n_users: int, sequences: FlatSequences, side: str, remedy: str
) -> UserCodes:
    """Arrange one side's codes by user.

    Args:
        path: The ``.code`` file, for error messages.
        users: ``[n_rows]`` user id of each row of the file.
        n_users: Number of user ids, including padding.
        sequences: The codes, flat; ``sequences.frame`` has one column of tokens.
        side: ``search`` or ``recommendation``, for error messages.
        remedy: Advice on how to make the codes again.

    Raises:
        DataError: If a row's number of codes is neither 0 nor that of the others.
    """
    lengths = np.diff(sequences.offsets)
    n_levels = int(lengths.max()) if len(lengths) else 0
    if n_levels == 0:
        raise DataError(path, f"no {side} codes in it", remedy)
    ragged = np.flatnonzero((lengths != 0) & (lengths != n_levels))
    if len(ragged):
        problem = f"a row with {lengths[ragged[0]]} {side} codes where others have {n_levels}"
        raise DataError(path, problem, remedy, line=line_of_row(path, int(ragged[0])))
    rows = np.flatnonzero(lengths)
    tokens = sequences.frame.iloc[:, 0].astype("category").cat
    levels = np.tile(np.arange(n_levels), len(rows))
    distinct, ids = np.unique(levels * len(tokens.categories) + tokens.codes.to_numpy(), return_inverse=True)
    codes = np.zeros((n_users, n_levels), dtype=np.int64)
    codes[users[rows]] = ids.reshape(-1, n_levels) + 1
    return UserCodes(torch.from_numpy(codes), len(distinct))


def check_users(path: str | Path, coded: np.ndarray, known: np.ndarray, names: np.ndarray, remedy: str) -> None:
    """Refuse a ``.code`` file whose users differ from those of the dataset.

    Args:
        path: The file.
        coded: ``[n_users]`` bool, whether the user is in the file.
        known: ``[n_users]`` bool, whether the user has an interaction or a search.
        names: ``[n_users]`` original ids.
        remedy: Advice on how to make the codes again.

    Raises:
        DataError: If the two sets differ, ignoring the padding user 0.
    """
    without, unknown = np.flatnonzero(known & ~coded), np.flatnonzero(coded & ~known)
    without, unknown = without[without > 0], unknown[unknown > 0]
    if len(without):
        problem = f"{len(without):,} of the dataset's users have no codes (first: '{names[without[0]]}')"
    elif len(unknown):
        problem = f"{len(unknown):,} users are in neither .inter nor .search (first: '{names[unknown[0]]}')"
    else:
        return
    raise DataError(path, problem, remedy)
