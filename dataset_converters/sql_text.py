"""Quoting of texts in SQL."""

from __future__ import annotations


def literal(text: str) -> str:
    """Quote a text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
