"""The documentation as it is written: its pages, and the blocks of code in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"\s*```(?P<language>\w*)\s*$")
_FILE_NAME = re.compile(r"`(?P<name>\w+\.[ct]sv)`")
_NOT_RUN = re.compile(r"\s*<!-- not run: (?P<reason>.+) -->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Its page.
        line: Where it begins, from 1.
        language: The word after the fence; may be empty.
        text: Its lines.
        not_run: Why no test runs it, as the comment ``<!-- not run: why -->`` above it says; None where one does.
        before: The line above it.
    """

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None
    before: str

    @property
    def name(self) -> str:
        """Page and line, as an editor takes them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a block of shell."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    blocks, open_at, before, reason = [], None, "", None
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        fence = _FENCE.match(line)
        if open_at is None and fence:
            open_at, language = number, fence["language"]
        elif open_at is not None and fence:
            text = "\n".join(lines[open_at : number - 1]) + "\n"
            blocks.append(Block(page, open_at, language, text, reason, before))
            open_at, before, reason = None, "", None
        elif open_at is None and line.strip():
            marked = _NOT_RUN.match(line)
            before, reason = line.strip(), marked and marked["reason"]
    assert open_at is None, f"{page}:{open_at}: a block without an end"
    return blocks


def blocks(language: str) -> list[Block]:
    """The blocks of all pages in a language."""
    return [block for page in PAGES for block in blocks_of(page) if block.language == language]


def write_shown_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows below their names into a folder."""
    for block in blocks_of(page):
        name = _FILE_NAME.fullmatch(block.before)
        if name:
            (folder / name["name"]).write_text(block.text, encoding="utf-8")
