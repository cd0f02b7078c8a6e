"""What RecBole writes, so that two runs at once never write to one file, and no file is left half written."""

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
    """RecBole's name of the present second, such as ``Nov-29-2026_23-30-12``, with eight digits of the run's own.

    Runs that start within one second, in one process or in many, would otherwise share checkpoints and logs. The digits
    are drawn by the operating system: seeds have no say in them, and no draw of a training changes.
    """

    def get_local_time() -> str:
        return f"{local_time()}-{secrets.token_hex(4)}"

    return get_local_time


def ensure_dir(dir_path: str) -> None:
    """RecBole's, also where another process makes the folder at the same moment."""
    os.makedirs(dir_path, exist_ok=True)


def with_own_log(init_logger: Callable[[Any], None]) -> Callable[[Any], None]:
    """RecBole's ``init_logger``, which in one process adds nothing for a second run: its lines went to the first's log.

    Handlers that a user's program has set stay, and go on to keep RecBole from adding its own.
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
    """RecBole's ``get_tensorboard``: a folder named as the run's log.

    RecBole takes the name up to its first dot, so that runs on a dataset with a dot in its name would share a folder,
    and the name of any log there is.
    """

    def get_tensorboard(logger: logging.Logger) -> SummaryWriter:
        files = (getattr(handler, "baseFilename", None) for handler in _log_handlers if handler in logger.handlers)
        name = next((Path(file).stem for file in files if file), f"model-{local_time()}")
        return SummaryWriter(os.path.join("log_tensorboard", name))

    return get_tensorboard


def of_first_process(config: Any, name: str) -> str:
    """The name that the first process of a distributed training has chosen; it writes what all of them read."""
    if config["single_spec"] or not dist.is_initialized():
        return name
    names = [name]
    dist.broadcast_object_list(names, src=0)
    return names[0]


def wait_for_all(config: Any) -> None:
    """Wait until all processes of a distributed training have come as far: one of them may still be writing."""
    if not config["single_spec"] and dist.is_initialized():
        dist.barrier()


@contextmanager
def open_whole(path: str | Path, mode: str = "r", **kwargs: Any) -> Iterator[Any]:
    """``open`` for ``with``; a new file appears when it is complete, and until then the former stays."""
    if "w" in mode:
        with written_aside(path) as temporary, builtins.open(temporary, mode, **kwargs) as file:
            yield file
    else:
        with builtins.open(path, mode, **kwargs) as file:
            yield file
