"""Reads a file of user ids."""

from __future__ import annotations

from pathlib import Path

from recbole_gserec.errors import DataError


def read_user_list(path: Path) -> list[str]:
    """Return the non-empty lines of a text file.

    Raises:
        DataError: If the file is not text, or contains no user.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(path, "not a text in UTF-8", "Give a text file with a user's id a line.") from error
    names = [line for line in lines if line.strip()]
    if not names:
        raise DataError(path, "names no user", "Give a text file with a user's id a line.")
    return names
