"""The rank of each target and the candidates it was ranked among, in original ids, alike for every model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recbole_gserec.checksums import PARQUET_METADATA, written_with_checksum
from recbole_gserec.evaluation.candidates import order_of_tokens
from recbole_gserec.evaluation.interacted import collect_interactions

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

PARTS = ("valid", "test")
_ROWS_AT_ONCE = 4096


def write_ranks(path: Path, ranks: Mapping[str, pd.DataFrame], dataset: Dataset) -> None:
    """Write the ranks of targets as Parquet with the columns ``part``, ``user``, ``item`` and ``rank`` (1 is best).

    Args:
        path: The file.
        ranks: Part of the split -> the result of the collector's ``per_user_ranks``, in internal ids.
        dataset: The dataset, which maps internal ids to original ids.
    """
    users, items = (np.asarray(dataset.field2id_token[field]) for field in (dataset.uid_field, dataset.iid_field))
    frames = [frame.assign(part=PARTS.index(part)) for part, frame in ranks.items()]
    frame = pd.concat([pd.DataFrame(columns=["part", "user", "item", "rank"]), *frames]).astype(np.int64)
    table = pa.table(
        {
            "part": pa.DictionaryArray.from_arrays(pa.array(frame["part"], type=pa.int8()), pa.array(PARTS)),
            "user": pa.array(users[frame["user"]].astype(str), type=pa.string()),
            "item": pa.array(items[frame["item"]].astype(str), type=pa.string()),
            "rank": pa.array(frame["rank"], type=pa.int32()),
        }
    )
    with written_with_checksum(path) as temporary:
        pq.write_table(table.replace_schema_metadata(PARQUET_METADATA), temporary, compression="zstd")


def candidates_digest(loader: Any) -> str | None:
    """Compute the SHA-256 of the candidate lists of a split; None if targets are ranked among all items.

    The hashed text has one line per target, ordered by user: ``user``, target and negatives, separated by tabs.

    Args:
        loader: Dataloader of the split.
    """
    candidates = getattr(loader, "candidates", None)
    if candidates is None:
        return None
    dataset, candidates = loader._dataset, candidates.numpy()
    items = np.asarray(dataset.field2id_token[dataset.iid_field], dtype=object)
    tokens = np.asarray(dataset.field2id_token[dataset.uid_field], dtype=object)
    users = dataset.inter_feat[dataset.uid_field].numpy()
    # The rows of one user stay in chronological order.
    order = np.argsort(order_of_tokens(tokens)[users], kind="stable")
    digest = hashlib.sha256()
    for start in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        lines = ("\t".join([tokens[users[row]], *items[candidates[row]]]) + "\n" for row in rows)
        digest.update("".join(lines).encode())
    return digest.hexdigest()


def interactions_digest(loaders: Sequence[Any]) -> str:
    """Compute the SHA-256 of the interactions of a run. If targets are equal too, the training interactions are equal.

    The hashed text has one line per interaction, ordered by user and then by item: ``user`` and item, separated by a
    tab. Users with only one interaction are left out, as in RecBole's sequential models.

    Args:
        loaders: Dataloaders of all parts of the split; None for a missing part.
    """
    parts = [loader._dataset for loader in loaders if loader is not None]
    users, items = collect_interactions(parts)
    fields = parts[0].uid_field, parts[0].iid_field
    user_tokens, item_tokens = (np.asarray(parts[0].field2id_token[field], dtype=object) for field in fields)
    order = np.lexsort((order_of_tokens(item_tokens)[items], order_of_tokens(user_tokens)[users]))
    digest = hashlib.sha256()
    for start in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        lines = zip(user_tokens[users[rows]], item_tokens[items[rows]], strict=True)
        digest.update("".join(f"{user}\t{item}\n" for user, item in lines).encode())
    return digest.hexdigest()


def evaluation_mode(config: Mapping[str, Any]) -> str:
    """Return how targets are ranked, such as ``uni99``; both modes if validation and test differ."""
    modes = [config["eval_args"]["mode"][part] for part in ("valid", "test")]
    return "/".join(dict.fromkeys(modes))
