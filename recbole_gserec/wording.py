"""Words in messages and tables that depend on numbers."""

from __future__ import annotations

from collections.abc import Collection


def plural(noun: str, number: int) -> str:
    """Return a regular noun in the singular or plural."""
    return noun if number == 1 else f"{noun}s"


def name_by_numbers(noun: str, numbers: Collection[int]) -> str:
    """Name things by their numbers: ``seeds 2020, 2021``."""
    return f"{plural(noun, len(numbers))} {', '.join(map(str, numbers))}"
