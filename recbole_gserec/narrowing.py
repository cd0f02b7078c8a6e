"""Telling a type checker what holds by construction."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def not_none(value: T | None) -> T:
    """A value that is there by construction, where its type cannot say so.

    Raises:
        AssertionError: If it is not: a defect, and nobody's input.
    """
    if value is None:
        raise AssertionError("there is no value where there must be one")
    return value
