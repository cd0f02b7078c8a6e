"""The documentation site builds without a warning, and the README's links lead somewhere."""

from __future__ import annotations

import importlib.util
import logging
import re
from types import ModuleType

import pytest

from tests.docs.pages import ROOT

LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S), re.M)
    return {slug(re.sub(r"[`*]", "", heading)) for heading in headings}


def test_links_of_the_readme():
    links = LINK.findall((ROOT / "README.md").read_text())
    assert len(links) > 15
    for target, anchor in links:
        path = ROOT / (target or "README.md")
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), f"{target}#{anchor}"


def extension(name: str) -> ModuleType:
    """A module of ``docs/extensions``, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "extensions" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def between(path, start: str, end: str) -> str:
    """The text of a page between two comments, without other comments."""
    text = path.read_text().partition(f"<!-- {start} -->")[2].partition(f"<!-- {end} -->")[0]
    return re.sub(r"<!--.*?-->\n", "", text).strip()


@pytest.mark.parametrize("name", ["install", "run"])
def test_the_first_page_repeats_the_readme(name):
    """Copied, and not included: a repository's web page shows the page as it is written."""
    text = between(ROOT / "README.md", f"--8<-- [start:{name}]", f"--8<-- [end:{name}]")
    assert text and between(ROOT / "docs" / "index.md", f"readme {name}", f"/readme {name}") == text


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "reference").glob("*.md")), ids=lambda path: path.stem)
def test_the_reference_links_to_the_files(path):
    page = path.read_text()
    assert page == extension("source_links").with_links(page), "run python docs/extensions/source_links.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; a warning is an error."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
        config.plugins.on_shutdown()
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    assert [record.getMessage() for record in records] == []
    return folder


def test_the_site_has_every_page_and_the_reference(site):
    pages = [path for path in (ROOT / "docs").rglob("*.md")]
    for page in pages:
        built = site / page.relative_to(ROOT / "docs").with_suffix("") / "index.html"
        assert built.is_file() or (page.stem == "index" and (built.parents[1] / "index.html").is_file()), page
    layers = (site / "reference" / "layers" / "index.html").read_text()
    assert "recbole_gserec.layers.graph.UserCodeGraph" in layers
    assert "../../recbole_gserec" not in layers
    # Roles of Sphinx have become Markdown.
    assert ":class:" not in layers and ":math:" not in layers and r"\(" in layers


def test_examples_are_on_the_page_and_the_tools_are_not(site):
    assert "class LastSearch(SearchRecommender)" in (site / "adding_a_model" / "index.html").read_text()
    assert (site / "examples" / "shop_logs.py").is_file() and not (site / "extensions").exists()


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        (r"With :math:`\tau` of :class:`~a.b.C`.", r"With \(\tau\) of `a.b.C`."),
        (
            "One.\n\n.. math::\n    a = b\n\n    c = d\n\nArgs:\n    x: An x.",
            "One.\n\n\\[\na = b\nc = d\n\\]\n\nArgs:\n    x: An x.",
        ),
        ("A list:\n\n- **x**: ``[n]``.", "A list:\n\n- **x**: ``[n]``."),
    ],
)
def test_roles_of_docstrings(docstring, expected):
    assert extension("docstring_roles").as_markdown(docstring) == expected
