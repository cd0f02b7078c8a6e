"""Parsing of command-line arguments: settings, names and seeds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from recbole_gserec.errors import SettingError, nearest

_ONE_DASH = re.compile(r"-([A-Za-z_][\w-]+)(=.*)?", re.DOTALL)
_MODEL_FILE = re.compile(r"(?:(?!\.py:).)+\.py:\w+")
"""One file and class, and not several with spaces between."""
_NAMES = "model dataset config_files config-files checkpoint user users seeds output data_path data-path".split()
"""Names that users often write with one dash. Typer would read ``-model`` as the short option ``-m`` and ``odel``."""


def check_dashes(arguments: Iterable[str]) -> None:
    """Reject long option names that follow a single dash.

    Raises:
        SettingError: For such a name, with the correct form.
    """
    for argument in arguments:
        found = _ONE_DASH.fullmatch(argument)
        if found and (found[2] or found[1] in _NAMES):
            raise SettingError(f"argument '{argument}': long names need two dashes. Did you mean '-{argument}'?")


def parse_settings(arguments: Iterable[str]) -> dict[str, Any]:
    """Read arguments of the form ``--name=value``; see :func:`read_value`.

    Raises:
        SettingError: If an argument has another form, or its value is too large or refers to itself.
    """
    # Help and mistyped names do without YAML.
    from recbole_gserec.yaml_values import read_value

    settings = {}
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not (argument.startswith("--") and name and equals):
            near = nearest(name, _NAMES) if argument.startswith("--") else None
            hint = f" Did you mean '--{near}'?" if near and near != name else ""
            raise SettingError(f"'{argument}' is not understood. Give settings as --name=value.{hint}")
        settings[name] = read_value(name, value)
    return settings


def names_in(values: list[str] | None) -> list[str]:
    """Distinct names from repeated options, each with one or several names separated by commas or spaces.

    The path of a model's file may contain spaces.
    """
    parts = [part.strip() for text in values or [] for part in text.split(",")]
    names = ([part] if _MODEL_FILE.fullmatch(part) else part.split() for part in parts)
    return list(dict.fromkeys(name for several in names for name in several))


def seeds_in(text: str) -> list[int]:
    """Read seeds separated by commas.

    Raises:
        SettingError: If one is not a whole number.
    """
    try:
        return [int(seed) for seed in text.replace(",", " ").split()]
    except ValueError as error:
        raise SettingError(
            f"--seeds '{text}' is not a list of whole numbers. Separate them by commas: 2020,2021"
        ) from error
