"""A file that names users."""

from __future__ import annotations

from pathlib import Path

from recbole_gserec.errors import DataError


def read_user_list(path: Path) -> list[str]:
    """The lines of a text file, without empty ones.

    Raises:
        DataError: If the file is no text, or names no user.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(path, "not a text in UTF-8", "Give a text file with a user's id a line.") from error
    names = [line for line in lines if line.strip()]
    if not names:
        raise DataError(path, "names no user", "Give a text file with a user's id a line.")
    return names
