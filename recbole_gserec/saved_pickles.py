"""Keeps RecBole from reading pickles that nobody requested or that somebody else made.

A pickle can run code when it is read. Therefore RecBole's saved datasets and dataloaders end with a seal, made with a
key in the user's own folder. Files without a valid seal are not read here, but RecBole alone can read them.
"""

from __future__ import annotations

import functools
import glob
import hmac
import os
import pickle
import secrets
import tempfile
from collections.abc import Callable
from logging import getLogger
from pathlib import Path
from typing import Any, BinaryIO

from recbole_gserec.errors import DataError

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
                    f"{folder}: the pickled {save.removeprefix('save_')} there is {problem}. Made again"
                )
                return load_none(config)
        if not any(Path(folder).glob(f"{glob.escape(str(config['dataset']))}-*.pth")):
            return load(config)
        getLogger().warning(
            f"{folder}: there are pickled datasets or dataloaders, which can run code when they are "
            f"read. They are not read: {save} is False, and {path} names none"
        )
        return load_none(config)

    return load_when_asked


def _seal(key: bytes, pickled: bytes) -> bytes:
    return hmac.digest(key, pickled, "sha256")


def _key_file() -> Path:
    """Return the path of the user's key, outside of folders that are shared with others."""
    given = os.environ.get("XDG_DATA_HOME", "")
    folder = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "share"
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
        getLogger().warning(f"what is saved now cannot be read again: there is no place for a key ({error})")
        return None
    return _key()
