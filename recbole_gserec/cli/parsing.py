"""What commands are given as text, read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from recbole_gserec.errors import SettingError, nearest

_ONE_DASH = re.compile(r"-([A-Za-z_][\w-]+)(=.*)?", re.DOTALL)
_MODEL_FILE = re.compile(r"(?:(?!\.py:).)+\.py:\w+")
"""One file and class, and not several with spaces between."""
_NAMES = "model dataset config_files config-files checkpoint user users seeds output data_path data-path".split()
"""Names that are often given with one dash, and then read as a short option and its value: ``-m odel``."""


def check_dashes(arguments: Iterable[str]) -> None:
    """Refuse a long name after one dash.

    Raises:
        SettingError: Saying how it is written.
    """
    for argument in arguments:
        found = _ONE_DASH.fullmatch(argument)
        if found and (found[2] or found[1] in _NAMES):
            raise SettingError(f"argument '{argument}': long names take two dashes. Did you mean '-{argument}'?")


def parse_settings(arguments: Iterable[str]) -> dict[str, Any]:
    """Read arguments of the form ``--name=value``; see :func:`read_value`.

    Raises:
        SettingError: For an argument of another form, or a value that is huge or endless.
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


def names_in(given: list[str] | None) -> list[str]:
    """Distinct names; several can be given at once, separated by commas. The path of a model's file may have spaces."""
    parts = [part.strip() for text in given or [] for part in text.split(",")]
    names = ([part] if _MODEL_FILE.fullmatch(part) else part.split() for part in parts)
    return list(dict.fromkeys(name for several in names for name in several))


def seeds_in(text: str) -> list[int]:
    """Seeds in a text, separated by commas.

    Raises:
        SettingError: For anything else.
    """
    try:
        return [int(seed) for seed in text.replace(",", " ").split()]
    except ValueError as error:
        raise SettingError(f"--seeds is '{text}'; it takes whole numbers, separated by commas") from error
