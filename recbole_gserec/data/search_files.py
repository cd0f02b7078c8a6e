"""Reading and checking the files ``.search``, ``.query`` and ``.code`` of a dataset."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recbole_gserec.errors import DataError
from recbole_gserec.files import field_types, line_of_row, read_columns

SEARCH_COLUMNS = {
    "search_user_id": "token",
    "search_query_id": "token",
    "search_timestamp": "float",
    "search_item_ids": "token_seq",
}
QUERY_COLUMNS = {"query_id": "token", "query_words": "token_seq"}
CODE_COLUMNS = {"code_user_id": "token", "search_codes": "token_seq", "rec_codes": "token_seq"}


@dataclass
class FlatSequences:
    """A ``token_seq`` column: ``frame[field]`` holds the elements, row *i* owns ``offsets[i]:offsets[i + 1]``."""

    frame: pd.DataFrame
    offsets: np.ndarray


def read_search_file(path: str | Path, **format_options: str) -> tuple[pd.DataFrame, FlatSequences]:
    """Read ``.search``.

    Returns:
        One row per search (user, query, time), and the clicked items.

    Raises:
        DataError: If the file is missing, malformed or has no search.
    """
    table, sequences = _read(path, SEARCH_COLUMNS, **format_options)
    if len(table) == 0:
        raise DataError(path, "no search in it", "Search-aware models need searches; use RecBole's models without.")
    return table, sequences["search_item_ids"]


def read_query_file(path: str | Path, **format_options: str) -> tuple[pd.DataFrame, FlatSequences]:
    """Read ``.query``: one row per query, and the words.

    Raises:
        DataError: If the file is missing or malformed, or a query occurs twice.
    """
    table, sequences = _read(path, QUERY_COLUMNS, **format_options)
    refuse_duplicates(path, table["query_id"], "query")
    return table, sequences["query_words"]


def read_code_file(path: str | Path, **format_options: str) -> tuple[pd.DataFrame, dict[str, FlatSequences]]:
    """Read ``.code``: one row per user, and the codes of the two sides.

    Raises:
        DataError: If the file is missing or malformed, or a user occurs twice.
    """
    table, sequences = _read(path, CODE_COLUMNS, **format_options)
    refuse_duplicates(path, table["code_user_id"], "user")
    return table, sequences


def _read(
    path: str | Path, columns: dict[str, str], *, separator: str, seq_separator: str, encoding: str
) -> tuple[pd.DataFrame, dict[str, FlatSequences]]:
    check_types(path, columns, separator=separator, encoding=encoding)
    sequence_fields = [field for field, kind in columns.items() if kind.endswith("_seq")]
    flat_fields = [field for field in columns if field not in sequence_fields]
    table = read_columns(path, list(columns), separator=separator, encoding=encoding, required=flat_fields)
    frame = pd.DataFrame({field: to_pandas(table[field]) for field in flat_fields})
    sequences = {field: split_sequences(table[field], field, seq_separator) for field in sequence_fields}
    return frame, sequences


def check_types(path: str | Path, columns: dict[str, str], *, separator: str, encoding: str) -> None:
    """Raise DataError if the header declares a column with the wrong type."""
    types = field_types(path, separator=separator, encoding=encoding)
    for field, kind in columns.items():
        if field in types and types[field] != kind:
            raise DataError(
                path, f"'{field}:{types[field]}' has the wrong type", f"Name the column '{field}:{kind}'.", line=1
            )


def to_pandas(column: pa.ChunkedArray) -> pd.Series:
    """Convert text columns to categorical ones, which store each distinct token once."""
    if pa.types.is_string(column.type):
        column = column.dictionary_encode()
    return column.to_pandas()


def split_sequences(column: pa.ChunkedArray, field: str, separator: str) -> FlatSequences:
    """Split the cells of a ``token_seq`` column; repeated separators produce no empty tokens."""
    cells = column.combine_chunks()
    lists = pc.split_pattern(cells, separator)
    owners, tokens = pc.list_parent_indices(lists), lists.flatten()
    is_token = pc.not_equal(tokens, "")
    counts = np.bincount(owners.filter(is_token).to_numpy(), minlength=len(cells))
    frame = pd.DataFrame({field: to_pandas(pa.chunked_array([tokens.filter(is_token)]))})
    return FlatSequences(frame, np.concatenate([[0], counts.cumsum()]))


def refuse_duplicates(path: str | Path, tokens: pd.Series, what: str) -> None:
    """Raise DataError if a token occurs more than once."""
    repeated = tokens[tokens.duplicated()]
    if len(repeated):
        raise DataError(path, f"{what} '{repeated.iloc[0]}' occurs more than once", "Keep one row for each.")


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

    def permuted(self, seed: int) -> "UserCodes":
        """Exchange the codes of users with codes at random, as a control: what codes say about users is lost."""
        users = self.codes.any(1).nonzero().squeeze(1)
        order = torch.randperm(len(users), generator=torch.Generator().manual_seed(seed))
        codes = self.codes.clone()
        codes[users] = self.codes[users[order]]
        return UserCodes(codes, self.n_codes)

    def by_prefix(self) -> "UserCodes":
        """Number the prefixes of codes, (s1), (s1 s2), ..., that at least two users share.

        A code below the first level is a place inside the cell of the codes before it. Alone, it says little.

        Returns:
            For each user the prefix of each length, in the same shape. 0 where no other user has this prefix: a message
            through it would reach nobody.
        """
        nodes, n_nodes = np.zeros(self.codes.shape, dtype=np.int64), 0
        rows, prefixes = np.arange(len(nodes)), np.zeros(len(nodes), dtype=np.int64)
        for level, codes in enumerate(self.codes.numpy().T):
            # Who shares a prefix with nobody shares no longer one either.
            coded = codes[rows] > 0
            rows, prefixes = rows[coded], prefixes[coded]
            keys = prefixes * (self.n_codes + 1) + codes[rows]
            _, ids, counts = np.unique(keys, return_inverse=True, return_counts=True)
            shared = counts > 1
            rows, prefixes = rows[shared[ids]], (shared.cumsum() - 1)[ids[shared[ids]]]
            nodes[rows, level] = n_nodes + prefixes + 1
            n_nodes += int(shared.sum())
        return UserCodes(torch.from_numpy(nodes), n_nodes)


def user_codes(
    path: str | Path, users: np.ndarray, n_users: int, sequences: FlatSequences, side: str, advice: str
) -> UserCodes:
    """Arrange one side's codes by user.

    Args:
        path: The ``.code`` file, for error messages.
        users: ``[n_rows]`` user id of each row of the file.
        n_users: Number of user ids, including padding.
        sequences: The codes, flat; ``sequences.frame`` has one column of tokens.
        side: ``search`` or ``recommendation``, for error messages.
        advice: Advice on how to make the codes again.

    Raises:
        DataError: If a row's number of codes is neither 0 nor that of the others.
    """
    lengths = np.diff(sequences.offsets)
    n_levels = int(lengths.max()) if len(lengths) else 0
    if n_levels == 0:
        raise DataError(path, f"no {side} codes in it", advice)
    ragged = np.flatnonzero((lengths != 0) & (lengths != n_levels))
    if len(ragged):
        problem = f"the row has {lengths[ragged[0]]} {side} codes, but others have {n_levels}"
        raise DataError(path, problem, advice, line=line_of_row(path, int(ragged[0])))
    rows = np.flatnonzero(lengths)
    tokens = sequences.frame.iloc[:, 0].astype("category").cat
    levels = np.tile(np.arange(n_levels), len(rows))
    distinct, ids = np.unique(levels * len(tokens.categories) + tokens.codes.to_numpy(), return_inverse=True)
    codes = np.zeros((n_users, n_levels), dtype=np.int64)
    codes[users[rows]] = ids.reshape(-1, n_levels) + 1
    return UserCodes(torch.from_numpy(codes), len(distinct))


def check_users(path: str | Path, coded: np.ndarray, known: np.ndarray, names: np.ndarray, advice: str) -> None:
    """Refuse a ``.code`` file whose users differ from those of the dataset.

    Args:
        path: The file.
        coded: ``[n_users]`` bool, whether the user is in the file.
        known: ``[n_users]`` bool, whether the user has an interaction or a search.
        names: ``[n_users]`` original ids.
        advice: Advice on how to make the codes again.

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
    raise DataError(path, problem, advice)
