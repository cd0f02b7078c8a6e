"""RecBole's entry points, unchanged in what they do; see :func:`registration._replace_entry_points`."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from recbole_gserec import interruptions
from recbole_gserec.checkpoint import check_checkpoint
from recbole_gserec.freed_memory import keep_freed_memory
from recbole_gserec.narrowing import not_none

__all__ = ["load_data_and_model", "objective_function", "run", "run_recbole", "run_recboles"]

_SECONDS_TO_END = 10

STOCK: dict[str, Callable[..., Any]] = {}


def run(*args: Any, **kwargs: Any) -> Any:
    """See ``recbole.quick_start.run``; the processes that it starts end with it."""
    before = set(multiprocessing.active_children())
    try:
        return STOCK["run"](*args, **kwargs)
    except BaseException:
        # This process would wait for them when it ends, and they would train on.
        started = set(multiprocessing.active_children()) - before
        for child in started:
            child.terminate()
        for child in started:
            child.join(_SECONDS_TO_END)
            # One that waits for another process may not hear.
            child.kill()
        raise


def run_recbole(*args: Any, **kwargs: Any) -> Any:
    """See ``recbole.quick_start.run_recbole``."""
    return STOCK["run_recbole"](*args, **kwargs)


def run_recboles(rank: int, *args: Any) -> Any:
    """See ``recbole.quick_start.quick_start.run_recboles``."""
    interruptions.raise_from_now_on()
    parent = multiprocessing.parent_process()
    if parent is not None:
        interruptions.end_with(not_none(parent.pid))
    keep_freed_memory()
    return STOCK["run_recboles"](rank, *args)


def objective_function(*args: Any, **kwargs: Any) -> Any:
    """See ``recbole.quick_start.objective_function``."""
    return STOCK["objective_function"](*args, **kwargs)


def load_data_and_model(model_file: str) -> Any:
    """See ``recbole.quick_start.load_data_and_model``.

    Raises:
        CheckpointError: If the file is not a whole checkpoint.
    """
    check_checkpoint(model_file)
    return STOCK["load_data_and_model"](model_file)
