"""Which errors a command tells in one line, and which are defects that must show where they happened."""

from __future__ import annotations

import traceback

import yaml

from recbole_gserec.errors import GSERecError
from recbole_gserec.files import NO_ROOM


def is_the_users(error: BaseException) -> bool:
    """Whether the error is about what the user gave: ours say so; RecBole raises such while reading it."""
    if isinstance(error, (GSERecError, OSError, yaml.YAMLError)):
        return True
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    # What RecBole's readers call of other libraries fails on the user's content too. What they call of this package
    # has errors of its own for that; others are defects.
    ours_or_recbole = [name for name in names if name.split(".")[0] in ("recbole", "recbole_gserec")]
    readers = ("recbole.config", "recbole.data", "recbole.utils")
    if not ours_or_recbole or not ours_or_recbole[-1].startswith(readers):
        return False
    kinds: tuple[type[Exception], ...] = (ValueError, KeyError)
    if names[-1] == ours_or_recbole[-1]:
        kinds += (TypeError, NotImplementedError, RuntimeError, SyntaxError)
    return isinstance(error, kinds)


def one_line(error: BaseException) -> str:
    """The error's message in one line."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        remedy = ". Make room there, then start again" if error.errno in NO_ROOM else ""
        return f"{error.filename}: {error.strerror}{remedy}"
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split())
