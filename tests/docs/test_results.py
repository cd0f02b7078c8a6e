"""What the pages say about results is what the stored runs give."""

from __future__ import annotations

import re

import pytest

from recbole_gserec.results import significance, tables
from recbole_gserec.results.report import make_report
from tests.docs.pages import ROOT

FOLDER = ROOT / "docs" / "results"
DATASETS = ("ml-100k-search", "amazon-toys")


@pytest.fixture(scope="module")
def reports():
    """What ``gserec benchmark --report-only --reference GSERec`` makes of the stored runs."""
    return {dataset: make_report(FOLDER, datasets=[dataset], reference="GSERec") for dataset in DATASETS}


def page_of(dataset: str) -> str:
    return (FOLDER / f"{dataset}.md").read_text(encoding="utf-8")


def rows_of(text: str) -> list[tuple[str, ...]]:
    """Rows of all tables, without marks of notes and rulers."""
    lines = (re.sub(r"<sup>\w+</sup>", "", line) for line in text.splitlines() if line.startswith("|"))
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    return [row for row in rows if not set("".join(row)) <= set("-: ")]


@pytest.mark.parametrize("dataset", DATASETS)
def test_tables_of_the_pages(reports, dataset):
    shown, report = set(rows_of(page_of(dataset))), reports[dataset]
    comparisons = [each for each in report.comparisons if each.metric == "ndcg@5"]
    for text in (tables.table_markdown(report.table), significance.significance_markdown(comparisons)):
        rows = rows_of(text)
        assert len(rows) >= 5 and set(rows) <= shown


def test_the_table_of_the_readme(reports):
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- results -->")[2]
    shown = {row[0]: row[1:6] for row in rows_of(text.partition("<!-- /results -->")[0])}
    for row in reports["ml-100k-search"].table.rows:
        assert shown[row.model] == tuple(cell.text.removeprefix("0") for cell in row.cells["ml-100k-search"])


def of_the_page(comparisons, metric):
    """Models behind and ahead of GSERec beyond chance, and those that the two-way test cannot tell from it."""
    own = [each for each in comparisons if each.metric == metric and each.counts_training]
    assert len(own) == 4
    behind = {each.model for each in own if each.is_better}
    ahead = {each.model for each in own if each.beyond_chance and not each.is_better}
    return behind, ahead


def test_what_is_claimed_of_three_seeds(reports):
    """The README and the page say of which models GSERec is behind, and by which metrics, beyond chance."""
    comparisons = reports["ml-100k-search"].comparisons
    found = {metric: of_the_page(comparisons, metric) for metric in ("hit@1", "hit@5", "hit@10", "ndcg@5", "ndcg@10")}
    ahead_by = {metric for metric, (_, ahead) in found.items() if ahead}
    assert ahead_by == {"hit@5", "ndcg@5"}
    assert all(ahead <= {"UniSAR"} and behind == {"LightGCN"} for behind, ahead in found.values())
    sentence = "significantly behind UniSAR by NDCG@5 and Hit@5"
    for path in (ROOT / "README.md", FOLDER / "ml-100k-search.md"):
        assert sentence in " ".join(path.read_text(encoding="utf-8").split())
    (sesrec,) = (each for each in comparisons if (each.metric, each.model) == ("ndcg@5", "SESRec"))
    (unisar,) = (each for each in comparisons if (each.metric, each.model) == ("ndcg@5", "UniSAR"))
    page = " ".join(page_of("ml-100k-search").split())
    for each in (unisar, sesrec):
        interval = f"{each.two_way_low:+.3f} to {each.two_way_high:+.3f}".replace("-", "−")
        assert f"{interval}, two-way p {each.two_way_p_holm:.3f}".replace("0.", ".") in page


def test_one_seed_is_reported_on_the_page(reports):
    assert not any(each.counts_training for each in reports["amazon-toys"].comparisons)
    assert "variation between seeds is not counted" in " ".join(page_of("amazon-toys").split())
