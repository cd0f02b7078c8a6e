"""Plain text from what Amazon's metadata holds: HTML, entities, scraped scripts, lists."""

from __future__ import annotations

import html
import re

_TAG = re.compile(r"<(?:!--.*?--|/?[a-zA-Z][^>]*)>", re.DOTALL)
# Some titles of 2018 are the script of the page; the edition's authors advise to tell them by this word.
_SCRIPT = "getTime"


def plain_text(value: object) -> str:
    """Text of a title, a description or a name, without markup and with single spaces.

    Args:
        value: A text, a list of texts, or something else, which is taken as it prints; None is no text.
    """
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(filter(None, map(plain_text, value)))
    text = value if isinstance(value, str) else str(value)
    if _SCRIPT in text:
        return ""
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    # Halves of characters, which JSON can hold and UTF-8 cannot, go.
    text = text if text.isascii() else text.encode("utf-8", "ignore").decode()
    return " ".join(text.split())


def shortened(text: str, length: int) -> str:
    """At most the first ``length`` characters, cut between words; 0: the whole text."""
    if not length or len(text) <= length:
        return text
    start, space, _ = text[: length + 1].rpartition(" ")
    return start if space else text[:length]


def category_paths(value: object) -> list[list[str]]:
    """Category paths of an item, from the widest category to the narrowest.

    Args:
        value: A list of paths (2014), one path (2018, 2023), or nothing. A path ends where markup begins: pieces of
            the page follow in some of 2018.
    """
    if not isinstance(value, list) or not value:
        return []
    paths = value if isinstance(value[0], list) else [value]
    return [_clean_path(path) for path in paths if isinstance(path, list)]


def _clean_path(path: list) -> list[str]:
    categories = []
    for category in map(str, path):
        if _TAG.search(category):
            break
        categories.append(plain_text(category))
    return [category for category in categories if category]
