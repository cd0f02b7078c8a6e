"""Words of messages and tables that follow from what they tell of."""

from __future__ import annotations

from collections.abc import Collection


def plural(noun: str, number: int) -> str:
    """A regular noun, in the number of what it counts."""
    return noun if number == 1 else f"{noun}s"


def named(noun: str, numbers: Collection[int]) -> str:
    """Things that have numbers, by these: ``seeds 2020, 2021``."""
    return f"{plural(noun, len(numbers))} {', '.join(map(str, numbers))}"
