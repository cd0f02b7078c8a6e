"""Runs the expensive work in this process, or (:mod:`ray_runner`) in workers on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Batch = TypeVar("Batch")
Result = TypeVar("Result")


class Runner(Protocol):
    """Runs batches through workers."""

    def run(
        self, make_worker: Callable[[], Callable[[Batch], Result]], batches: Sequence[Batch]
    ) -> Iterator[tuple[int, Result]]:
        """Yield the index and the result of each batch when it is finished.

        The caller divides the batches, and they are never divided again, so results do not depend on the worker.

        Args:
            make_worker: Creates a function that processes a batch; called once per worker, in the worker.
            batches: The batches.
        """
        ...


class LocalRunner:
    """One worker in this process."""

    def run(
        self, make_worker: Callable[[], Callable[[Batch], Result]], batches: Sequence[Batch]
    ) -> Iterator[tuple[int, Result]]:
        """See :meth:`Runner.run`."""
        worker = make_worker()
        for index, batch in enumerate(batches):
            yield index, worker(batch)
