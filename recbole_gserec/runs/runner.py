"""Makes the missing runs of a benchmark and logs the progress."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

from recbole_gserec.compute import is_heeded, warn_if_busy
from recbole_gserec.errors import not_none
from recbole_gserec.report import plural
from recbole_gserec.runs.plan import Request, plan_entries
from recbole_gserec.runs.prepare import prepare_all
from recbole_gserec.runs.run_processes import ELSEWHERE, Job, run_child
from recbole_gserec.runs.run_store import FAILED, FINISHED, LOG_FILE, Run, Spec, find_damage, read_run, read_status
from recbole_gserec.settings import check_dataset, check_writable

logger = logging.getLogger(__name__)


class Pool(Protocol):
    """Makes runs in their own processes."""

    def run(self, specs: Sequence[Spec], on_start: Callable[[int], None]) -> Iterator[tuple[int, str]]:
        """Make runs; yield the index and the status of each run when it ends.

        Args:
            specs: The runs.
            on_start: Called with a run's index when it starts.
        """
        ...


@dataclass(frozen=True)
class LocalPool:
    """Makes one run after the other on this machine.

    Attributes:
        threads: See :class:`child.Job`.
        visible_gpus: See :class:`child.Job`.
    """

    threads: int | None = None
    visible_gpus: str | None = None

    def run(self, specs: Sequence[Spec], on_start: Callable[[int], None]) -> Iterator[tuple[int, str]]:
        """See :meth:`Pool.run`."""
        if self.threads is None:
            warn_if_busy()
        for index, spec in enumerate(specs):
            on_start(index)
            yield index, run_child(Job(spec, self.threads, self.visible_gpus))


class Outcome(NamedTuple):
    """The result of a benchmark.

    Attributes:
        finished: Requested runs that are finished.
        failed: Requested runs that failed.
        elsewhere: Requested runs that another process is making.
        keys: Keys of all stored runs with the requested settings and data, including runs with other seeds.
    """

    finished: int
    failed: int
    elsewhere: int
    keys: frozenset[str]


def run_benchmark(
    request: Request, output: Path, make_pool: Callable[[], Pool] = LocalPool, *, retry_failed: bool = True
) -> Outcome:
    """Make all runs that are missing.

    Each run is stored when it ends, so the same call resumes an interrupted benchmark. A failed run is stored with its
    error, and the other runs continue.

    Args:
        request: The comparison to make.
        output: Folder of the runs.
        make_pool: Creates the pool; called only if runs are missing.
        retry_failed: Whether to repeat failed runs.

    Raises:
        GSERecError: If the request cannot be run.
    """
    specs = plan_runs(request, output)
    make_runs(specs, output, make_pool, retry_failed=retry_failed)
    return read_outcome(specs)


def make_runs(
    specs: Sequence[Spec],
    output: Path,
    make_pool: Callable[[], Pool] = LocalPool,
    *,
    retry_failed: bool = True,
    title_of: Callable[[Spec], str] = lambda spec: spec.run.title,
) -> None:
    """Make the missing ones among these runs; see :func:`run_benchmark`.

    Args:
        specs: The runs.
        output: Folder of the runs.
        make_pool: Creates the pool; called only if runs are missing.
        retry_failed: Whether to repeat failed runs.
        title_of: Returns the name of a run in the log.
    """
    missing = [spec for spec in specs if _is_missing(spec, retry_failed)]
    for spec in missing:
        if damage := find_damage(spec.folder):
            logger.warning(f"{title_of(spec)}: repeated, because {damage}")
    n_made = len(specs) - len(missing)
    logger.info(f"runs in {output.absolute()}: {len(specs)}, {n_made} of them already made")

    def on_start(index: int) -> None:
        spec = missing[index]
        logger.info(f"{title_of(spec)}: started; its log is {spec.folder / LOG_FILE}")

    if missing:
        with _terminated_like_an_exception():
            for n_ended, (index, status) in enumerate(make_pool().run(missing, on_start), start=1):
                spec = missing[index]
                logger.info(f"[{n_made + n_ended}/{len(specs)}] {title_of(spec)}: {_how_it_went(spec, status)}")


def read_outcome(specs: Sequence[Spec]) -> Outcome:
    """Return the stored result of these runs."""
    statuses = [read_status(spec.folder) for spec in specs]
    finished, failed, elsewhere = (statuses.count(status) for status in (FINISHED, FAILED, None))
    keys = frozenset(key for spec in specs for key in _keys_of_all_seeds(spec))
    return Outcome(finished, failed, elsewhere, keys)


def plan_runs(request: Request, output: Path) -> list[Spec]:
    """Plan all runs of a request: a whole comparison for the first seed, then one for the next.

    Args:
        request: The comparison to make.
        output: Folder of the runs.

    Raises:
        GSERecError: If the request cannot be run.
    """
    entries = plan_entries(request)
    for dataset, parts in {entry.dataset: entry.requested.get("benchmark_filename") for entry in entries}.items():
        check_dataset(request.data_path, dataset, parts)
    check_writable(output, "set --output to another folder")
    data_path, output = request.data_path.absolute(), output.absolute()
    prepared = prepare_all(entries, data_path)
    specs = []
    for seed in dict.fromkeys(request.seeds):
        for entry, files in zip(entries, prepared, strict=True):
            run = Run(entry.dataset, files.dataset_digest, entry.model, seed, entry.requested, files.derived)
            specs.append(Spec(run, run.folder(output), data_path, entry.machine))
    return specs


def _keys_of_all_seeds(spec: Spec) -> Iterator[str]:
    for folder in spec.folder.parent.glob("*-*"):
        seed, _, key = folder.name.rpartition("-")
        if seed.isdecimal() and replace(spec.run, seed=int(seed)).key == key:
            yield key


def _is_missing(spec: Spec, retry_failed: bool) -> bool:
    status = read_status(spec.folder)
    return status is None or (status == FAILED and retry_failed)


def _how_it_went(spec: Spec, status: str) -> str:
    if status == ELSEWHERE:
        return "skipped: another process is making it"
    record = not_none(read_run(spec.folder))
    if status == FAILED:
        return f"failed: {record['error']}"
    epochs = record["epochs"]["trained"]
    return f"{_score(record)}, {epochs} {plural('epoch', epochs)}, {record['wall_seconds']:.0f} s"


def _score(record: dict[str, Any]) -> str:
    metric = record["settings"]["valid_metric"]
    scores = [(part, record[part].get(metric.lower())) for part in ("valid", "test")]
    return f"{metric} " + ", ".join(f"{score:.4f} ({part})" for part, score in scores if score is not None)


@contextmanager
def _terminated_like_an_exception() -> Iterator[None]:
    """Let SIGTERM end this process like an exception, so that the processes it started end too."""
    # In a command, signals already do this.
    if threading.current_thread() is not threading.main_thread() or is_heeded(signal.SIGTERM):
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
