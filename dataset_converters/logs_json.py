"""JSON Lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

Record = tuple[int, dict | None, str | None]
"""The line of a row, its values by name, and what is wrong with the row; one of the last two is None."""


def _no_number(text: str) -> None:
    return None


# Numbers stay the text they are: no digit of a long id is lost, no 1.0 becomes 1.
_decode = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_number).decode


def records(lines: Iterable[str], first: int = 1) -> Iterator[Record]:
    """The rows of some lines, of which the first has this number; lines with nothing in them are none."""
    for line, text in enumerate(lines, first):
        if text.isspace():
            continue
        try:
            value = _decode(text)
        except (ValueError, RecursionError):
            yield line, None, "not JSON"
            continue
        if isinstance(value, dict):
            yield line, value, None
        else:
            yield line, None, "not a JSON object"


def names(lines: Iterable[str]) -> list[str]:
    """All names in some rows, in the order in which they first come."""
    found: dict[str, None] = {}
    for _, value, _ in records(lines):
        found |= dict.fromkeys(value or ())
    return list(found)


def as_text(value: object, is_list: bool) -> str | None:
    """A value as the text of a cell.

    Args:
        value: As JSON has it, numbers as text.
        is_list: Whether a list stays one, as JSON; otherwise its entries are joined by spaces.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and not is_list:
        return " ".join(text for text in (as_text(entry, False) for entry in value) if text)
    return json.dumps(value, ensure_ascii=False)
