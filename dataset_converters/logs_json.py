"""Reading of JSON Lines files, with one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

Record = tuple[int, dict | None, str | None]
"""Line of a row, its values by name, and its problem. One of the last two is None."""


def _no_number(text: str) -> None:
    return None


# Numbers stay text, so that long ids keep all digits and 1.0 does not become 1.
_decode = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_number).decode


def read_records(lines: Iterable[str], first: int = 1) -> Iterator[Record]:
    """Yield the rows of some lines, without blank lines. ``first`` is the number of the first line."""
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


def key_names(lines: Iterable[str]) -> list[str]:
    """All keys in some rows, in the order of their first appearance."""
    found: dict[str, None] = {}
    for _, value, _ in read_records(lines):
        found |= dict.fromkeys(value or ())
    return list(found)


def as_text(value: object, is_list: bool) -> str | None:
    """Convert a value to the text of a cell.

    Args:
        value: JSON value, with numbers as text.
        is_list: Whether to keep a list as JSON. Otherwise its entries are joined by spaces.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and not is_list:
        return " ".join(text for text in (as_text(entry, False) for entry in value) if text)
    return json.dumps(value, ensure_ascii=False)
