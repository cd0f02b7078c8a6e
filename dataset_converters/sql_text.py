"""Texts inside SQL."""

from __future__ import annotations


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"
