"""Links from the pages of the reference to the files of their modules.

A repository's web page does not render ``::: module``. A line above each one therefore links to the file and shows the
first line of its docstring. The site shows the whole docstring there, and leaves these lines out: this module is also a
hook of MkDocs. After a change of docstrings, ``python docs/extensions/source_links.py`` rewrites the lines.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"

_MODULE = re.compile(r"^::: ([\w.]+)$", re.M)
_LINK = re.compile(r"^\[`[\w/]+\.py`\]\(\.\./\.\./[\w/]+\.py\):.*\n\n(?=::: )", re.M)


def without_links(page: str) -> str:
    """A page of the reference as the site renders it."""
    return _LINK.sub("", page)


def with_links(page: str) -> str:
    """The page with a line above each module."""
    return _MODULE.sub(lambda match: f"{_link(match[1])}\n\n{match[0]}", without_links(page))


def _link(module: str) -> str:
    folder = Path(*module.split("."))
    path = folder / "__init__.py" if (ROOT / folder).is_dir() else folder.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    if docstring is None:
        raise ValueError(f"{path} has no docstring")
    summary = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", docstring.splitlines()[0].replace("``", "`"))
    return f"[`{path.as_posix()}`](../../{path.as_posix()}): {summary}"


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Called by MkDocs with each page."""
    return without_links(markdown)


if __name__ == "__main__":
    for path in sorted(REFERENCE.glob("*.md")):
        path.write_text(with_links(path.read_text(encoding="utf-8")), encoding="utf-8")
