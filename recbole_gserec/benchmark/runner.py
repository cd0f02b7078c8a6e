"""The benchmark: finds the runs that are missing, makes them, and tells how it goes."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

from recbole_gserec.benchmark.child import ELSEWHERE, Job, run_child
from recbole_gserec.benchmark.plan import Request, entries_of
from recbole_gserec.benchmark.prepare import prepare_all
from recbole_gserec.benchmark.runs import FAILED, FINISHED, LOG_FILE, Run, Spec, damage_of, read_run, status_of
from recbole_gserec.data.dataset_paths import check_dataset
from recbole_gserec.interruptions import is_heeded
from recbole_gserec.narrowing import not_none
from recbole_gserec.processors import warn_if_busy
from recbole_gserec.run_checks import check_writable
from recbole_gserec.wording import plural

logger = logging.getLogger(__name__)


class Pool(Protocol):
    """Makes runs in processes of their own."""

    def run(self, specs: Sequence[Spec], on_start: Callable[[int], None]) -> Iterator[tuple[int, str]]:
        """Make runs; gives the place and the status of each, as they end.

        Args:
            specs: The runs.
            on_start: Called with a run's place when it starts.
        """
        ...


@dataclass(frozen=True)
class LocalPool:
    """One run after the other, on this machine.

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
        for place, spec in enumerate(specs):
            on_start(place)
            yield place, run_child(Job(spec, self.threads, self.visible_gpus))


class Outcome(NamedTuple):
    """How a benchmark ended.

    Attributes:
        finished: Runs of the request that are finished.
        failed: Those that failed.
        elsewhere: Those that another process is making.
        keys: Of all stored runs with the settings and data of the request, those with other seeds too.
    """

    finished: int
    failed: int
    elsewhere: int
    keys: frozenset[str]


def run_benchmark(
    request: Request, output: Path, make_pool: Callable[[], Pool] = LocalPool, *, retry_failed: bool = True
) -> Outcome:
    """Make all runs that are missing.

    Runs are stored as they end: interrupted, the same call goes on from there. A run that fails is stored with its
    error, and the others go on.

    Args:
        request: What is to be compared.
        output: Folder of the runs.
        make_pool: Makes what makes them; called if any are missing.
        retry_failed: Whether runs that failed before are made again.

    Raises:
        GSERecError: For a request that cannot be run as it stands.
    """
    specs = plan(request, output)
    make_runs(specs, output, make_pool, retry_failed=retry_failed)
    return outcome_of(specs)


def make_runs(
    specs: Sequence[Spec],
    output: Path,
    make_pool: Callable[[], Pool] = LocalPool,
    *,
    retry_failed: bool = True,
    title_of: Callable[[Spec], str] = lambda spec: spec.run.title,
) -> None:
    """Make those that are missing of some runs; see :func:`run_benchmark`.

    Args:
        specs: The runs.
        output: Folder of the runs.
        make_pool: Makes what makes them; called if any are missing.
        retry_failed: Whether runs that failed before are made again.
        title_of: What a run is called in the log.
    """
    missing = [spec for spec in specs if _is_missing(spec, retry_failed)]
    for spec in missing:
        if damage := damage_of(spec.folder):
            logger.warning(f"{title_of(spec)}: is made again, because {damage}")
    n_made = len(specs) - len(missing)
    logger.info(f"runs in {output.absolute()}: {len(specs)}, {n_made} of them made before")

    def on_start(place: int) -> None:
        spec = missing[place]
        logger.info(f"{title_of(spec)}: started; its log is {spec.folder / LOG_FILE}")

    if missing:
        with _terminated_like_an_exception():
            for n_ended, (place, status) in enumerate(make_pool().run(missing, on_start), start=1):
                spec = missing[place]
                logger.info(f"[{n_made + n_ended}/{len(specs)}] {title_of(spec)}: {_how_it_went(spec, status)}")


def outcome_of(specs: Sequence[Spec]) -> Outcome:
    """How some runs ended, as they are stored."""
    statuses = [status_of(spec.folder) for spec in specs]
    finished, failed, elsewhere = (statuses.count(status) for status in (FINISHED, FAILED, None))
    keys = frozenset(key for spec in specs for key in _keys_of_all_seeds(spec))
    return Outcome(finished, failed, elsewhere, keys)


def plan(request: Request, output: Path) -> list[Spec]:
    """All runs of a request: a whole comparison for the first seed, then one for the next.

    Args:
        request: What is to be compared.
        output: Folder of the runs.

    Raises:
        GSERecError: For a request that cannot be run as it stands.
    """
    entries = entries_of(request)
    for dataset, parts in {entry.dataset: entry.given.get("benchmark_filename") for entry in entries}.items():
        check_dataset(request.data_path, dataset, parts)
    check_writable(output, "set --output to another folder")
    data_path, output = request.data_path.absolute(), output.absolute()
    prepared = prepare_all(entries, data_path)
    specs = []
    for seed in dict.fromkeys(request.seeds):
        for entry, files in zip(entries, prepared, strict=True):
            run = Run(entry.dataset, files.dataset_digest, entry.model, seed, entry.given, files.derived)
            specs.append(Spec(run, run.folder(output), data_path, entry.machine))
    return specs


def _keys_of_all_seeds(spec: Spec) -> Iterator[str]:
    for folder in spec.folder.parent.glob("*-*"):
        seed, _, key = folder.name.rpartition("-")
        if seed.isdecimal() and replace(spec.run, seed=int(seed)).key == key:
            yield key


def _is_missing(spec: Spec, retry_failed: bool) -> bool:
    status = status_of(spec.folder)
    return status is None or (status == FAILED and retry_failed)


def _how_it_went(spec: Spec, status: str) -> str:
    if status == ELSEWHERE:
        return "left to another process, which is making it"
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
    """Let SIGTERM end this process as an exception does: with the processes it has started."""
    # A command's signals end it so already.
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
