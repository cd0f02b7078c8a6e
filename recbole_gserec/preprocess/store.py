"""The store of the offline stage: every summary and every vector, with its provenance.

An SQLite file, because it survives being killed at any time: a batch is stored completely or not at all. An entry is
found by the hash of its input (the prompt or the text) and of its maker (the model and all settings that affect the
output). A change of either recomputes only what depends on it. Each entry has its own checksum.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recbole_gserec.errors import DataError
from recbole_gserec.preprocess.answers import Summary

VERSION = 1
_APPLICATION = 0x47534552
_ADVICE = "Restore the file, or delete it: its summaries and vectors are then made again."
_KEYS_PER_QUERY = 500
_SCHEMA = """
CREATE TABLE makers (hash TEXT PRIMARY KEY, kind TEXT NOT NULL, description TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE summaries (
    input TEXT NOT NULL, maker TEXT NOT NULL, status TEXT NOT NULL, text TEXT NOT NULL, attempts INTEGER NOT NULL,
    n_records INTEGER, prompt_tokens INTEGER, answer_tokens INTEGER, checksum INTEGER NOT NULL,
    PRIMARY KEY (maker, input)
);
CREATE TABLE vectors (
    input TEXT NOT NULL, maker TEXT NOT NULL, vector BLOB NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (maker, input)
);
"""


def text_hash(text: str) -> str:
    """Return the hash of a prompt or text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def maker_hash(description: Mapping[str, Any]) -> str:
    """Return the hash of everything that a maker's output depends on."""
    return text_hash(json.dumps(description, sort_keys=True, ensure_ascii=False))


class Store:
    """The store of one dataset; close it, or use it as a context manager.

    Args:
        path: The file; it is created if missing.

    Raises:
        DataError: If the file is damaged or something else. Damage of single entries is found when they are read.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = None
        with self._watched():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A second process waits for the first one's batch; transactions are started explicitly.
            connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            self._connection = connection
            # Damaged texts can be read, and are found by their checksum.
            connection.text_factory = partial(str, encoding="utf-8", errors="replace")
            self._prepare()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError(f"the store {self.path} is closed")
        return self._connection

    def _prepare(self) -> None:
        # No other process may see, or leave, only some of the tables.
        self._open.execute("BEGIN IMMEDIATE")
        version = self._pragma("user_version")
        is_new = version == 0 and not self._open.execute("SELECT 1 FROM sqlite_master").fetchone()
        if is_new:
            for statement in _SCHEMA.split(";"):
                self._open.execute(statement)
            self._open.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._open.execute(f"PRAGMA user_version = {VERSION}")
        elif self._pragma("application_id") != _APPLICATION:
            raise DataError(self.path, "not a store of summaries and vectors", "Set preprocess_store to another file.")
        elif version != VERSION:
            raise DataError(self.path, f"store format {version}; this version reads format {VERSION}", _ADVICE)
        self._open.execute("COMMIT")

    def _pragma(self, name: str) -> int:
        return self._open.execute(f"PRAGMA {name}").fetchone()[0]

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            self.close()
            raise
        # For damaged tables, SQLite's messages may not be valid UTF-8.
        except (OSError, sqlite3.DatabaseError, UnicodeDecodeError) as error:
            self.close()
            reason = " ".join(str(error).split())
            # The statements are correct, so an error in one comes from the tables.
            is_wrong_table = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
            if isinstance(error, OSError | sqlite3.OperationalError) and not is_wrong_table:
                advice = "Is the folder writable?"
                raise DataError(self.path, f"cannot be read or written ({reason})", advice) from error
            raise DataError(self.path, f"damaged ({reason})", _ADVICE) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._watched():
            self._open.execute("BEGIN IMMEDIATE")
            try:
                yield self._open
            except BaseException:
                # On a full disk, SQLite has already rolled back.
                if self._open.in_transaction:
                    self._open.execute("ROLLBACK")
                raise
            self._open.execute("COMMIT")

    # ---- makers -------------------------------------------------------------------------------------------------

    def add_maker(self, kind: str, description: Mapping[str, Any]) -> str:
        """Add a summarizer or an encoder; return its hash."""
        key = maker_hash(description)
        with self._transaction() as connection:
            content = json.dumps(description, sort_keys=True, ensure_ascii=False)
            connection.execute("INSERT OR IGNORE INTO makers VALUES (?, ?, ?)", (key, kind, content))
        return key

    # ---- summaries ----------------------------------------------------------------------------------------------

    def summaries(self, inputs: Sequence[str], maker: str) -> dict[str, Summary]:
        """Return the stored summaries of this maker for the given prompts' hashes.

        Raises:
            DataError: If one of them is damaged.
        """
        columns = "input, status, text, attempts, n_records, prompt_tokens, answer_tokens, checksum"
        found = {}
        for key, *values, checksum in self._rows("summaries", columns, inputs, maker):
            # Checksums of earlier versions do not include the maker.
            if checksum not in (_checksum(key, *values, maker), _checksum(key, *values)):
                raise DataError(self.path, f"damaged: the summary of prompt {str(key)[:12]} has changed", _ADVICE)
            found[key] = Summary(*values)
        return found

    def add_summaries(self, summaries: Mapping[str, Summary], maker: str) -> None:
        """Store a batch completely, or not at all if interrupted."""
        rows = ((key, maker, *summary, _checksum(key, *summary, maker)) for key, summary in summaries.items())
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    # ---- vectors ------------------------------------------------------------------------------------------------

    def vectors(self, inputs: Sequence[str], maker: str) -> dict[str, np.ndarray]:
        """Return the stored vectors of this maker for the given texts' hashes: ``float32``, ``[d]`` each.

        Raises:
            DataError: If one of them is damaged.
        """
        found = {}
        for key, vector, checksum in self._rows("vectors", "input, vector, checksum", inputs, maker):
            if checksum not in (_checksum(key, vector, maker), _checksum(key, vector)):
                raise DataError(self.path, f"damaged: the vector of text {str(key)[:12]} has changed", _ADVICE)
            found[key] = np.frombuffer(vector, dtype="<f4")
        return found

    def add_vectors(self, inputs: Sequence[str], vectors: np.ndarray, maker: str) -> None:
        """Store a batch of vectors ``[n, d]`` completely, or not at all if interrupted."""
        blobs = (np.ascontiguousarray(vector, dtype="<f4").tobytes() for vector in vectors)
        rows = ((key, maker, blob, _checksum(key, blob, maker)) for key, blob in zip(inputs, blobs, strict=True))
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)

    def _rows(self, table: str, columns: str, inputs: Sequence[str], maker: str) -> Iterator[tuple]:
        with self._watched():
            for start in range(0, len(inputs), _KEYS_PER_QUERY):
                keys = inputs[start : start + _KEYS_PER_QUERY]
                placeholders = ", ".join("?" * len(keys))
                query = f"SELECT {columns} FROM {table} WHERE maker = ? AND input IN ({placeholders})"
                yield from self._open.execute(query, (maker, *keys))


def _checksum(*values: Any) -> int:
    """Compute the checksum of an entry's values, which may be bytes or numbers."""
    checksum = 0
    for value in values:
        part = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
        checksum = zlib.crc32(part, checksum)
    return checksum
