"""Who does the expensive work: this process, or (:mod:`ray_runner`) workers on Ray."""

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
        """Place and result of each batch, as they are finished.

        Batches are cut by the caller and never cut again, so that a result does not depend on who works on it.

        Args:
            make_worker: Makes what works on a batch; called once per worker, where the worker is.
            batches: The work.
        """
        ...


class LocalRunner:
    """One worker in this process."""

    def run(
        self, make_worker: Callable[[], Callable[[Batch], Result]], batches: Sequence[Batch]
    ) -> Iterator[tuple[int, Result]]:
        """See :meth:`Runner.run`."""
        worker = make_worker()
        for place, batch in enumerate(batches):
            yield place, worker(batch)
