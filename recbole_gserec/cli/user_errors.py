"""Which errors a command tells in one line, and which are defects that must show where they happened."""

from __future__ import annotations

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
    """What a command says of an error; None for a defect of this package."""
    if is_the_users(error):
        return f"error: {one_line(error)}"
    frames = _frames(error)
    if isinstance(error, Exception) and frames and _is_of_a_model(frames):
        _log_traceback(error)
        frame, line = next((frame, line) for frame, line in reversed(frames) if _name(frame).startswith(_MODELS))
        name = _name(frame)
        what = f"{type(error).__name__}: {one_line(error)}"
        return (
            f"error: a model of RecBole's own fails on this data or with these settings: {what} "
            f"({name}, line {line}; the log file has the traceback)"
        )
    return None


def is_the_users(error: BaseException) -> bool:
    """Whether the error is about what the user gave: ours say so; RecBole raises such while reading it."""
    # An error of YAML has imported it; other commands may do without.
    yaml = sys.modules.get("yaml")
    if isinstance(error, (GSERecError, OSError)) or is_missing_library(error):
        return True
    if yaml is not None and isinstance(error, yaml.YAMLError):
        return True
    frames = _frames(error)
    # What RecBole's readers call of other libraries fails on the user's content too. What they call of this package
    # has errors of its own for that; others are defects.
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
    """Whether a line raises an error on purpose."""
    statement = linecache.getline(frame.f_code.co_filename, line).strip()
    return statement.startswith(("raise ", "assert "))


def _is_of_a_model(frames: list[tuple[FrameType, int]]) -> bool:
    """Whether one of RecBole's own models was at work; those of this package are built on parts of theirs."""
    names = [_name(frame) for frame, _ in frames]
    return any(name.startswith(_MODELS) for name in names) and not any(
        name.startswith("recbole_gserec.models") for name in names
    )


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    return list(traceback.walk_tb(error.__traceback__))


def _name(frame: FrameType) -> str:
    return frame.f_globals.get("__name__", "")


def _log_traceback(error: Exception) -> None:
    """Write an error in full to the file of RecBole's log alone."""
    record: Any = logging.LogRecord("recbole", logging.ERROR, "", 0, "%s", ("the run failed",), None)
    record.exc_info = (type(error), error, error.__traceback__)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
