"""Changes how RecBole writes files, so that parallel runs never share a file and no file is left incomplete."""

from __future__ import annotations

import builtins
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.utils.tensorboard import SummaryWriter

from recbole_gserec.files import written_aside

_log_handlers: list[logging.Handler] = []


def with_own_digits(local_time: Callable[[], str]) -> Callable[[], str]:
    """Add eight digits of this run to RecBole's name of the current second, such as ``Nov-29-2026_23-30-12``.

    Otherwise, runs that start within one second, in one process or several, would share checkpoints and logs. The
    digits come from the operating system, so they do not depend on seeds and do not change the random numbers of a
    training.
    """

    def get_local_time() -> str:
        return f"{local_time()}-{secrets.token_hex(4)}"

    return get_local_time


def ensure_dir(dir_path: str) -> None:
    """Replace RecBole's function, so that another process may create the folder at the same time."""
    os.makedirs(dir_path, exist_ok=True)


def with_own_log(init_logger: Callable[[Any], None]) -> Callable[[Any], None]:
    """Fix RecBole's ``init_logger``, which lets a second run in one process log to the first run's file.

    Handlers set by a user's program stay, and still keep RecBole from adding its own.
    """

    def init_own_logger(config: Any) -> None:
        logger = logging.getLogger()
        for handler in _log_handlers:
            logger.removeHandler(handler)
            handler.close()
        others = set(logger.handlers)
        init_logger(config)
        _log_handlers[:] = [handler for handler in logger.handlers if handler not in others]

    return init_own_logger


def tensorboard_writer(local_time: Callable[[], str]) -> Callable[[logging.Logger], SummaryWriter]:
    """Fix RecBole's ``get_tensorboard``, so that the folder has the name of the run's log.

    RecBole cuts the name at its first dot. Runs on a dataset with a dot in its name would share a folder, which may
    also have the name of any existing log.
    """

    def get_tensorboard(logger: logging.Logger) -> SummaryWriter:
        files = (getattr(handler, "baseFilename", None) for handler in _log_handlers if handler in logger.handlers)
        name = next((Path(file).stem for file in files if file), f"model-{local_time()}")
        return SummaryWriter(os.path.join("log_tensorboard", name))

    return get_tensorboard


def of_first_process(config: Any, name: str) -> str:
    """Return the name chosen by the first process of a distributed training, which writes what all of them read."""
    if config["single_spec"] or not dist.is_initialized():
        return name
    names = [name]
    dist.broadcast_object_list(names, src=0)
    return names[0]


def wait_for_all(config: Any) -> None:
    """Wait until all processes of a distributed training are here, because one of them may still be writing."""
    if not config["single_spec"] and dist.is_initialized():
        dist.barrier()


@contextmanager
def open_whole(path: str | Path, mode: str = "r", **kwargs: Any) -> Iterator[Any]:
    """Replace ``open`` in ``with``: a new file appears when it is complete, and the old one stays until then."""
    if "w" in mode:
        with written_aside(path) as temporary, builtins.open(temporary, mode, **kwargs) as file:
            yield file
    else:
        with builtins.open(path, mode, **kwargs) as file:
            yield file
