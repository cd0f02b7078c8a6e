"""Writes files so that readers never see incomplete ones, and unfinished files do not remain.

A file that is being written, or that exists only during some work, has a name like
``.toy.code-unfinished-k3x9q2ab.png`` and is locked by its process. The system releases the lock when the process ends,
for whatever reason. A file with such a name and no lock is therefore abandoned, and the next writer in the same folder
removes it. On file systems without locks, nothing is removed.
"""

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
except ImportError:  # On Windows, files of killed processes remain.
    fcntl = None  # type: ignore[assignment]  # mypy has no word for a module that may be missing

_MARK = "-unfinished-"
# The end of Python's temporary names, and perhaps a suffix.
_UNFINISHED = re.compile(rf"\..*{_MARK}[a-z0-9_]{{8}}(\.[^.]*)?", re.DOTALL)
_LOCK = "in-use"


@contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``, and rename it to ``path`` if the block succeeds.

    The temporary name keeps the suffix of ``path``, because some writers choose a format by it. If the block raises,
    the temporary file is removed and ``path`` stays unchanged. Abandoned files of killed processes in the folder are
    removed.

    Raises:
        OSError: If the file cannot be written; it names ``path`` instead of the temporary file.
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
    """Yield a temporary folder near ``path``, and rename it to ``path`` if the block succeeds.

    ``path`` must be missing or empty. If another process finishes the same folder first, its result is kept. Abandoned
    files of killed processes in the parent folder are removed.
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
    """Yield a new folder that is removed at the end of the block or, if its process was killed, by the next call.

    Args:
        parent: Where to create it, by default the system's temporary folder. A missing parent is created, and removed
            again if it is empty at the end.
        name: Part of the folder's name.

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
        # Stops at the first folder that is not empty, for example because of the result.
        with suppress(OSError):
            for path in missing:
                path.rmdir()


def remove_abandoned(folder: str | Path) -> None:
    """Remove unfinished files of killed processes in a folder; files of running processes stay."""
    if fcntl is None:
        return
    found: list[Path] = []
    with suppress(OSError), os.scandir(folder) as entries:
        found += [Path(entry.path) for entry in entries if _UNFINISHED.fullmatch(entry.name)]
    for path in found:
        # Another process may have removed it first, or another user may own it.
        with suppress(OSError):
            _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    is_folder = path.is_dir() and not path.is_symlink()
    if is_folder and not (path / _LOCK).exists():
        # Its process was killed before locking it, so it is empty. A process that is about to lock it will create
        # another one.
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
    """Create a file to be renamed to ``path``; also return the open lock."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}{_MARK}", suffix=path.suffix)
        temporary = Path(name)
        if fcntl is None:
            os.close(handle)
            return temporary, None
        # Before it was locked, another process may have removed the new file as abandoned.
        if _acquire(handle) is not False and _is_open_as(temporary, handle):
            return temporary, handle
        os.close(handle)


@contextmanager
def _locked_folder(parent: Path, name: str, reported_path: Path) -> Iterator[Path]:
    """Yield a new folder with this name, inside a temporary one that is locked; errors mention ``reported_path``."""
    remove_abandoned(parent)
    with _named(reported_path):
        outer, lock = _make_folder(parent, name)
    try:
        with _named(reported_path):
            (outer / name).mkdir()
        yield outer / name
    finally:
        shutil.rmtree(outer, ignore_errors=True)
        _close(lock)


def _make_folder(parent: Path, name: str) -> tuple[Path, int | None]:
    """Create a folder that contains only its lock; also return the open lock."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=f".{name}{_MARK}"))
        if fcntl is None:
            return folder, None
        with suppress(FileNotFoundError):
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            # Here too, another process may have removed it.
            if _acquire(lock) is not False and _is_open_as(folder / _LOCK, lock):
                return folder, lock
            os.close(lock)


def _acquire(lock: int) -> bool | None:
    """Return whether the lock was free; False if the file system has no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_open_as(path: Path, handle: int) -> bool:
    """Return whether the path still names the open file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _close(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _share(temporary: Path) -> None:
    """Give a file that only its owner may read the default permissions of new files."""
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)


@contextmanager
def _named(path: Path, numbers: set[int] | None = None) -> Iterator[None]:
    """Let errors of the operating system, or those with such numbers, mention this path."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (numbers is not None and error.errno not in numbers):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def is_plain_name(text: str) -> bool:
    """Return whether a text is a name within a folder, not a path to another one."""
    return text not in ("", "..") and Path(text).name == text


def sha256_of_file(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_known_file(path: str | Path) -> str:
    """Return the same, but read the file again only if its size or modification time changed."""
    state = os.stat(path)
    return _known_sha256(os.path.abspath(path), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _known_sha256(path: str, size: int, modified: int) -> str:
    return sha256_of_file(path)
