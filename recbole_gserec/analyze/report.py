"""``gserec analyze report``: a benchmark and its analyses on one HTML page without external files or scripts."""

import base64
import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline

from recbole_gserec.errors import DataError
from recbole_gserec.report import write_text

_PNG = b"\x89PNG\r\n\x1a\n"
# The elements used in a benchmark's tables; all other tags are shown as text.
_ELEMENT = re.compile(r"<(sup|u)>([^<>]*)</\1>")
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #222; }}
section {{ border-top: 2px solid #ccc; margin-top: 2.5em; }}
.from {{ color: #666; font-size: 13px; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; margin: 1em 0; font-size: 13px; }}
th, td {{ border-bottom: 1px solid #ddd; padding: 3px 8px; white-space: nowrap; font-variant-numeric: tabular-nums; }}
th {{ border-bottom: 2px solid #999; }}
img {{ max-width: min(100%, 34em); }}
code {{ background: #f3f3f3; padding: 0 3px; overflow-wrap: anywhere; }}
pre {{ overflow-x: auto; }}
</style>
</head>
<body>
"""


class Section(NamedTuple):
    """A Markdown page within the page.

    Attributes:
        title: Title in the table of contents.
        source: Origin of the page, shown below the title.
        text: Markdown.
        folder: Folder of the images that it shows.
    """

    title: str
    source: str
    text: str
    folder: Path


def html_page(title: str, sections: Sequence[Section]) -> str:
    """Render sections below a table of contents. They can only become text, tables, or images of their folder."""
    parser = _parser()
    name = html.escape(title)
    parts = [_HEAD.format(title=name), f"<h1>{name}</h1>\n<ul>\n"]
    for index, section in enumerate(sections, start=1):
        source = html.escape(section.source)
        parts.append(
            f'<li><a href="#part{index}">{html.escape(section.title)}</a> <span class="from">{source}</span></li>\n'
        )
    parts.append("</ul>\n")
    for index, section in enumerate(sections, start=1):
        body = parser.render(section.text, {"folder": section.folder})
        source = html.escape(section.source)
        parts.append(f'<section id="part{index}">\n<p class="from">{source}</p>\n{body}</section>\n')
    return "".join([*parts, "</body>\n</html>\n"])


def _parser() -> MarkdownIt:
    # Links could lead anywhere, and our own pages have none.
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "autolink", "reference"])
    parser.inline.ruler.before("html_inline", "plain_element", _plain_element)
    parser.add_render_rule("plain_element", _render_element)
    parser.add_render_rule("image", _image)
    return parser


def _plain_element(state: StateInline, silent: bool) -> bool:
    match = _ELEMENT.match(state.src, state.pos, state.posMax)
    if not match:
        return False
    if not silent:
        token = state.push("plain_element", match[1], 0)
        token.content = match[2]
    state.pos = match.end()
    return True


def _render_element(self: Any, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
    tag, text = tokens[index].tag, html.escape(tokens[index].content)
    return f"<{tag}>{text}</{tag}>"


def _image(self: Any, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
    """Embed an image if it is one of the page's own folder."""
    name, alt = unquote(str(tokens[index].attrGet("src"))), html.escape(tokens[index].content)
    path = env["folder"] / name
    try:
        content = path.read_bytes() if Path(name).name == name else b""
    except OSError:
        content = b""
    if not content.startswith(_PNG):
        return f"<em>{alt}: no image {html.escape(name)}</em>"
    return f'<img alt="{alt}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


# In the order of the page. Pages about single users are left out, because not every reader may see them.
_PAGES = ("report", "groups", "ablation", "sensitivity", "tsne", "*.statistics")
_FOLDERS = {"*.statistics": "stats"}
_TITLE = re.compile(r"# (.*)")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]<>|~&#])")


def write_html_report(folders: Sequence[Path], output: Path | None = None) -> Path:
    """Combine the pages found in folders into one HTML page, which can be read offline and sent to others.

    Args:
        folders: Folders of benchmarks, ablations, sweeps or analyses. Pages are searched in the folder itself and in
            its folders ``report`` and ``analyze``.
        output: The page; by default ``analyze/report.html`` in the first folder.

    Returns:
        The page.

    Raises:
        DataError: If a folder has no page, or one is damaged.
    """
    sections: dict[Path, Section] = {}
    for folder in map(Path, folders):
        found = list(_pages_of(folder))
        if not found:
            raise DataError(
                folder,
                "has no results",
                "Name a folder of gserec benchmark, analyze or tune, with a report",
            )
        for path in found:
            sections.setdefault(path.resolve(), _section(path))
    path = Path(output) if output else Path(folders[0]) / "analyze" / "report.html"
    write_text(path, html_page("Results", list(sections.values())))
    return path


def _pages_of(folder: Path) -> Iterator[Path]:
    for name in _PAGES:
        own = _FOLDERS.get(name, name)
        for pattern in (f"{name}.md", f"{own}/{name}.md", f"analyze/{own}/{name}.md"):
            yield from sorted(path for path in folder.glob(pattern) if path.is_file())


def _section(path: Path) -> Section:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, "not readable as text", "Make it again by the command that wrote it") from error
    title = next(filter(None, map(_TITLE.match, text.splitlines())), None)
    name = _ESCAPED.sub(r"\1", title[1]) if title else path.stem
    return Section(name, path.as_posix(), text, path.parent)
