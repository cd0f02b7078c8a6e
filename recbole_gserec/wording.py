"""Words of messages and tables that follow from what they tell of."""

from __future__ import annotations


def plural(noun: str, number: int) -> str:
    """A regular noun, in the number of what it counts."""
    return noun if number == 1 else f"{noun}s"
