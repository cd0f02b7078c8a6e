"""Docstrings as Markdown: the package writes formulas and references in the roles of Sphinx."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from griffe import Extension, Object

_INLINE_MATH = re.compile(r":math:`([^`]+)`")
_REFERENCE = re.compile(r":(?:attr|class|data|func|meth|mod):`~?([^`]+)`")
_MATH_BLOCK = re.compile(r"^(?P<indent>[ \t]*)\.\. math::[ ]*\n(?P<body>(?:[ \t]*\n|(?P=indent)[ \t]+\S.*\n?)+)", re.M)


def as_markdown(text: str) -> str:
    """Turn the roles of a docstring into Markdown, and its formulas into TeX between brackets."""
    text = _MATH_BLOCK.sub(_display, text)
    text = _INLINE_MATH.sub(r"\\(\1\\)", text)
    return _REFERENCE.sub(r"`\1`", text)


def _display(match: re.Match[str]) -> str:
    lines = textwrap.dedent(match["body"]).strip("\n").splitlines()
    # Blank lines separate equations of one block, and would end it in Markdown.
    equations = textwrap.indent("\n".join(line for line in lines if line.strip()), match["indent"])
    return f"{match['indent']}\\[\n{equations}\n{match['indent']}\\]\n\n"


class DocstringRoles(Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Called by griffe with each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
