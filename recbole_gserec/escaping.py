"""Escapes foreign texts (names, errors) for Markdown and LaTeX."""

from __future__ import annotations

import re
import unicodedata

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~&#])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # LaTeX's default font encoding prints these as other characters.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "–": "--",
    "±": r"$\pm$",
}
_TABLE = str.maketrans(_LATEX)


def markdown(text: str) -> str:
    """Escape a text for Markdown, as one line that also fits in a table."""
    return _MARKDOWN.sub(r"\\\1", _one_line(text))


def latex(text: str) -> str:
    """Escape a text for LaTeX, as one line.

    Characters that LaTeX's fonts lack without further packages, such as Chinese, become question marks, so that the
    table compiles.
    """
    return "".join(map(_printable, _one_line(text))).translate(_TABLE)


def _one_line(text: str) -> str:
    visible = "".join(" " if unicodedata.category(character) in ("Cc", "Cs") else character for character in text)
    return " ".join(visible.split())


def _printable(character: str) -> str:
    if character in _LATEX or character.isascii():
        return character
    plain = unicodedata.normalize("NFKD", character)
    plain = "".join(part for part in plain if not unicodedata.combining(part))
    return plain if plain.isascii() and plain else "?"
