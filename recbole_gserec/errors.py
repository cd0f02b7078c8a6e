"""The errors a user can cause, each told in one line: what, where, what to do.

The command line catches :class:`GSERecError` once, prints it and exits with status 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recbole_gserec.files import NO_ROOM

_LONGEST_NAME = 100


class GSERecError(Exception):
    """Base of every error that a user's input, and not a defect of the library, causes."""


class DataError(GSERecError):
    """A file's content is wrong.

    Args:
        path: The file.
        problem: What is wrong with it.
        remedy: What the user can do about it.
        line: The 1-based line in the file, when one line is to blame.
    """

    def __init__(self, path: str | Path, problem: str, remedy: str, line: int | None = None):
        self.path, self.line, self.problem, self._remedy = Path(path), line, problem, remedy
        where = f"{path}, line {line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {problem}. {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors of other processes are pickled, by default with the message as the only argument."""
        return type(self), (self.path, self.problem, self._remedy, self.line)


class SettingError(GSERecError):
    """A setting has a wrong name or value."""

    @classmethod
    def unknown(cls, name: str, known: Iterable[str]) -> SettingError:
        """Error for a setting nobody reads, with the nearest known name as a hint."""
        name = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}\u2026"
        near = difflib.get_close_matches(name, list(known), n=1)
        hint = f"Did you mean '{near[0]}'?" if near else "See the model's YAML for the settings it reads."
        return cls(f"unknown setting '{name}'. {hint}")


class CheckpointError(GSERecError):
    """A checkpoint is missing, truncated, or was not made by this library."""


class MissingDependencyError(GSERecError):
    """An optional library is needed and not installed."""


class VersionError(GSERecError):
    """An installed library has a version this plugin does not know."""


class InterruptedWorkError(GSERecError):
    """Long work could not go on; what was finished is kept, and the same command goes on from there."""


def one_line(error: BaseException) -> str:
    """The error's message in one line."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        remedy = ". Make room there, then start again" if error.errno in NO_ROOM else ""
        return f"{error.filename}: {error.strerror}{remedy}"
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split())


def message_of(error: Exception) -> str:
    """The reason of a failure, in one line."""
    if isinstance(error, MemoryError):
        return f"out of memory {one_line(error)}".strip()
    is_the_users = isinstance(error, GSERecError) or (isinstance(error, OSError) and error.filename is not None)
    return one_line(error) if is_the_users else f"{type(error).__name__}: {one_line(error)}"
