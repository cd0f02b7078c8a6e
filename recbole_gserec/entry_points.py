"""RecBole's entry points, unchanged in what they do; see :func:`registration._replace_entry_points`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recbole_gserec.checkpoint import check_checkpoint
from recbole_gserec.freed_memory import keep_freed_memory

__all__ = ["load_data_and_model", "objective_function", "run", "run_recbole", "run_recboles"]

STOCK: dict[str, Callable[..., Any]] = {}


def run(*args: Any, **kwargs: Any) -> Any:
    """See ``recbole.quick_start.run``."""
    return STOCK["run"](*args, **kwargs)


def run_recbole(*args: Any, **kwargs: Any) -> Any:
    """See ``recbole.quick_start.run_recbole``."""
    return STOCK["run_recbole"](*args, **kwargs)


def run_recboles(rank: int, *args: Any) -> Any:
    """See ``recbole.quick_start.quick_start.run_recboles``."""
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
