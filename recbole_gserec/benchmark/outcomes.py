"""The rank of every target, and which candidates it was ranked among: in original ids, the same for every model."""

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
from recbole_gserec.evaluation.interacted import interactions_of

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

PARTS = ("valid", "test")
_ROWS_AT_ONCE = 4096


def write_ranks(path: Path, ranks: Mapping[str, pd.DataFrame], dataset: Dataset) -> None:
    """Write the ranks of targets as Parquet: ``part``, ``user``, ``item``, ``rank`` (1 is best).

    Args:
        path: The file.
        ranks: Part of the split -> what the collector's ``per_user_ranks`` returns, in internal ids.
        dataset: The dataset; it knows the original ids.
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
    """SHA-256 of the candidate lists of a split; None where targets are ranked among all items.

    It is that of a text with one line per target, ordered by user: ``user``, target and negatives, separated by tabs.

    Args:
        loader: The dataloader of the split.
    """
    candidates = getattr(loader, "candidates", None)
    if candidates is None:
        return None
    dataset, candidates = loader._dataset, candidates.numpy()
    items = np.asarray(dataset.field2id_token[dataset.iid_field], dtype=object)
    tokens = np.asarray(dataset.field2id_token[dataset.uid_field], dtype=object)
    users = dataset.inter_feat[dataset.uid_field].numpy()
    # A user's own rows stay in the order of time.
    order = np.argsort(order_of_tokens(tokens)[users], kind="stable")
    digest = hashlib.sha256()
    for start in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        lines = ("\t".join([tokens[users[row]], *items[candidates[row]]]) + "\n" for row in rows)
        digest.update("".join(lines).encode())
    return digest.hexdigest()


def interactions_digest(loaders: Sequence[Any]) -> str:
    """SHA-256 of the interactions that a model was given: with equal targets, those it was trained on are equal too.

    It is that of a text with one line per interaction, in the order of users and of their items: ``user`` and item,
    separated by a tab. Interactions of users with only one are left out, as RecBole's sequential models do.

    Args:
        loaders: The dataloaders of all parts of the split; None for a part that there is not.
    """
    parts = [loader._dataset for loader in loaders if loader is not None]
    users, items = interactions_of(parts)
    fields = parts[0].uid_field, parts[0].iid_field
    user_tokens, item_tokens = (np.asarray(parts[0].field2id_token[field], dtype=object) for field in fields)
    order = np.lexsort((order_of_tokens(item_tokens)[items], order_of_tokens(user_tokens)[users]))
    digest = hashlib.sha256()
    for start in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        lines = zip(user_tokens[users[rows]], item_tokens[items[rows]], strict=True)
        digest.update("".join(f"{user}\t{item}\n" for user, item in lines).encode())
    return digest.hexdigest()


def mode_of(config: Mapping[str, Any]) -> str:
    """How targets are ranked, such as ``uni99``; both where validation and test differ."""
    modes = [config["eval_args"]["mode"][part] for part in ("valid", "test")]
    return "/".join(dict.fromkeys(modes))
