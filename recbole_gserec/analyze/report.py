"""``gserec analyze report``: a benchmark and its analyses on one page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from recbole_gserec.analyze.html_page import Section, html_page
from recbole_gserec.errors import DataError
from recbole_gserec.report_files import write_text

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
                "there are no results in it",
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
        raise DataError(path, "cannot be read as a text", "Make it again by the command that wrote it") from error
    title = next(filter(None, map(_TITLE.match, text.splitlines())), None)
    name = _ESCAPED.sub(r"\1", title[1]) if title else path.stem
    return Section(name, path.as_posix(), text, path.parent)
