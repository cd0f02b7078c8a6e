"""Stored runs: what identifies a run, where it is stored, and the file with its result.

A run is a folder ``<output>/runs/<dataset>/<model>/<seed>-<key>``. Its ``run.json`` is written last and atomically, so
a run without it is unfinished.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recbole_gserec.benchmark.ranks_file import REMEDY, check_ranks
from recbole_gserec.errors import DataError
from recbole_gserec.json_files import read_json, write_json

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
        given: Requested settings on top of the defaults, as JSON values, without those that only say where or how to
            run.
        derived: Name -> SHA-256 of the files that the offline stage made and the model reads.
    """

    dataset: str
    dataset_digest: str
    model: str
    seed: int
    given: Mapping[str, Any]
    derived: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Ten hexadecimal digits that change if anything about the run changes."""
        parts = {name: value for name, value in asdict(self).items() if name != "derived" or value}
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:10]

    @property
    def title(self) -> str:
        """The name of the run in messages."""
        return f"{self.model} on {self.dataset}, seed {self.seed}"

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
        content = {"run": asdict(self.run), "data_path": str(self.data_path), "machine": dict(self.machine)}
        write_json(self.folder / SPEC_FILE, content)
        return self.folder / SPEC_FILE

    @classmethod
    def read(cls, path: Path) -> Spec:
        """Read a file written by :meth:`write`."""
        content = read_json(path, "Start it again")
        return cls(Run(**content["run"]), path.parent, Path(content["data_path"]), content["machine"])


def refuse_links(folder: Path) -> None:
    """Refuse a folder that is a link or contains links, because its files will be replaced and removed.

    Raises:
        DataError: With the name of the link.
    """
    for path in (folder, *(folder.iterdir() if folder.is_dir() else ())):
        if path.is_symlink():
            raise DataError(path, "a link, and nothing outside of its folder may be changed", "Delete the link")


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return the content of a run's ``run.json``; None if the run is unfinished."""
    try:
        record = read_json(folder / RUN_FILE, REMEDY)
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
        record = read_json(folder / RUN_FILE, REMEDY)
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
