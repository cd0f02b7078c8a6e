"""Where expensive batches are computed: in this process, or by workers of a Ray Data job."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import ray

from recbole_gserec.compute import connect, count_parallel_tasks
from recbole_gserec.errors import GSERecError, InterruptedWorkError, SettingError
from recbole_gserec.settings import PreprocessSettings

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


logger = logging.getLogger(__name__)

_RESTARTS = 2


class RayRunner:
    """Workers on Ray; see :class:`runners.Runner`.

    Each worker is an actor with its own model. A row of the Ray dataset is a whole batch, so batches and results are
    the same as without Ray. Results return to this process, which alone writes to the store. Folders named in settings
    must exist on every machine.

    Args:
        settings: Settings of the offline stage.

    Raises:
        SettingError: If there is no Ray at the address, or it lacks the CPUs or GPUs for one worker.
    """

    def __init__(self, settings: PreprocessSettings):
        self._workers = settings.preprocess_ray_workers
        self._wanted = {"CPU": settings.preprocess_ray_cpus, "GPU": settings.preprocess_ray_gpus}
        connect(settings.preprocess_ray_address, None, option="preprocess_ray_address", join_running=True)
        self._workers = min(self._workers, count_parallel_tasks(self._wanted, "preprocess_ray_*", "a worker"))
        _quieten()

    def run(self, make_worker: Callable[[], Callable[[Any], Any]], batches: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """See :meth:`runners.Runner.run`."""
        # Rows that are Python objects use Ray's object store. A row's batch must not be split or joined with another.
        rows = [{"index": index, "batch": [batch]} for index, batch in enumerate(batches)]
        with warnings.catch_warnings():
            # Ray is about to rename the last two arguments.
            warnings.simplefilter("ignore")
            dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                _Worker,  # type: ignore[arg-type]  # a class is allowed too; Ray's annotation leaves it out
                fn_constructor_kwargs={"make_worker": make_worker},
                compute=ray.data.ActorPoolStrategy(size=min(self._workers, len(rows))),
                num_cpus=self._wanted["CPU"],
                num_gpus=self._wanted["GPU"],
                # By default, Ray Data would restart a worker that dies, for example from lack of memory, without end.
                max_restarts=_RESTARTS,
                max_task_retries=_RESTARTS,
            )
        try:
            for row in dataset.iter_rows():
                if row["error"]:
                    raise _WORKER_ERRORS[row["error"][0]](row["error"][1])
                yield row["index"], row["result"][0]
        except ray.exceptions.RayError as error:
            reason = str(error).strip().split("\n")[0][:300]
            raise InterruptedWorkError(
                f"workers on Ray died ({reason}). Finished work is stored; the same command resumes it"
            ) from error


class _Worker:
    """A worker. Errors are returned as data, because Ray's exceptions lose their message."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]):
        # Registers the plugin in the worker.
        import recbole_gserec  # noqa: F401

        self._work: Callable[[Any], Any] | None = None
        self._error: list[str] | None = None
        try:
            self._work = make_worker()
        except Exception as error:
            self._error = _as_data(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result, error = None, self._error
        if self._work is not None:
            try:
                result = self._work(row["batch"][0])
            except Exception as raised:
                error = _as_data(raised)
        return {"index": row["index"], "result": [result], "error": error}


_WORKER_ERRORS = {"setting": SettingError, "other": InterruptedWorkError}


def _as_data(error: Exception) -> list[str]:
    if isinstance(error, GSERecError):
        kind = "other" if isinstance(error, InterruptedWorkError) else "setting"
        return [kind, str(error)]
    logger.exception("A worker failed")
    reason = " ".join(str(error).split())[:300]
    return [
        "other",
        f"a worker on Ray failed ({type(error).__name__}: {reason}). Finished work is stored; "
        "the same command resumes it",
    ]


def _quieten() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Ray would warn about rows that are Python objects, and log the end of each job.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
