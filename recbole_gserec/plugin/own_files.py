"""Files that RecBole writes: a unique name for every run, complete or not at all, and pickles that can be trusted."""

import builtins
import functools
import glob
import hmac
import logging
import os
import pickle
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import Any, BinaryIO

import torch.distributed as dist
from torch.utils.tensorboard import SummaryWriter

from recbole_gserec.errors import DataError
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


def ensure_folder(dir_path: str) -> None:
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


# No file on any disk can have this name.
NO_FILE = os.path.join(os.devnull, "none")

_MARK = b"\nsealed by recbole-gserec: "
_KEY_LENGTH = _SEAL_LENGTH = 32


class UnsealedPickleError(Exception):
    """A pickle is damaged or was made by somebody else."""


def dump(content: Any, file: BinaryIO) -> None:
    """Pickle an object into a file and seal it, so that this user can read it again."""
    pickled = pickle.dumps(content)
    file.write(pickled)
    key = _key() or _new_key()
    if key:
        file.write(_MARK + _seal(key, pickled))


def load(file: BinaryIO) -> Any:
    """Load a file that :func:`dump` wrote for the same user.

    Raises:
        UnsealedPickleError: If it is another file; nothing of it is unpickled.
    """
    content = file.read()
    pickled, rest = content[: -len(_MARK) - _SEAL_LENGTH], content[-len(_MARK) - _SEAL_LENGTH :]
    key = _key()
    if not (key and hmac.compare_digest(rest, _MARK + _seal(key, pickled))):
        raise UnsealedPickleError
    return pickle.loads(pickled)


def only_when_asked(load: Callable[[Any], Any], save: str, path: str) -> Callable[[Any], Any]:
    """Let RecBole read a pickle next to the checkpoints only if the user saves such files or names this one.

    If the pickle is damaged or from another user or machine, its content is made again. If the user named it, it is an
    error.

    Args:
        load: Takes a Config and reads the file in the setting ``path``, by default one next to the checkpoints.
        save: Setting that saves such files.
        path: Setting that names such a file.
    """

    def load_none(config: Any) -> Any:
        named = config[path]
        config[path] = NO_FILE
        try:
            return load(config)
        finally:
            config[path] = named

    @functools.wraps(load)
    def load_when_asked(config: Any) -> Any:
        folder, named = config["checkpoint_dir"], config[path]
        if config[save] or named:
            try:
                return load(config)
            except UnsealedPickleError as error:
                problem = "not read: it is damaged, or was not saved by you on this machine, and a pickle can run code"
                if named:
                    raise DataError(named, problem, f"Leave {path} out: its content is then made again.") from error
                getLogger().warning(
                    f"{folder}: the pickled {save.removeprefix('save_')} is {problem}. It is made again"
                )
                return load_none(config)
        if not any(Path(folder).glob(f"{glob.escape(str(config['dataset']))}-*.pth")):
            return load(config)
        getLogger().warning(
            f"{folder} has pickled datasets or dataloaders. Reading them can run code, so they are "
            f"ignored: {save} is False, and {path} is not set"
        )
        return load_none(config)

    return load_when_asked


def _seal(key: bytes, pickled: bytes) -> bytes:
    return hmac.digest(key, pickled, "sha256")


def _key_file() -> Path:
    """Return the path of the user's key, outside of folders that are shared with others."""
    data_home = os.environ.get("XDG_DATA_HOME", "")
    folder = Path(data_home) if os.path.isabs(data_home) else Path.home() / ".local" / "share"
    return folder / "recbole-gserec" / "pickles.key"


def _key() -> bytes | None:
    """Return the key; None if there is none."""
    try:
        key = _key_file().read_bytes()
    except (OSError, RuntimeError):
        return None
    return key if len(key) == _KEY_LENGTH else None


def _new_key() -> bytes | None:
    """Create and store a key, or return that of a faster process; None if the user has no folder."""
    try:
        file = _key_file()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Only this user can read it, and it never appears incomplete.
        handle, temporary = tempfile.mkstemp(dir=file.parent)
        try:
            with open(handle, "wb") as opened:
                opened.write(secrets.token_bytes(_KEY_LENGTH))
            os.link(temporary, file)
        finally:
            os.unlink(temporary)
    except FileExistsError:
        pass
    except (OSError, RuntimeError) as error:
        getLogger().warning(f"what is saved now cannot be read later, because its key cannot be stored ({error})")
        return None
    return _key()
