"""RecBole's entry points with unchanged behaviour; see :func:`run_hooks.replace_entry_points`."""

import multiprocessing
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config

from recbole_gserec.compute import end_with, keep_freed_memory, raise_from_now_on
from recbole_gserec.errors import SettingError, not_none
from recbole_gserec.plugin.checkpoint import check_model_of, read_checkpoint
from recbole_gserec.plugin.model_registry import file_of_model
from recbole_gserec.settings import is_search_aware

__all__ = ["load_data_and_model", "objective_function", "run", "run_recbole", "run_recboles"]

_SECONDS_TO_END = 10

STOCK: dict[str, Callable[..., Any]] = {}


@dataclass
class Evaluated:
    """The last evaluation of this process's trainer.

    Attributes:
        checkpoint: The file of the best weights.
        model: Name of the model.
    """

    checkpoint: str | None = None
    model: str = ""


evaluated = Evaluated()


def run(*args: Any, **kwargs: Any) -> Any:
    """See ``recbole.quick_start.run``. The processes that it starts end when it ends.

    Raises:
        SettingError: If several processes are requested and there is not one GPU for each.
    """
    # Five arguments stand before them.
    parameters = zip(("nproc", "world_size"), (1, -1), range(5, 7), strict=True)
    n, world = (kwargs.get(name, args[at] if len(args) > at else default) for name, default, at in parameters)
    n_gpus = torch.cuda.device_count()
    if n > n_gpus and max(n, world) > 1:
        if n_gpus or world not in (-1, n):
            raise SettingError(
                f"--nproc={n}: RecBole needs one GPU per process, and PyTorch finds {n_gpus}. Use at most as many "
                "processes"
            )
        getLogger().warning(
            f"--nproc={n}: PyTorch finds no GPU, and RecBole needs one per process, so this run uses a single process "
            "on the CPU"
        )
        args, kwargs = args[:5], {**kwargs, "nproc": 1, "world_size": -1}
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
    """See ``recbole.quick_start.run_recbole``. The log ends with the checkpoint and the commands that use it."""
    evaluated.checkpoint = None
    result = STOCK["run_recbole"](*args, **kwargs)
    if evaluated.checkpoint and Path(evaluated.checkpoint).is_file():
        getLogger().info(next_steps(evaluated.checkpoint, evaluated.model))
    return result


def next_steps(checkpoint: str | Path, model: str) -> str:
    """Return the path of a model's checkpoint, and the commands that use it."""
    file = file_of_model(model)
    name = shlex.quote(str(checkpoint)) + (f" --model {shlex.quote(file)}" if file else "")
    steps = [
        ("the best items of every user", f"gserec recommend --checkpoint {name}"),
        ("vectors for other systems", f"gserec export --checkpoint {name} --out FOLDER"),
    ]
    if is_search_aware(model):
        steps.append(("one user's events and recommendations", f"gserec analyze user USER --checkpoint {name}"))
    return "\n".join([f"Checkpoint: {Path(checkpoint).absolute()}", *(f"  {what}: {how}" for what, how in steps)])


def run_recboles(rank: int, *args: Any) -> Any:
    """See ``recbole.quick_start.quick_start.run_recboles``."""
    raise_from_now_on()
    parent = multiprocessing.parent_process()
    if parent is not None:
        end_with(not_none(parent.pid))
    keep_freed_memory()
    return STOCK["run_recboles"](rank, *args)


def objective_function(*args: Any, **kwargs: Any) -> Any:
    """See ``recbole.quick_start.objective_function``."""
    return STOCK["objective_function"](*args, **kwargs)


def load_data_and_model(model_file: str) -> Any:
    """See ``recbole.quick_start.load_data_and_model``.

    Raises:
        CheckpointError: If the file is not a complete checkpoint.
        SettingError: If its model is unknown. Register a model in a file with ``register_model`` first.
    """
    config = read_checkpoint(model_file)["config"]
    if isinstance(config, Config):
        check_model_of(config, model_file)
    return STOCK["load_data_and_model"](model_file)
