"""Plain text from Amazon's metadata, which contains HTML, entities, scraped scripts and lists."""

from __future__ import annotations

import html
import re

_TAG = re.compile(r"<(?:!--.*?--|/?[a-zA-Z][^>]*)>", re.DOTALL)
# Some titles of 2018 are scripts of the web page. The authors of the edition advise to detect them by this word.
_SCRIPT = "getTime"


def plain_text(value: object) -> str:
    """Clean a title, description or name: remove markup and repeated white space.

    Args:
        value: A text, a list of texts, or another value, which is printed. None gives the empty text.
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
    # Remove unpaired surrogates, which are valid in JSON but not in UTF-8.
    text = text if text.isascii() else text.encode("utf-8", "ignore").decode()
    return " ".join(text.split())


def shorten(text: str, length: int) -> str:
    """Cut a text after at most ``length`` characters, between words. 0 keeps the whole text."""
    if not length or len(text) <= length:
        return text
    start, space, _ = text[: length + 1].rpartition(" ")
    return start if space else text[:length]


def category_paths(value: object) -> list[list[str]]:
    """Category paths of an item, from the broadest category to the narrowest.

    Args:
        value: A list of paths (2014), one path (2018, 2023), or nothing. Paths are cut at the first markup, because in
            2018 some paths continue with pieces of the web page.
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
