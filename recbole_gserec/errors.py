"""Errors that a user can cause, each described in one line: what, where, what to do.

The command line catches :class:`GSERecError` once, prints it and exits with status 2. Here too: importing optional
libraries with a hint on what to install, and checks of a value's kind.

"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

_LONGEST_NAME = 100
_LONGEST_VALUE = 200

# What the operating system says of a disk, a user's share of it, or a file that has no room for more.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}

_NEAR, _NEAR_OF_SHORT = 0.72, 0.6
"""Minimum similarity of a name and its correction; a typing error is a larger part of a short name."""


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a name, ignoring case; None if none is similar enough."""
    by_lower = {str(one).lower(): str(one) for one in known}
    text = str(name).lower()
    near = difflib.get_close_matches(text, by_lower, n=1, cutoff=_NEAR_OF_SHORT if len(text) <= 4 else _NEAR)
    return by_lower[near[0]] if near else None


class GSERecError(Exception):
    """Base class of all errors that a user's input can cause, as opposed to defects of the library."""


class DataError(GSERecError):
    """The content of a file is wrong.

    Args:
        path: The file.
        problem: What is wrong with it.
        advice: Advice on what the user can do about it.
        line: The 1-based line in the file, if a single line is wrong.
    """

    def __init__(self, path: str | Path, problem: str, advice: str, line: int | None = None):
        self.path, self.line, self.problem, self._advice = Path(path), line, problem, advice
        where = f"{path}, line {line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {problem}. {advice}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickling, which by default would pass only the message as an argument."""
        return type(self), (self.path, self.problem, self._advice, self.line)


_OF_DEVICES = ("device", "cuda", "gpu", "gpus", "cpu")
_MEANT = {
    "lr": "learning_rate",
    "batch_size": "train_batch_size",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "optimizer": "learner",
    "patience": "stopping_step",
    "early_stop": "stopping_step",
    "output": "checkpoint_dir",
    "save_dir": "checkpoint_dir",
    "k": "topk",
    "top_k": "topk",
    "num_workers": "worker",
    "log_level": "state",
}
"""Names in other programs for settings of RecBole."""


class SettingError(GSERecError):
    """A setting has a wrong name or value."""

    @classmethod
    def unknown(cls, name: str, known: Iterable[str]) -> SettingError:
        """Return the error for an unknown setting, with the most similar known name as a hint."""
        known = list(known)
        name = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}\u2026"
        meant = _MEANT.get(name)
        near = meant if meant in known else nearest(name, known)
        hint = f"Did you mean '{near}'?" if near else "See the model's YAML for the settings it reads."
        if name in _OF_DEVICES and "use_gpu" in known:
            hint = "Set gpu_id to choose a GPU (--gpu_id=0), or use_gpu to use none (--use_gpu=False)."
        return cls(f"unknown setting '{name}'. {hint}")

    @classmethod
    def wrong(cls, name: str, value: object, allowed: str) -> SettingError:
        """Return the error for a value that a setting does not allow."""
        shown = repr(value)
        shown = shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}\u2026"
        return cls(f"{name} is {shown}; it must be {allowed}")


class CheckpointError(GSERecError):
    """A checkpoint is missing, damaged, or was not made by this library."""


class MissingDependencyError(GSERecError):
    """An optional library is needed but not installed."""


class VersionError(GSERecError):
    """An installed library has a version that this plugin does not support."""


class InterruptedWorkError(GSERecError):
    """Long work was interrupted; finished parts are stored, and the same command resumes it."""


_PACKAGES = {
    "faiss": "faiss-cpu",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
    # RecBole's decision-tree models import both.
    "lightgbm": "lightgbm xgboost",
    "xgboost": "lightgbm xgboost",
}
"""Packages whose name differs from that of their library."""
_OWN = ("recbole_gserec", "dataset_converters", "recbole")


def packages_to_install(library: str | None) -> str:
    """Return what to install for a library."""
    top = str(library).partition(".")[0]
    return _PACKAGES.get(top, top)


def is_missing_library(error: BaseException) -> bool:
    """Return whether an error means that a third-party library is missing; a missing module of ours is a defect."""
    return isinstance(error, ModuleNotFoundError) and bool(error.name) and str(error.name).split(".")[0] not in _OWN


def one_line(error: BaseException) -> str:
    """Return the error's message in one line."""
    if is_missing_library(error):
        name = getattr(error, "name", "")
        return f"this needs the library '{name}', which is not installed: pip install {packages_to_install(name)}"
    if isinstance(error, OSError) and error.filename is not None and error.errno in _NO_PERMISSION:
        path = os.path.abspath(os.fsdecode(error.filename)) if not isinstance(error.filename, int) else error.filename
        return f"{path}: {error.strerror}. Choose a path that you can read and write, or change its permissions"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        advice = ". Free some space there, then start again" if error.errno in NO_ROOM else ""
        return f"{error.filename}: {error.strerror}{advice}"
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split())


def failure_reason(error: Exception) -> str:
    """Return the reason of a failure, in one line."""
    if isinstance(error, MemoryError):
        return f"out of memory {one_line(error)}".strip()
    is_the_users = (
        isinstance(error, GSERecError)
        or is_missing_library(error)
        or (isinstance(error, OSError) and error.filename is not None)
    )
    return one_line(error) if is_the_users else f"{type(error).__name__}: {one_line(error)}"


def import_optional(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a library from one of the package's extras.

    Args:
        module: Name to import.
        extra: The extra of ``recbole-gserec`` that includes it.
        purpose: What needs it, for the message.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise missing_library(error, purpose, extra) from error


def missing_library(error: ImportError, purpose: str, extra: str | None = None) -> MissingDependencyError:
    """Return the error for a library that is not installed, with what to install.

    Args:
        error: Error of the import.
        purpose: What needs it.
        extra: The extra of ``recbole-gserec`` that includes it, if any.
    """
    what = f"'recbole-gserec[{extra}]'" if extra else packages_to_install(error.name)
    return MissingDependencyError(
        f"{purpose} needs the library '{error.name}', which is not installed: pip install {what}"
    )


T = TypeVar("T")


def not_none(value: T | None) -> T:
    """Return a value that cannot be None, although its type allows it.

    Raises:
        AssertionError: If it is None, which is a defect and not caused by input.
    """
    if value is None:
        raise AssertionError("a required value is None")
    return value


def is_number(value: Any) -> bool:
    """Return whether a value is a real number, including NumPy's but not booleans."""
    return isinstance(value, Real) and not isinstance(value, bool)
