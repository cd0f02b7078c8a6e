"""Reading YAML as RecBole does, safely."""

from __future__ import annotations

import re
from typing import Any, TextIO

import yaml


class _Loader(yaml.SafeLoader):
    """Reads ``1e-5`` as a number: YAML 1.1, which PyYAML follows, wants a point and a sign in one, RecBole does not."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*\.?[0-9_]*[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(text: str | TextIO) -> Any:
    """What a YAML text says; it runs nothing.

    Raises:
        yaml.YAMLError: If it is none.
    """
    return yaml.load(text, _Loader)
