"""What a value is: for a type checker, and of a setting."""

from __future__ import annotations

from numbers import Real
from typing import Any, TypeVar

T = TypeVar("T")


def not_none(value: T | None) -> T:
    """A value that is there by construction, where its type cannot say so.

    Raises:
        AssertionError: If it is not: a defect, and nobody's input.
    """
    if value is None:
        raise AssertionError("there is no value where there must be one")
    return value


def is_number(value: Any) -> bool:
    """Whether a value is a real number, NumPy's among them, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)
