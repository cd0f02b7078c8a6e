"""Finding and reading the YAML files that ship with the package."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

_PACKAGE = Path(__file__).parent


def properties_folder() -> Path:
    """``properties`` inside the installed package, or beside it in a checkout."""
    installed = _PACKAGE / "properties"
    return installed if installed.is_dir() else _PACKAGE.parent / "properties"


@cache
def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def model_settings(model: str) -> dict[str, Any]:
    """Default settings of one of our models; empty for any other."""
    return dict(_read(properties_folder() / "model" / f"{model}.yaml"))


def dataset_settings(dataset: str) -> dict[str, Any]:
    """Default settings of a dataset we ship settings for; empty for any other."""
    return dict(_read(properties_folder() / "dataset" / f"{dataset}.yaml"))


def protocol_settings() -> dict[str, Any]:
    """Default settings of every search-extended dataset."""
    return dict(_read(properties_folder() / "search_dataset.yaml"))
