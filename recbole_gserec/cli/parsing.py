"""What commands are given as text, read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recbole_gserec.errors import SettingError
from recbole_gserec.yaml_values import read_value


def parse_settings(arguments: Iterable[str]) -> dict[str, Any]:
    """Read arguments of the form ``--name=value``; see :func:`read_value`.

    Raises:
        SettingError: For an argument of another form, or a value that is huge or endless.
    """
    settings = {}
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not (argument.startswith("--") and name and equals):
            raise SettingError(f"'{argument}' is not understood. Give settings as --name=value.")
        settings[name] = read_value(name, value)
    return settings


def names_in(given: list[str] | None) -> list[str]:
    """Distinct names; several can be given at once, separated by commas."""
    return list(dict.fromkeys(name for text in given or [] for name in text.replace(",", " ").split()))


def seeds_in(text: str) -> list[int]:
    """Seeds in a text, separated by commas.

    Raises:
        SettingError: For anything else.
    """
    try:
        return [int(seed) for seed in text.replace(",", " ").split()]
    except ValueError as error:
        raise SettingError(f"--seeds is '{text}'; it takes whole numbers, separated by commas") from error
