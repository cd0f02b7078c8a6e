"""Which errors a command tells in one line, and which are defects that must show where they happened."""

from __future__ import annotations

import traceback

import yaml

from recbole_gserec.errors import GSERecError


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
