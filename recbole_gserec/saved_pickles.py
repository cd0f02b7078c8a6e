"""Keeping RecBole from pickles that nobody asked it to read, and from those that somebody else made.

A pickle can run code when it is read. RecBole's saved datasets and dataloaders therefore end with a seal, made with a
key that lies in the user's own folder, and one without the right seal is not read. RecBole itself reads both.
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

# No file can have this name, whatever there is on the disk.
NO_FILE = os.path.join(os.devnull, "none")

_MARK = b"\nsealed by recbole-gserec: "
_KEY_LENGTH = _SEAL_LENGTH = 32


class UnsealedPickleError(Exception):
    """A pickle was damaged, or is somebody else's."""


def dump(content: Any, file: BinaryIO) -> None:
    """Pickle something into a file, and seal it: this user can read it again."""
    pickled = pickle.dumps(content)
    file.write(pickled)
    key = _key() or _new_key()
    if key:
        file.write(_MARK + _seal(key, pickled))


def load(file: BinaryIO) -> Any:
    """Read what :func:`dump` has written for the same user.

    Raises:
        UnsealedPickleError: If the file is another one; nothing of it is unpickled.
    """
    content = file.read()
    pickled, rest = content[: -len(_MARK) - _SEAL_LENGTH], content[-len(_MARK) - _SEAL_LENGTH :]
    key = _key()
    if not (key and hmac.compare_digest(rest, _MARK + _seal(key, pickled))):
        raise UnsealedPickleError
    return pickle.loads(pickled)


def only_when_asked(load: Callable[[Any], Any], save: str, path: str) -> Callable[[Any], Any]:
    """A function of RecBole's that reads a pickle beside the checkpoints only for who saves there or names a file.

    One that is damaged, or that another user or another machine made, is made anew instead; where it was named, it is
    an error.

    Args:
        load: Takes a Config; reads the file that the setting ``path`` names, by default one beside the checkpoints.
        save: Setting by which such files are written.
        path: Setting that names one.
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
                    raise DataError(named, problem, f"Leave {path} out: what it holds is then made anew.") from error
                getLogger().warning(f"{folder}: the pickled {save.removeprefix('save_')} there is {problem}. Made anew")
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
    """Where the user's key is: in no folder that datasets, checkpoints or settings are exchanged in."""
    given = os.environ.get("XDG_DATA_HOME", "")
    folder = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "share"
    return folder / "recbole-gserec" / "pickles.key"


def _key() -> bytes | None:
    """The key; None where there is none."""
    try:
        key = _key_file().read_bytes()
    except (OSError, RuntimeError):
        return None
    return key if len(key) == _KEY_LENGTH else None


def _new_key() -> bytes | None:
    """A new key, kept; that of another process if it is faster; None where the user has no folder."""
    try:
        file = _key_file()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Readable for this user alone, and never seen half written.
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
