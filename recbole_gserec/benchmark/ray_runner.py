"""Makes runs in parallel on Ray: on this machine, or on a cluster that shares the folders of datasets and runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from recbole_gserec.benchmark.child import Job, note_failure, run_child
from recbole_gserec.benchmark.runs import Spec
from recbole_gserec.ray_cluster import connect_with_share, count_parallel_tasks

_SECONDS_TO_END = 20


class RayPool:
    """Makes runs as Ray tasks, each in its own process as without Ray; see :class:`runner.Pool`.

    Args:
        workers: Number of runs at once; None for as many as the cluster can hold.
        address: Address of a Ray cluster; None starts Ray on this machine.
        cpus: CPUs and threads of each run. None is 1. On this machine, if ``workers`` or the GPUs limit the number of
            runs, None is an even share, but at most ``OMP_NUM_THREADS``.
        gpus: GPUs of each run, or a fraction of one; None is 1 if there are GPUs.

    Raises:
        SettingError: If there is no Ray at the address, or no machine has the resources for a run.
    """

    def __init__(self, workers: int | None, address: str | None, cpus: int | None, gpus: float | None):
        self._wanted = connect_with_share(workers, address, cpus, gpus)
        has_room = count_parallel_tasks(self._wanted)
        self._limit = min(workers or has_room, has_room)

    def run(self, specs: Sequence[Spec], on_start: Callable[[int], None]) -> Iterator[tuple[int, str]]:
        """See :meth:`runner.Pool.run`."""
        import ray

        options = {"num_cpus": self._wanted["CPU"], "num_gpus": self._wanted["GPU"], "max_retries": 0}
        task = ray.remote(_run_with_share).options(**options)
        waiting = list(enumerate(specs))[::-1]
        running: dict[Any, int] = {}
        started: dict[int, datetime] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._limit:
                    index, spec = waiting.pop()
                    on_start(index)
                    started[index] = datetime.now(UTC)
                    running[task.remote(spec, self._wanted)] = index
                done, _ = ray.wait(list(running), timeout=1)
                for reference in done:
                    index = running.pop(reference)
                    yield index, _status(reference, specs[index], started[index])
        finally:
            _cancel(list(running))


def _run_with_share(spec: Spec, share: dict[str, float]) -> str:
    """Make a run with the GPUs that Ray assigned to this task."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES") if share["GPU"] else ""
    return run_child(Job(spec, threads=max(1, int(share["CPU"])), visible_gpus=gpus))


def _status(reference: Any, spec: Spec, started: datetime) -> str:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        reason = str(error.cause if isinstance(error, ray.exceptions.RayTaskError) else error)
        return note_failure(spec, f"its task on Ray failed: {reason.strip()}", started)


def _cancel(references: list[Any]) -> None:
    """Stop tasks together with the processes that they started."""
    import ray

    for force in (False, True):
        for reference in references:
            with suppress(ray.exceptions.RayError):
                ray.cancel(reference, force=force)
        if references:
            # A task may ignore the interruption. Killing it also ends the processes that it started.
            _, references = ray.wait(references, num_returns=len(references), timeout=_SECONDS_TO_END)
