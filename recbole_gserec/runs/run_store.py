"""Stored runs: what identifies a run, where it lies, and the files it leaves.

A run is a folder ``<output>/runs/<dataset>/<model>/<seed>-<key>``. Its ``run.json`` is written last and in one step,
so a run without it is unfinished.

"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recbole_gserec.errors import DataError
from recbole_gserec.files import read_json, verify, write_json

ADVICE = "Delete the folder of this run and run the benchmark again"
_COLUMNS = ("part", "user", "item", "rank")
ALL_ITEMS = "test among all items"
"""Part of ``ranks.parquet`` with test targets of some users, ranked among all items and not in a list."""


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
        if not verify(path, ADVICE):
            pq.read_metadata(path)
    except FileNotFoundError as error:
        raise DataError(path, "the file is missing", ADVICE) from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(path, "truncated, or not a Parquet file of ranks", ADVICE) from error


def read_test_ranks(path: Path, part: str = "test") -> TestRanks:
    """Read the rows of one part of a ``ranks.parquet``.

    Raises:
        DataError: If the file is missing or damaged, a rank is missing or below 1, or a user has several targets.
    """
    check_ranks(path)
    try:
        table = pq.read_table(path, columns=list(_COLUMNS), filters=pc.field("part") == part)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DataError(path, "truncated, or not a Parquet file of ranks", ADVICE) from error
    # PyArrow silently leaves out missing columns.
    if missing := [name for name in _COLUMNS if name not in table.column_names]:
        raise DataError(path, f"has no column '{missing[0]}'", ADVICE)
    ranks, users = table["rank"], table["user"].cast(pa.string()).combine_chunks()
    if not pa.types.is_integer(ranks.type):
        raise DataError(path, f"ranks are {ranks.type} and not whole numbers", ADVICE)
    if any(table[name].null_count for name in ("user", "item", "rank")):
        raise DataError(path, "a user, an item or a rank is missing", ADVICE)
    if not len(users):
        raise DataError(path, "has no test targets", ADVICE)
    if pc.min(ranks).as_py() < 1 or pc.max(ranks).as_py() > np.iinfo(np.int32).max:
        raise DataError(path, f"has ranks from {pc.min(ranks)} to {pc.max(ranks)}; the best rank is 1", ADVICE)
    order = pc.sort_indices(users)
    users = users.take(order)
    if len(users) > 1 and pc.any(pc.equal(users[1:], users[:-1])).as_py():
        raise DataError(path, "a user has several test targets; results are compared by users with one each", ADVICE)
    items = table["item"].cast(pa.string()).combine_chunks().take(order)
    return TestRanks(users, items, ranks.combine_chunks().take(order).to_numpy().astype(np.int32))


FORMAT = 1
RUN_FILE, RANKS_FILE, CHECKPOINT_FILE, LOG_FILE = "run.json", "ranks.parquet", "checkpoint.pth", "log.txt"
SPEC_FILE, LOCK_FILE, SETTINGS_FILE, STATE_FILE = "spec.json", ".lock", "settings.yaml", "training.pth"
FINISHED, FAILED = "finished", "failed"

BUSY, INTERRUPTED = 75, 130
"""Exit statuses of a worker: another process is making the run, or the worker was interrupted."""


@dataclass(frozen=True)
class Run:
    """One training of one model, identified by everything that its numbers depend on.

    Attributes:
        dataset: Name of the dataset.
        dataset_digest: Digest of the dataset's files; see :mod:`dataset_files`.
        model: Name of the model.
        seed: RecBole's ``seed``.
        requested: Settings on top of the defaults, as JSON values. Those that only say where or how to run are not part
            of it.
        derived: Name -> SHA-256 of the files that the offline stage made and the model reads.
    """

    dataset: str
    dataset_digest: str
    model: str
    seed: int
    requested: Mapping[str, Any]
    derived: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Ten hexadecimal digits that change if anything about the run changes."""
        parts = {name: value for name, value in self.as_json().items() if name != "derived" or value}
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:10]

    @property
    def title(self) -> str:
        """The name of the run in messages."""
        return f"{self.model} on {self.dataset}, seed {self.seed}"

    def as_json(self) -> dict[str, Any]:
        """Return the attributes as files and keys have them, where the requested settings are ``given``."""
        return {"given" if name == "requested" else name: value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Run:
        """Return the run that :meth:`as_json` describes."""
        return cls(**{"requested" if name == "given" else name: value for name, value in content.items()})

    def folder(self, output: Path) -> Path:
        """Return the folder of the run."""
        return output / "runs" / self.dataset / self.model / f"{self.seed}-{self.key}"


@dataclass(frozen=True)
class Spec:
    """A run, and what is needed to make it on this machine.

    Attributes:
        run: The run.
        folder: Absolute path of the run's folder.
        data_path: Absolute path of the parent folder of all datasets.
        machine: Settings that say where or how to run, and do not change results.
    """

    run: Run
    folder: Path
    data_path: Path
    machine: Mapping[str, Any]

    def write(self) -> Path:
        """Write ``spec.json`` into the folder; return its path.

        Raises:
            DataError: If the folder is a link or contains one.
        """
        refuse_links(self.folder)
        content = {"run": self.run.as_json(), "data_path": str(self.data_path), "machine": dict(self.machine)}
        write_json(self.folder / SPEC_FILE, content)
        return self.folder / SPEC_FILE

    @classmethod
    def read(cls, path: Path) -> Spec:
        """Read a file written by :meth:`write`."""
        content = read_json(path, "Start it again")
        return cls(Run.from_json(content["run"]), path.parent, Path(content["data_path"]), content["machine"])


def refuse_links(folder: Path) -> None:
    """Refuse a folder that is a link or contains links, because its files will be replaced and removed.

    Raises:
        DataError: With the name of the link.
    """
    for path in (folder, *(folder.iterdir() if folder.is_dir() else ())):
        if path.is_symlink():
            raise DataError(path, "a link; files outside the run's folder must not change", "Delete the link")


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return the content of a run's ``run.json``; None if the run is unfinished."""
    try:
        record = read_json(folder / RUN_FILE, ADVICE)
    except (FileNotFoundError, DataError):
        return None
    is_whole = record.get("format") == FORMAT and record.get("status") in (FINISHED, FAILED)
    return record if is_whole else None


def read_status(folder: Path) -> str | None:
    """Return ``finished`` or ``failed``; None if the run is unfinished or its result cannot be read."""
    record = read_run(folder)
    return record["status"] if record and find_damage(folder) is None else None


def find_damage(folder: Path) -> str | None:
    """Describe in one line what is damaged in a run's result; None if nothing is, or there is no result."""
    try:
        record = read_json(folder / RUN_FILE, ADVICE)
        if record.get("status") == FINISHED:
            check_ranks(folder / RANKS_FILE)
    except FileNotFoundError:
        return None
    except DataError as error:
        return f"{error.path}: {error.problem}"
    return None


def write_run(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json`` atomically."""
    write_json(folder / RUN_FILE, record)


_NUMBER = (int, float)
_LONGEST = 1e9  # Seconds.
_ALWAYS = {
    "dataset": str,
    "dataset_digest": str,
    "model": str,
    "seed": int,
    "given": dict,
    "status": str,
    "started": str,
}
_WHEN_FINISHED = {
    "settings": dict,
    "epochs": dict,
    "wall_seconds": _NUMBER,
    "samples_per_epoch": int,
    "parameters": int,
    "peak_memory_bytes": int,
    "device": str,
    "threads": int,
    "test": dict,
    "candidates": dict,
    "versions": dict,
    "machine": dict,
}


def read_record(path: Path) -> dict[str, Any]:
    """Read a ``run.json``.

    Raises:
        DataError: If it is damaged, has another format, or lacks a field that a report needs.
    """
    record = read_json(path, ADVICE)
    if record.get("format") != FORMAT:
        raise DataError(
            path,
            f"is of format {record.get('format')!r}, and this version reads format {FORMAT}",
            "Use the version of recbole-gserec that wrote it, or run the benchmark again",
        )
    _check_fields(path, record, _ALWAYS)
    if record["status"] not in (FINISHED, FAILED):
        raise DataError(path, f"has the status {record['status']!r}", ADVICE)
    if record["status"] == FINISHED:
        _check_fields(path, record, _WHEN_FINISHED)
        _check_epochs(path, record["epochs"])
        if not 0 <= record["wall_seconds"] < _LONGEST:
            raise DataError(path, f"wall_seconds is {record['wall_seconds']!r}", ADVICE)
    try:
        started_at(record)
    except ValueError as error:
        raise DataError(path, f"'started' is {record['started']!r}, which is not a time", ADVICE) from error
    return record


def _check_fields(path: Path, record: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    for name, kind in fields.items():
        value = record.get(name)
        if isinstance(value, bool) or not isinstance(value, kind):
            raise DataError(path, f"{name} is {value!r}" if name in record else f"has no {name}", ADVICE)


def _check_epochs(path: Path, epochs: Mapping[str, Any]) -> None:
    best = epochs.get("best")
    if type(best) is not int or best < 0:
        raise DataError(path, f"the best epoch is {best!r}", ADVICE)
    for name in ("seconds", "cpu_seconds"):
        seconds = epochs.get(name)
        if not isinstance(seconds, list) or not all(
            isinstance(each, _NUMBER) and math.isfinite(each) for each in seconds
        ):
            raise DataError(path, f"the {name} in its epochs are not numbers", ADVICE)


def started_at(record: Mapping[str, Any]) -> datetime:
    """Return when a run started; a time without a zone is UTC."""
    started = datetime.fromisoformat(record["started"])
    return started if started.tzinfo else started.replace(tzinfo=UTC)
