"""Narrows the type of values, for a type checker and for settings."""

from __future__ import annotations

from numbers import Real
from typing import Any, TypeVar

T = TypeVar("T")


def not_none(value: T | None) -> T:
    """Return a value that cannot be None, although its type allows it.

    Raises:
        AssertionError: If it is None, which is a defect and not caused by input.
    """
    if value is None:
        raise AssertionError("there is no value where there must be one")
    return value


def is_number(value: Any) -> bool:
    """Return whether a value is a real number, including NumPy's but not booleans."""
    return isinstance(value, Real) and not isinstance(value, bool)
