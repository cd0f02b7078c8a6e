"""Runs side by side on Ray: on this machine, or on a cluster that shares the folders of datasets and runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from recbole_gserec.benchmark.child import Job, note_failure, run_child
from recbole_gserec.benchmark.runs import Spec
from recbole_gserec.ray_cluster import connect_with_share, room

_SECONDS_TO_END = 20


class RayPool:
    """Runs as tasks on Ray, each in a process of its own as without Ray; see :class:`runner.Pool`.

    Args:
        workers: Runs at once; None for as many as the cluster has room for.
        address: Of a Ray cluster; None starts Ray on this machine.
        cpus: Processors of a run, and its threads; None is 1, or on this machine an even share where ``workers`` or
            GPUs say how many there are at once, but not more than ``OMP_NUM_THREADS``.
        gpus: GPUs of a run, or a part of one; None is 1 where there are GPUs.

    Raises:
        SettingError: If there is no Ray at the address, or no machine of it has what a run needs.
    """

    def __init__(self, workers: int | None, address: str | None, cpus: int | None, gpus: float | None):
        self._wanted = connect_with_share(workers, address, cpus, gpus)
        has_room = room(self._wanted)
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
                    place, spec = waiting.pop()
                    on_start(place)
                    started[place] = datetime.now(UTC)
                    running[task.remote(spec, self._wanted)] = place
                done, _ = ray.wait(list(running), timeout=1)
                for reference in done:
                    place = running.pop(reference)
                    yield place, _status(reference, specs[place], started[place])
        finally:
            _cancel(list(running))


def _run_with_share(spec: Spec, share: dict[str, float]) -> str:
    """A run with the GPUs that Ray gave this task."""
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
    """End tasks, and with them the processes they have started."""
    import ray

    for force in (False, True):
        for reference in references:
            with suppress(ray.exceptions.RayError):
                ray.cancel(reference, force=force)
        if references:
            # An interruption is not always heard. What a killed task has started ends by itself.
            _, references = ray.wait(references, num_returns=len(references), timeout=_SECONDS_TO_END)
