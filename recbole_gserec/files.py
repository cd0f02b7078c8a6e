"""Writing files so that a reader never meets half of one, and what is unfinished does not stay.

Whatever is being written, or lives only as long as some work, has a name like ``.toy.code-unfinished-k3x9q2ab.png`` and
is locked by its process. The system frees the lock of a process that dies, however it dies, so what has such a name and
no lock is nobody's: it is removed by the next who writes into the same folder. Where the file system has no locks,
nothing is removed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from recbole_gserec.errors import NO_ROOM

try:
    import fcntl
except ImportError:  # Windows: what a killed process left stays.
    fcntl = None  # type: ignore[assignment]  # mypy has no word for a module that may be missing

_MARK = "-unfinished-"
# As the temporary names of Python end, and perhaps a suffix.
_UNFINISHED = re.compile(rf"\..*{_MARK}[a-z0-9_]{{8}}(\.[^.]*)?", re.DOTALL)
_LOCK = "in-use"


@contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it to ``path`` when the block succeeds.

    The temporary name keeps the suffix of ``path``, since some writers choose a format by it. When the block
    raises, the temporary file is removed and ``path`` is left as it was. What killed processes left in the folder is
    removed.

    Raises:
        OSError: If the file cannot be written, with its own name and not the temporary one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    with _named(path):
        temporary, lock = _make_file(path)
    try:
        with _named(path, NO_ROOM):
            yield temporary
        with _named(path):
            _share(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        _close(lock)


@contextmanager
def folder_written_aside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder near ``path`` and rename it to ``path`` when the block succeeds.

    ``path`` must not exist yet, or be empty. If another process finishes the same folder first, its result is kept.
    What killed processes left in the folder above is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked_folder(path.parent, path.name, path) as temporary:
        with _named(path, NO_ROOM):
            yield temporary
        try:
            with _named(path):
                os.replace(temporary, path)
        except OSError:
            if not (path.is_dir() and any(path.iterdir())):
                raise


@contextmanager
def scratch_folder(parent: str | Path | None = None, name: str = "gserec") -> Iterator[Path]:
    """Yield a new folder that goes when the block ends, or when the next one begins if its process was killed.

    Args:
        parent: Where it is made, the system's temporary folder by default. It is made too if it is missing, and removed
            again if it is empty in the end.
        name: What the folder's name tells.

    Raises:
        OSError: If it cannot be written.
    """
    parent = Path(tempfile.gettempdir() if parent is None else parent)
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    try:
        with _locked_folder(parent, name, parent) as folder:
            yield folder
    finally:
        # Stops at the first that holds anything, such as the result.
        with suppress(OSError):
            for path in missing:
                path.rmdir()


def remove_abandoned(folder: str | Path) -> None:
    """Remove what killed processes left unfinished in a folder; what a living one writes stays."""
    if fcntl is None:
        return
    found: list[Path] = []
    with suppress(OSError), os.scandir(folder) as entries:
        found += [Path(entry.path) for entry in entries if _UNFINISHED.fullmatch(entry.name)]
    for path in found:
        # Another process may be quicker, or the file another user's.
        with suppress(OSError):
            _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    is_folder = path.is_dir() and not path.is_symlink()
    if is_folder and not (path / _LOCK).exists():
        # Killed before it was locked, so it is empty; one who is about to lock it makes another.
        path.rmdir()
        return
    lock = os.open(path / _LOCK if is_folder else path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not _acquire(lock):
            return
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
        elif _is_open_as(path, lock):
            path.unlink()
    finally:
        os.close(lock)


def _make_file(path: Path) -> tuple[Path, int | None]:
    """Make a file to be renamed to ``path``; returns the open lock too."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}{_MARK}", suffix=path.suffix)
        temporary = Path(name)
        if fcntl is None:
            os.close(handle)
            return temporary, None
        # Before it was locked, another process may have taken the new file for an abandoned one.
        if _acquire(handle) is not False and _is_open_as(temporary, handle):
            return temporary, handle
        os.close(handle)


@contextmanager
def _locked_folder(parent: Path, name: str, told: Path) -> Iterator[Path]:
    """Yield a new folder of this name, inside one that is locked and goes in the end; errors tell of ``told``."""
    remove_abandoned(parent)
    with _named(told):
        outer, lock = _make_folder(parent, name)
    try:
        with _named(told):
            (outer / name).mkdir()
        yield outer / name
    finally:
        shutil.rmtree(outer, ignore_errors=True)
        _close(lock)


def _make_folder(parent: Path, name: str) -> tuple[Path, int | None]:
    """Make a folder that holds nothing but its lock; returns the open lock too."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=f".{name}{_MARK}"))
        if fcntl is None:
            return folder, None
        with suppress(FileNotFoundError):
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            # Here too another process may have been in between.
            if _acquire(lock) is not False and _is_open_as(folder / _LOCK, lock):
                return folder, lock
            os.close(lock)


def _acquire(lock: int) -> bool | None:
    """Whether the lock was free; none if the file system has no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_open_as(path: Path, handle: int) -> bool:
    """Whether the path names the very file that is open."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _close(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _share(temporary: Path) -> None:
    """Give a file that was made for the owner alone the rights that anything new has."""
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)


@contextmanager
def _named(path: Path, numbers: set[int] | None = None) -> Iterator[None]:
    """Let errors of the operating system, or those with such numbers, tell of this path."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (numbers is not None and error.errno not in numbers):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def is_plain_name(text: str) -> bool:
    """Whether a text names something that lies within a folder, and is no path to another place."""
    return text not in ("", "..") and Path(text).name == text


def sha256_of_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_known_file(path: str | Path) -> str:
    """The same, read once for as long as the file's size and time of change stay as they are."""
    state = os.stat(path)
    return _known_sha256(os.path.abspath(path), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _known_sha256(path: str, size: int, modified: int) -> str:
    return sha256_of_file(path)
