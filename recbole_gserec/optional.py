"""Imports optional libraries when needed, and says what to install if they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from recbole_gserec.errors import MissingDependencyError, packages_to_install


def import_optional(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a library from one of the package's extras.

    Args:
        module: Name to import.
        extra: The extra of ``recbole-gserec`` that includes it.
        purpose: What needs it, for the message.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise missing_library(error, purpose, extra) from error


def missing_library(error: ImportError, purpose: str, extra: str | None = None) -> MissingDependencyError:
    """Return the error for a library that is not installed, with what to install.

    Args:
        error: Error of the import.
        purpose: What needs it.
        extra: The extra of ``recbole-gserec`` that includes it, if any.
    """
    what = f"'recbole-gserec[{extra}]'" if extra else packages_to_install(error.name)
    return MissingDependencyError(
        f"{purpose} needs the library '{error.name}', which is not installed: pip install {what}"
    )
