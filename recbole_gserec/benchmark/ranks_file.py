"""Reads the ranks of a run's test targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recbole_gserec.checksums import verify
from recbole_gserec.errors import DataError

REMEDY = "Delete the folder of this run and run the benchmark again"
_COLUMNS = ("part", "user", "item", "rank")


@dataclass(frozen=True, eq=False)
class TestRanks:
    """Ranks with one target per user, in the order of the users' ids.

    Attributes:
        users: Original ids, ``[n_users]`` strings, ascending.
        items: Original id of each user's target, ``[n_users]`` strings.
        ranks: ``[n_users]``, 1 for the best.
    """

    __test__: ClassVar[bool] = False  # Keeps pytest from collecting the class because of its name.

    users: pa.Array
    items: pa.Array
    ranks: NDArray[np.int32]

    def same_targets(self, other: TestRanks) -> bool:
        """Return whether both have the same users with the same targets."""
        return self.users.equals(other.users) and self.items.equals(other.items)


def check_ranks(path: Path) -> None:
    """Raise DataError unless a complete ``ranks.parquet`` exists, as far as can be seen without reading it."""
    try:
        # Without a checksum, look for the end of the file, which a truncated file lacks.
        if not verify(path, REMEDY):
            pq.read_metadata(path)
    except FileNotFoundError as error:
        raise DataError(path, "the file is missing", REMEDY) from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(path, "truncated, or no Parquet file of ranks", REMEDY) from error


def read_test_ranks(path: Path) -> TestRanks:
    """Read the rows of a ``ranks.parquet`` whose part is ``test``.

    Raises:
        DataError: If the file is missing or damaged, a rank is missing or below 1, or a user has several targets.
    """
    check_ranks(path)
    try:
        table = pq.read_table(path, columns=list(_COLUMNS), filters=pc.field("part") == "test")
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DataError(path, "truncated, or no Parquet file of ranks", REMEDY) from error
    # PyArrow silently leaves out missing columns.
    if missing := [name for name in _COLUMNS if name not in table.column_names]:
        raise DataError(path, f"has no column '{missing[0]}'", REMEDY)
    ranks, users = table["rank"], table["user"].cast(pa.string()).combine_chunks()
    if not pa.types.is_integer(ranks.type):
        raise DataError(path, f"ranks are {ranks.type} and not whole numbers", REMEDY)
    if any(table[name].null_count for name in ("user", "item", "rank")):
        raise DataError(path, "a user, an item or a rank is missing", REMEDY)
    if not len(users):
        raise DataError(path, "has no test targets", REMEDY)
    if pc.min(ranks).as_py() < 1 or pc.max(ranks).as_py() > np.iinfo(np.int32).max:
        raise DataError(path, f"has ranks from {pc.min(ranks)} to {pc.max(ranks)}; the best rank is 1", REMEDY)
    order = pc.sort_indices(users)
    users = users.take(order)
    if len(users) > 1 and pc.any(pc.equal(users[1:], users[:-1])).as_py():
        raise DataError(path, "a user has several test targets; results are compared by users with one each", REMEDY)
    items = table["item"].cast(pa.string()).combine_chunks().take(order)
    return TestRanks(users, items, ranks.combine_chunks().take(order).to_numpy().astype(np.int32))
