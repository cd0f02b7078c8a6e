"""The stored runs of a benchmark: reading all of them, whatever state each is in."""

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
    """One folder of a run.

    Attributes:
        folder: Relative to the output folder, with forward slashes.
        dataset: Its dataset.
        model: Its model.
        seed: Its seed.
        state: ``finished``, ``failed``, ``unfinished`` (there is no run.json) or ``damaged``.
        problem: In one line, why the run is not finished; None if it is.
        record: What run.json holds; empty without one that can be read.
        ranks: Of the test targets; None unless finished.
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
        """Names the run among those of its dataset, model and seed: it depends on data and settings."""
        return self.folder.rpartition("-")[2]

    @property
    def test_ranks(self) -> TestRanks:
        """Of the test targets of a finished run.

        Raises:
            ValueError: If the run is not finished.
        """
        if self.ranks is None:
            raise ValueError(f"{self.folder} is {self.state}, and has no ranks")
        return self.ranks


def load_runs(output: Path) -> list[StoredRun]:
    """Read all runs of an output folder, ordered by folder. None that cannot be read keeps others from being read.

    Raises:
        DataError: If the folder has no runs at all.
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
    """The same ranks, with the ids of an earlier run where they are equal: all runs of a dataset have the same."""
    for known in shared:
        if ranks.same_targets(known):
            return TestRanks(known.users, known.items, ranks.ranks)
    shared.append(ranks)
    return ranks


def _check_means(path: Path, record: Mapping[str, Any], ranks: TestRanks) -> None:
    """Refuse ranks that are not those whose metrics were stored."""
    decimals = record["settings"].get("metric_decimal_place")
    decimals = decimals if isinstance(decimals, int) else _DECIMALS
    for name, stored in record["test"].items():
        try:
            metric = parse_metric(name)
        except SettingError:
            continue  # A metric that takes more than the target's rank.
        mean = float(metric.of_ranks(ranks.ranks).mean())
        if not (isinstance(stored, int | float) and abs(mean - stored) <= 0.5 * 10**-decimals + 1e-9):
            raise DataError(path, f"has {name} = {stored}, but the ranks beside it give {mean:.6f}", REMEDY)


def runs_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """One row a run: what it is of, its state, and its stored test metrics under RecBole's names."""
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
    """One row a finished run and user: ``dataset``, ``model``, ``seed``, ``user``, ``item`` and ``rank``."""
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
