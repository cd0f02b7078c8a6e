"""Tell errors of the user, which a command reports in one line, from bugs, which need a traceback."""

import linecache
import logging
import sys
import traceback
from types import FrameType
from typing import Any

from recbole_gserec.errors import GSERecError, is_missing_library, one_line

_READERS = ("recbole.config", "recbole.data", "recbole.utils")
_MODELS = ("recbole.model.",)


def line_of(error: BaseException) -> str | None:
    """The line that a command prints for an error; None for a bug in this package."""
    if is_the_users(error):
        return f"error: {one_line(error)}"
    frames = _frames(error)
    if isinstance(error, Exception) and frames and _is_of_a_model(frames):
        _log_traceback(error)
        frame, line = next((frame, line) for frame, line in reversed(frames) if _name(frame).startswith(_MODELS))
        name = _name(frame)
        what = f"{type(error).__name__}: {one_line(error)}"
        return (
            f"error: a RecBole model fails on this data or with these settings: {what} "
            f"({name}, line {line}; see the log file for the traceback)"
        )
    return None


def is_the_users(error: BaseException) -> bool:
    """Whether the user's input caused the error: one of our own classes, or raised while RecBole reads input."""
    # If YAML raised the error, it is imported. Commands that need no YAML do not import it.
    yaml = sys.modules.get("yaml")
    if isinstance(error, (GSERecError, OSError)) or is_missing_library(error):
        return True
    if yaml is not None and isinstance(error, yaml.YAMLError):
        return True
    frames = _frames(error)
    # The libraries that RecBole's readers call also fail on the user's input. Code of this package raises its own
    # errors for wrong input; any other error in it is a bug.
    names = [_name(frame) for frame, _ in frames]
    ours_or_recbole = [name for name in names if name.split(".")[0] in ("recbole", "recbole_gserec")]
    if not ours_or_recbole or ours_or_recbole[-1].startswith("recbole_gserec"):
        return False
    is_innermost = names[-1] == ours_or_recbole[-1]
    if is_innermost and str(error) and _is_refusal(*frames[-1]):
        return True
    if not ours_or_recbole[-1].startswith(_READERS):
        return False
    kinds: tuple[type[Exception], ...] = (ValueError, KeyError)
    if is_innermost:
        kinds += (TypeError, NotImplementedError, RuntimeError, SyntaxError)
    return isinstance(error, kinds)


def _is_refusal(frame: FrameType, line: int) -> bool:
    """Whether a line of code raises an error on purpose."""
    statement = linecache.getline(frame.f_code.co_filename, line).strip()
    return statement.startswith(("raise ", "assert "))


def _is_of_a_model(frames: list[tuple[FrameType, int]]) -> bool:
    """Whether one of RecBole's own models was running. Models of this package also use parts of RecBole's."""
    names = [_name(frame) for frame, _ in frames]
    return any(name.startswith(_MODELS) for name in names) and not any(
        name.startswith("recbole_gserec.models") for name in names
    )


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    return list(traceback.walk_tb(error.__traceback__))


def _name(frame: FrameType) -> str:
    return frame.f_globals.get("__name__", "")


def _log_traceback(error: Exception) -> None:
    """Write the full traceback to RecBole's log file, and only there."""
    record: Any = logging.LogRecord("recbole", logging.ERROR, "", 0, "%s", ("the run failed",), None)
    record.exc_info = (type(error), error, error.__traceback__)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
