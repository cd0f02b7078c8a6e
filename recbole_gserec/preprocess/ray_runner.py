"""Batches through workers on Ray: a Ray Data job over as many machines as there are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from recbole_gserec.errors import InterruptedWorkError, SettingError
from recbole_gserec.preprocess.settings import PreprocessSettings

logger = logging.getLogger(__name__)


class RayRunner:
    """Workers on Ray; see :class:`runners.Runner`.

    Each worker is an actor with a model of its own. A row of the Ray dataset is a whole batch, so that the batches, and
    with them the results, are those of a run without Ray. Results come back to this process, which alone writes to the
    store. Folders that settings name must be there on every machine.

    Args:
        settings: Of the offline stage.

    Raises:
        SettingError: If there is no Ray at the address, or it has not the cores or GPUs that one worker needs.
    """

    def __init__(self, settings: PreprocessSettings):
        self._workers = settings.preprocess_ray_workers
        self._resources = {"num_cpus": settings.preprocess_ray_cpus, "num_gpus": settings.preprocess_ray_gpus}
        _connect(settings.preprocess_ray_address)
        self._check_resources()

    def _check_resources(self) -> None:
        import ray

        there = ray.cluster_resources()
        for kind, wanted in (("CPU", self._resources["num_cpus"]), ("GPU", self._resources["num_gpus"])):
            if wanted > there.get(kind, 0):
                raise SettingError(
                    f"preprocess_ray_{kind.lower()}s is {wanted:g}, and all of Ray has {there.get(kind, 0):g}"
                )
            if wanted:
                # Ray would wait for ever for workers that cannot all be there.
                self._workers = min(self._workers, int(there[kind] // wanted))

    def run(self, make_worker: Callable[[], Callable[[Any], Any]], batches: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """See :meth:`runners.Runner.run`."""
        import ray

        # Rows that are Python objects are put into Ray's store; a row's batch must not be cut or joined with another.
        rows = [{"place": place, "batch": [batch]} for place, batch in enumerate(batches)]
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,
            fn_constructor_kwargs={"make_worker": make_worker},
            compute=ray.data.ActorPoolStrategy(size=min(self._workers, len(rows))),
            **self._resources,
        )
        try:
            for row in dataset.iter_rows():
                yield row["place"], row["result"][0]
        except ray.exceptions.RayError as error:
            raise _told(error) from error


class _Worker:
    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]):
        # Registers the plugin where the worker is.
        import recbole_gserec  # noqa: F401

        self._work = make_worker()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"place": row["place"], "result": [self._work(row["batch"][0])]}


def _connect(address: str | None) -> None:
    import ray

    if ray.is_initialized():
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingError(f"preprocess_ray_address: no Ray at '{address}' ({error})") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # It would warn of rows that are Python objects, and praise each job's end.
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _told(error: BaseException) -> Exception:
    """A worker's error as the line it would be without Ray."""
    from recbole_gserec.errors import GSERecError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, GSERecError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    reason = str(error).strip().split("\n")[-1]
    return InterruptedWorkError(f"a worker on Ray failed ({reason}). What was finished is stored; start again")
