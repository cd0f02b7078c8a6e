"""Stored runs: what identifies one, where it lies, and the file that tells how it went.

A run is a folder ``<output>/runs/<dataset>/<model>/<seed>-<key>``. Its ``run.json`` is written last and at once: a run
without one is unfinished.
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
"""Exit status of a worker where another process makes the run, and where it was interrupted."""


@dataclass(frozen=True)
class Run:
    """One training of one model, identified by all that its numbers depend on.

    Attributes:
        dataset: Name of the dataset.
        dataset_digest: Of the dataset's files; see :mod:`dataset_files`.
        model: Name of the model.
        seed: RecBole's ``seed``.
        given: Settings on top of the defaults, as JSON can hold them; none that only says where or how to run.
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
        """Ten hexadecimal digits that differ where anything of the run does."""
        parts = {name: value for name, value in asdict(self).items() if name != "derived" or value}
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:10]

    @property
    def title(self) -> str:
        """How the run is named in messages."""
        return f"{self.model} on {self.dataset}, seed {self.seed}"

    def folder(self, output: Path) -> Path:
        """Where the run lies."""
        return output / "runs" / self.dataset / self.model / f"{self.seed}-{self.key}"


@dataclass(frozen=True)
class Spec:
    """A run with what is needed to make it here.

    Attributes:
        run: The run.
        folder: Where it is stored; absolute.
        data_path: Folder of all datasets; absolute.
        machine: Settings that say where or how to run, and change no number.
    """

    run: Run
    folder: Path
    data_path: Path
    machine: Mapping[str, Any]

    def write(self) -> Path:
        """Write ``spec.json`` into the folder; returns its path.

        Raises:
            DataError: If the folder is a link, or has one in it.
        """
        refuse_links(self.folder)
        content = {"run": asdict(self.run), "data_path": str(self.data_path), "machine": dict(self.machine)}
        write_json(self.folder / SPEC_FILE, content)
        return self.folder / SPEC_FILE

    @classmethod
    def read(cls, path: Path) -> Spec:
        """Read what :meth:`write` wrote."""
        content = read_json(path, "Start it again")
        return cls(Run(**content["run"]), path.parent, Path(content["data_path"]), content["machine"])


def refuse_links(folder: Path) -> None:
    """Refuse a folder whose files are replaced and removed if it is a link or has links in it.

    Raises:
        DataError: Naming the link.
    """
    for path in (folder, *(folder.iterdir() if folder.is_dir() else ())):
        if path.is_symlink():
            raise DataError(path, "a link, and nothing outside of its folder is to be changed", "Delete the link")


def read_run(folder: Path) -> dict[str, Any] | None:
    """The content of a run's ``run.json``; None where the run is unfinished."""
    try:
        record = read_json(folder / RUN_FILE, REMEDY)
    except (FileNotFoundError, DataError):
        return None
    is_whole = record.get("format") == FORMAT and record.get("status") in (FINISHED, FAILED)
    return record if is_whole else None


def status_of(folder: Path) -> str | None:
    """``finished`` or ``failed``; None where the run is unfinished, or what it left cannot be read."""
    record = read_run(folder)
    return record["status"] if record and damage_of(folder) is None else None


def damage_of(folder: Path) -> str | None:
    """What is damaged of the outcome of a run, in one line; None if nothing is, or there is no outcome."""
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
    """Write ``run.json``, whole or not at all."""
    write_json(folder / RUN_FILE, record)
