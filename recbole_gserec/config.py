"""Building RecBole's Config from our own commands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_arguments() -> Iterator[None]:
    """Hide the command line from RecBole's Config, which would take it for settings."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments
