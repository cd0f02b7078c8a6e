"""One page of HTML: what is on it, and what must never be."""

import base64
from html.parser import HTMLParser

import pytest

from recbole_gserec import report
from recbole_gserec.analyze.report import Section, html_page, write_html_report
from recbole_gserec.errors import DataError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))
VOID = {"meta", "img", "br", "hr"}


class Elements(HTMLParser):
    """All elements of a page with their attributes, and its text; refuses what is not well nested."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self._open = [], "", []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


def elements_of(text, folder, title="t"):
    return Elements(html_page("Results", [Section(title, "here", text, folder)]))


def test_tables_images_and_the_benchmarks_own_tags(tmp_path):
    (tmp_path / "a b.png").write_bytes(PNG)
    page = elements_of(
        "# One\n\n| a | b |\n|---|--:|\n| <u>1</u><sup>c</sup> | **2** |\n\n![x & y](<a b.png>)", tmp_path
    )
    names = [tag for tag, _ in page.tags]
    assert {"table", "th", "td", "u", "sup", "strong"} <= set(names)
    (image,) = [attributes for tag, attributes in page.tags if tag == "img"]
    assert image["alt"] == "x & y"
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == PNG


@pytest.mark.parametrize(
    "evil",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<u onclick=alert(1)>x</u>",
        "[x](javascript:alert(1))",
        "<https://example.org>",
        "[x](https://example.org)",
        "![x](https://example.org/a.png)",
        "![x](../secret.png)",
        "![x](/secret.png)",
        "![x](%2e%2e/secret.png)",
        "![x](data:image/svg+xml,<svg/onload=alert(1)>)",
        "![x](text.png)",
        '![" onerror="alert(1)](none.png)',
        "[a]: https://example.org\n\n[a]",
        "<iframe src=x></iframe>",
    ],
)
@pytest.mark.parametrize("form", ["{}", "| a |\n|---|\n| {} |", "# {}"])
def test_whatever_a_page_holds_is_text(tmp_path, evil, form):
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text.png").write_bytes(b"no image")
    page = elements_of(form.format(evil), tmp_path / "in", title=evil)
    known = {"html", "head", "meta", "title", "style", "body", "h1", "ul", "li", "a", "span", "section", "p"}
    assert {tag for tag, _ in page.tags} <= known | {"table", "thead", "tbody", "tr", "th", "td", "em", "u", "sup"}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "a" or attributes["href"].startswith("#part")
        assert "src" not in attributes


def test_a_name_that_looks_like_a_tag_stays_a_name(tmp_path):
    name = "<u>x</u><sup>`*_|"
    page = elements_of(f"| a |\n|---|\n| {report.escape_markdown(name)} |", tmp_path)
    assert name in page.text and "u" not in [tag for tag, _ in page.tags]


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_all_pages_of_a_folder_in_their_order(tmp_path):
    for name in ("tsne/tsne", "groups/groups", "stats/toy.statistics", "users/toy-ann"):
        write(tmp_path / "out" / "analyze", f"{name}.md", f"# Page {name.replace('/', ' ')}\n\nabout it\n")
    write(tmp_path / "out", "report/report.md", "# Benchmark \\_1\n\n![x](figure.png)\n")
    (tmp_path / "out" / "report" / "figure.png").write_bytes(PNG)
    write(tmp_path / "sweep", "report.md", "# Sweep\n")
    write(tmp_path / "sens", "sensitivity.md", "no title\n")
    folders = [tmp_path / name for name in ("out", "sweep", "sens")]
    path = write_html_report([*folders, tmp_path / "out"])
    assert path == tmp_path / "out" / "analyze" / "report.html"
    page = Elements(path.read_text())
    titles = [page.text.index(f"\n{name} ") for name in ("Benchmark _1", "Page groups groups", "Page tsne tsne")]
    assert titles == sorted(titles) and page.text.count("about it") == 3 and "toy-ann" not in page.text
    assert sum(tag == "section" for tag, _ in page.tags) == 6
    before = path.read_bytes()
    assert write_html_report([*folders, tmp_path / "out"]).read_bytes() == before


def test_folders_without_results(tmp_path):
    with pytest.raises(DataError, match="has no results"):
        write_html_report([tmp_path])
    (tmp_path / "groups.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not readable as text"):
        write_html_report([tmp_path])
