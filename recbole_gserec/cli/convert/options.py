"""Options shared by all converters, added to each command by one decorator."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dataset_converters.choices import ACTIONS, WORDS, Filters, Options
from recbole_gserec.errors import SettingError

OutputFolder = Annotated[
    Path, typer.Option("--output", help="Folder of all datasets; the new dataset becomes a subfolder.")
]


def _in_panel(panel: str | None, kind: Any, help_text: str) -> object:
    return Annotated[kind, typer.Option(help=help_text, rich_help_panel=panel)]


# 20240131 is a date here; as seconds it would be a day in 1970.
_DATE_IN_DIGITS = re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])")
_KEEP, _MACHINE = "What to keep", "Machine"
_FILTERS = {
    "since": _in_panel(
        _KEEP, str | None, "Keep events from this time on: a date (2024-01-31, in UTC) or seconds since 1970."
    ),
    "until": _in_panel(_KEEP, str | None, "Keep events before this time."),
    "drop_duplicates": _in_panel(
        _KEEP, bool, "Keep one of several events that are equal in everything, including the time."
    ),
    "min_searches": _in_panel(_KEEP, int, "Minimum number of searches per user."),
    "k_core": _in_panel(_KEEP, int, "Minimum number of interactions of each user and each item (k-core)."),
    "min_interactions": _in_panel(
        _KEEP, int, "Minimum number of interactions of users who have any; evaluation needs 3."
    ),
    "search_only_users": _in_panel(_KEEP, bool, "Keep users who search but never interact."),
}
_OTHERS = {
    "all_items": _in_panel(_KEEP, bool, "Keep the texts of items that are in no kept event."),
    "words": _in_panel(None, str, f"How to split queries into words: {' or '.join(WORDS)} (only at spaces)."),
    "bad_rows": _in_panel(
        None, str, f"What to do with rows that cannot be used: {' or '.join(ACTIONS)} (leave out and count)."
    ),
    "memory": _in_panel(_MACHINE, str, "Memory limit of the database."),
    "threads": _in_panel(_MACHINE, int | None, "Threads of the database; by default one per processor."),
}


def with_options(defaults: Options | None = None) -> Callable[[Callable], Callable]:
    """Decorate a command with the options of every conversion.

    The command takes the keyword argument ``options``, an :class:`Options`. The command line gets one option for each
    of its fields and for each field of its filters.

    Args:
        defaults: Default values of the options.
    """
    defaults = defaults or Options()
    values = {**_fields(defaults.filters), **_fields(defaults)}

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def wrapped(**arguments: Any) -> object:
            filters = {name: arguments.pop(name) for name in _FILTERS}
            filters |= {name: _seconds(name, filters[name]) for name in ("since", "until")}
            others = {name: arguments.pop(name) for name in _OTHERS}
            return command(**arguments, options=Options(filters=Filters(**filters), **others))

        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "options"]
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=values[name], annotation=annotation)
            for name, annotation in {**_OTHERS, **_FILTERS}.items()
        ]
        described: Any = wrapped
        described.__signature__ = signature.replace(parameters=[*own, *shared])
        # Typer reads the types from the annotations, not from the signature.
        described.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
        del described.__wrapped__
        return wrapped

    return decorate


def _fields(options: Options | Filters) -> dict[str, Any]:
    return {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}


def _seconds(name: str, text: str | float | None) -> float | None:
    """Convert a date or a number to seconds since 1970."""
    if text is None:
        return None
    remedy = "Give a date like 2024-01-31, or seconds since 1970."
    with suppress(ValueError):
        seconds = float(text)
        if _DATE_IN_DIGITS.fullmatch(str(text)):
            raise SettingError(f"{name} {text} can be a date or a number of seconds. {remedy}")
        return seconds
    try:
        # fromisoformat does not accept a lower-case z.
        moment = datetime.fromisoformat(re.sub(r"(?<=\d)z$", "Z", str(text).strip()))
    except ValueError:
        raise SettingError(f"{name} '{text}' is not a date. {remedy}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
