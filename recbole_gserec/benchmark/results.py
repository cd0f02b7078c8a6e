"""Reads all stored runs of a benchmark, whatever their state."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_gserec.benchmark.checked_record import read_record
from recbole_gserec.benchmark.metrics import parse_metric
from recbole_gserec.benchmark.ranks_file import REMEDY, TestRanks, read_test_ranks
from recbole_gserec.benchmark.runs import FAILED, FINISHED, RANKS_FILE, RUN_FILE
from recbole_gserec.errors import DataError, SettingError

UNFINISHED, DAMAGED = "unfinished", "damaged"
_FOLDER = re.compile(r"(-?\d+)-(\w+)")
_DECIMALS = 4  # RecBole's metric_decimal_place, to which it rounds the metrics it reports.


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A stored run in its folder.

    Attributes:
        folder: Relative to the output folder, with forward slashes.
        dataset: Its dataset.
        model: Its model.
        seed: Its seed.
        state: ``finished``, ``failed``, ``unfinished`` (no run.json) or ``damaged``.
        problem: Why the run is not finished, in one line; None if it is finished.
        record: Content of run.json; empty if it cannot be read.
        ranks: Ranks of the test targets; None unless finished.
    """

    folder: str
    dataset: str
    model: str
    seed: int
    state: str
    problem: str | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    ranks: TestRanks | None = None

    @property
    def key(self) -> str:
        """Identifies the run among those with its dataset, model and seed; depends on data and settings."""
        return self.folder.rpartition("-")[2]

    @property
    def test_ranks(self) -> TestRanks:
        """Return the ranks of the test targets of a finished run.

        Raises:
            ValueError: If the run is not finished.
        """
        if self.ranks is None:
            raise ValueError(f"{self.folder} is {self.state}, and has no ranks")
        return self.ranks


def load_runs(output: Path) -> list[StoredRun]:
    """Read all runs of an output folder, sorted by folder. An unreadable run does not prevent reading the others.

    Raises:
        DataError: If the folder has no runs.
    """
    root = Path(output)
    folders = sorted(path for path in root.glob("runs/*/*/*") if path.is_dir() and _FOLDER.fullmatch(path.name))
    if not folders:
        raise DataError(root / "runs", "holds no runs", "Run the benchmark, or name the folder it wrote to")
    shared: list[TestRanks] = []
    return [_load_run(root, folder, shared) for folder in folders]


def _load_run(root: Path, folder: Path, shared: list[TestRanks]) -> StoredRun:
    dataset, model = folder.parts[-3:-1]
    seed = int(folder.name.rpartition("-")[0])
    run = StoredRun(folder.relative_to(root).as_posix(), dataset, model, seed, UNFINISHED, f"there is no {RUN_FILE}")
    path = folder / RUN_FILE
    if not path.exists():
        return run
    try:
        record = read_record(path)
        _check_place(path, record, run)
        run = replace(run, record=record)
        if record["status"] == FAILED:
            return replace(run, state=FAILED, problem=_one_line(record.get("error")) or "failed, and left no error")
        ranks = _with_shared_ids(read_test_ranks(folder / RANKS_FILE), shared)
        _check_means(path, record, ranks)
    except DataError as error:
        return replace(run, state=DAMAGED, problem=_one_line(error).replace(f"{folder}", run.folder))
    return replace(run, state=FINISHED, problem=None, ranks=ranks)


def _one_line(text: Any) -> str:
    return " ".join(str(text or "").split())


def _check_place(path: Path, record: Mapping[str, Any], run: StoredRun) -> None:
    for name in ("dataset", "model", "seed"):
        if record[name] != getattr(run, name):
            raise DataError(path, f"is of the {name} {record[name]!r}, unlike its folder", REMEDY)


def _with_shared_ids(ranks: TestRanks, shared: list[TestRanks]) -> TestRanks:
    """Return the same ranks, but reuse the ids of an earlier run if they are equal, as in all runs of a dataset."""
    for known in shared:
        if ranks.same_targets(known):
            return TestRanks(known.users, known.items, ranks.ranks)
    shared.append(ranks)
    return ranks


def _check_means(path: Path, record: Mapping[str, Any], ranks: TestRanks) -> None:
    """Refuse ranks that do not reproduce the stored metrics."""
    decimals = record["settings"].get("metric_decimal_place")
    decimals = decimals if isinstance(decimals, int) else _DECIMALS
    for name, stored in record["test"].items():
        try:
            metric = parse_metric(name)
        except SettingError:
            continue  # A metric that needs more than the target's rank.
        mean = float(metric.of_ranks(ranks.ranks).mean())
        if not (isinstance(stored, int | float) and abs(mean - stored) <= 0.5 * 10**-decimals + 1e-9):
            raise DataError(path, f"has {name} = {stored}, but the ranks beside it give {mean:.6f}", REMEDY)


def runs_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """Make one row for each run: its identity, its state, and its stored test metrics under RecBole's names."""
    rows = [
        {
            **{name: getattr(run, name) for name in ("dataset", "model", "seed", "key", "state", "problem", "folder")},
            "started": run.record.get("started"),
            **(run.record["test"] if run.state == FINISHED else {}),
        }
        for run in runs
    ]
    return pd.DataFrame(rows)


def ranks_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """Make one row for each finished run and user: ``dataset``, ``model``, ``seed``, ``user``, ``item``, ``rank``."""
    frames = [
        pd.DataFrame(
            {
                "user": run.test_ranks.users.to_pandas(),
                "item": run.test_ranks.items.to_pandas(),
                "rank": run.test_ranks.ranks,
            }
        )
        .assign(dataset=run.dataset, model=run.model, seed=run.seed)
        .reindex(columns=["dataset", "model", "seed", "user", "item", "rank"])
        for run in runs
        if run.state == FINISHED
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
