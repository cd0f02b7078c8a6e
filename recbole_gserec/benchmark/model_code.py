"""The code of models of other packages: neither this package's version nor its commit tells of it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_gserec.files import sha256_of_file
from recbole_gserec.narrowing import not_none
from recbole_gserec.properties_files import registered_models
from recbole_gserec.registration import registered_module


def code_digest(model: str) -> str | None:
    """A digest of the code of a registered model: of its module, or of all modules of the package that has it.

    Args:
        model: Its name.

    Returns:
        Twelve hexadecimal digits; None for models of RecBole and of this package, and those of no file.
    """
    if model not in registered_models():
        return None
    module = sys.modules[not_none(registered_module(model))]
    source = getattr(module, "__file__", None)
    if source is None:
        return None
    folder, files = Path(source).parent, [Path(source)]
    if module.__package__:
        # A package without __init__.py has no file, and may be shared with others: there, the folder of the module.
        package = sys.modules[module.__package__.partition(".")[0]]
        folder = Path(package.__file__ or source).parent
        files = [file for file in folder.rglob("*.py") if file.is_file()]
    content = {file.relative_to(folder).as_posix(): sha256_of_file(file) for file in files}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def has_other_code(record: Mapping[str, Any]) -> bool:
    """Whether a run's model had other code than it has here; False where that is not known."""
    then, now = record.get("model_code"), code_digest(record["model"])
    return None not in (then, now) and then != now
