"""Loading the stored runs of a benchmark, in whatever state each is, grouped by dataset, model and settings."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.results.metrics import Metric, parse_metric
from recbole_gserec.runs import (
    ADVICE,
    ALL_ITEMS,
    FAILED,
    FINISHED,
    RANKS_FILE,
    RUN_FILE,
    TestRanks,
    read_record,
    read_test_ranks,
    started_at,
)

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
        ranks_among_all: Ranks of some users' test targets among all items; None if the run has none.
    """

    folder: str
    dataset: str
    model: str
    seed: int
    state: str
    problem: str | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    ranks: TestRanks | None = None
    ranks_among_all: TestRanks | None = None

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
        raise DataError(root / "runs", "has no runs", "Run the benchmark, or name the folder it wrote to")
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
        _check_folder(path, record, run)
        run = replace(run, record=record)
        if record["status"] == FAILED:
            return replace(
                run, state=FAILED, problem=_one_line(record.get("error")) or "failed without an error message"
            )
        ranks = _with_shared_ids(read_test_ranks(folder / RANKS_FILE), shared)
        _check_means(path, record, ranks)
        among_all = None
        if record.get("all_items", {}).get("users"):
            among_all = _with_shared_ids(read_test_ranks(folder / RANKS_FILE, ALL_ITEMS), shared)
    except DataError as error:
        return replace(run, state=DAMAGED, problem=_one_line(error).replace(f"{folder}", run.folder))
    return replace(run, state=FINISHED, problem=None, ranks=ranks, ranks_among_all=among_all)


def _one_line(text: Any) -> str:
    return " ".join(str(text or "").split())


def _check_folder(path: Path, record: Mapping[str, Any], run: StoredRun) -> None:
    for name in ("dataset", "model", "seed"):
        if record[name] != getattr(run, name):
            raise DataError(path, f"has the {name} {record[name]!r}, which is not that of its folder", ADVICE)


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
            raise DataError(path, f"has {name} = {stored}, but the ranks beside it give {mean:.6f}", ADVICE)


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


@dataclass(frozen=True, eq=False)
class ModelRuns:
    """The runs of one model on one dataset.

    Attributes:
        dataset: The dataset.
        model: The model.
        runs: At most one run per seed, sorted by seed. The finished ones have the same settings and data.
        set_aside: Runs with other settings or data, and runs replaced by later ones.
    """

    dataset: str
    model: str
    runs: tuple[StoredRun, ...] = ()
    set_aside: tuple[StoredRun, ...] = ()

    @property
    def finished(self) -> dict[int, StoredRun]:
        """Finished runs by seed."""
        return {run.seed: run for run in self.runs if run.state == FINISHED}

    def means(self, metric: Metric) -> NDArray[np.float64]:
        """Compute the mean over users of each finished run, ``[n_seeds]``."""
        return np.array([metric.of_ranks(run.test_ranks.ranks).mean() for run in self.finished.values()])

    def per_seed(self, metric: Metric, seeds: Collection[int]) -> NDArray[np.float64]:
        """Return each user's value in the finished runs of these seeds, ascending; ``[n_seeds, n_users]``."""
        runs = self.finished
        return np.stack([metric.of_ranks(runs[seed].test_ranks.ranks) for seed in sorted(seeds)])

    def per_user(self, metric: Metric, seeds: Collection[int]) -> NDArray[np.float64]:
        """Return each user's mean over the finished runs of these seeds; ``[n_users]``. Users must be equal."""
        runs = self.finished
        first, *others = (metric.of_ranks(runs[seed].test_ranks.ranks) for seed in sorted(seeds))
        return sum(others, first) / len(seeds)


def choose_runs(runs: Iterable[StoredRun]) -> dict[tuple[str, str], ModelRuns]:
    """Choose the runs to report.

    A model may have runs with several settings, or from before and after a change of its dataset or its users' codes. A
    mean over such runs would be meaningless. Therefore only runs with the settings and data of the newest run count.

    Args:
        runs: All stored runs.

    Returns:
        The chosen runs by dataset and model.
    """
    cells: dict[tuple[str, str], list[StoredRun]] = {}
    for run in runs:
        cells.setdefault((run.dataset, run.model), []).append(run)
    return {cell: _choose(*cell, cell_runs) for cell, cell_runs in sorted(cells.items())}


def requested_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run was given, without the seed."""
    return {name: value for name, value in record["given"].items() if name != "seed"}


def _choose(dataset: str, model: str, runs: list[StoredRun]) -> ModelRuns:
    # By time. Runs with equal times, for example copied by hand, are sorted by name.
    known = sorted((run for run in runs if run.record), key=lambda run: (started_at(run.record), run.folder))
    chosen: dict[int, StoredRun] = {}
    if known:
        wanted = _made_from(known[-1])
        chosen = {run.seed: run for run in known if _made_from(run) == wanted}
    # The settings of these runs are unknown.
    for run in sorted((run for run in runs if not run.record), key=lambda run: run.folder):
        chosen.setdefault(run.seed, run)
    kept = tuple(chosen[seed] for seed in sorted(chosen))
    return ModelRuns(dataset, model, kept, tuple(run for run in runs if run not in kept))


def _made_from(run: StoredRun) -> str:
    record = run.record
    return json.dumps([record["dataset_digest"], record.get("derived"), requested_settings(record)], sort_keys=True)


def why_not_comparable(one: ModelRuns, other: ModelRuns) -> str | None:
    """Explain why the results of two models cannot be compared for each user.

    Full ranking has no candidate lists, so only data and targets must be equal.

    Args:
        one: A model on a dataset.
        other: Another model on the same dataset.

    Returns:
        The reason; None if the results can be compared.
    """
    if not (one.finished and other.finished):
        return "no finished run"
    seeds = common_seeds(one, other)
    if not seeds:
        return "no finished runs with a common seed"
    first = one.finished[seeds[0]]
    for seed in seeds:
        a, b = one.finished[seed], other.finished[seed]
        if a.record["dataset_digest"] != b.record["dataset_digest"]:
            return "the dataset's files differ"
        if recorded_mode(a.record) != recorded_mode(b.record):
            return f"{recorded_mode(a.record)} and {recorded_mode(b.record)} are different evaluations"
        # Runs of earlier versions do not record their interactions.
        recorded = [run.record["interactions"] for run in (a, b, first) if run.record.get("interactions")]
        if len(set(recorded)) > 1:
            return f"the interactions of seed {seed} differ: settings that filter them differ"
        if a.record["candidates"].get("test") != b.record["candidates"].get("test"):
            return f"the candidate lists of seed {seed} differ"
        if not (a.test_ranks.same_targets(b.test_ranks) and a.test_ranks.same_targets(first.test_ranks)):
            return f"the users or targets of seed {seed} differ"
    return None


def common_seeds(one: ModelRuns, other: ModelRuns) -> tuple[int, ...]:
    """Return the seeds that both models have finished, ascending."""
    return tuple(sorted(one.finished.keys() & other.finished.keys()))


def recorded_mode(record: Mapping[str, Any]) -> str:
    """Return how a finished run ranked its targets, such as ``uni99``."""
    return str(record["candidates"].get("mode"))
