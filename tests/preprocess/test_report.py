import re

import numpy as np
import pytest
from scipy import sparse

from recbole_gserec.preprocess.answers import Summary
from recbole_gserec.preprocess.code_agreement import Agreement, CodeAgreement, NodesAgreement, code_agreement
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.report import SideReport, _drawn, agreement_rows, alike_users, metrics_table, save_report
from recbole_gserec.preprocess.summaries import MadeSummaries
from recbole_gserec.preprocess.vectors import MadeVectors
from recbole_gserec.settings.offline import PreprocessSettings

CODES = np.array([[1, 2, 3], [0, 2, 3], [1, 2, 0], [0, 1, 1], [1, 2, 1], [0, 0, 0]])
METRICS = {
    "levels": [{"perplexity": 2.04, "dead_codes": 1}, {"perplexity": 3.96, "dead_codes": 0}],
    "collision_rate": 0.125,
    "reconstruction_error": 0.5,
}
HISTORY = [
    {"epoch": epoch, "losses": {"total": 1 / epoch, "contrastive": 0.0}, "collision_rate": 0.1} for epoch in (10, 20)
]

SEARCH_PROMPTS = {0: Prompt(0, "search", (("```query",),), "Searches\n{history}")}
REC_PROMPTS = {i: Prompt(i, "recommendation", ((f"item {i}",),), "Items\n{history}") for i in range(6)}


COUNTS = {"all": 6, "without_search": 5, "without_recommendation": 0, "without_either": 0}
ITEMS = sparse.csr_matrix(np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 1], [0, 1, 0], [0, 0, 1]]))
VALIDATION_ITEMS = np.array([2, -1, 0, -1, 2, -1])


def sides(search_coded, failed=()):
    """Summaries of users in ``failed`` are cut off; a template stands for that of user 0, and nothing for others."""
    liked = [Summary("json", f"Also: word{i}.", 1, 1, 100 + i, 10) for i in range(6)]
    texts = [summary.text for summary in liked]
    for i in failed:
        liked[i], texts[i] = Summary("truncated", "{'summary': 'Al" + "l" * 700, 2, 1, 100, 512), None
        if i == 0:
            texts[i] = "In place of user 0's."
    searched, nobody = [Summary("text", "Often: war."), *[None] * 5], ["Often: war.", *[None] * 5]
    return {
        "search": SideReport(
            CODES[::-1], np.array(search_coded, dtype=bool), METRICS, SEARCH_PROMPTS, searched, nobody
        ),
        "recommendation": SideReport(
            CODES, np.ones(6, dtype=bool), {**METRICS, "collision_rate": 0.0}, REC_PROMPTS, liked, texts
        ),
    }


def page(folder, reports, settings):
    users = [f"user-{i}" for i in range(6)]
    made = MadeSummaries([], 3, 4), MadeVectors(np.zeros((0, 2)), 5, 1200)
    table = save_report(folder / "d", users, reports, COUNTS, HISTORY, settings, *made, ITEMS, VALIDATION_ITEMS)
    return table, (folder / "d.code.md").read_text()


def template(**settings):
    return PreprocessSettings(n_codebooks=3, codebook_size=4, **settings)


def model(**settings):
    return template(summarizer="transformers", llm="small-model", **settings)


@pytest.mark.parametrize(
    ("n", "users", "n_shared"),
    [
        (2, [0, 2], 2),  # nobody shares all three codes
        (3, [0, 2, 4], 2),
        (4, [0, 1, 2, 3], 0),
        (9, [0, 1, 2, 3, 4, 5], 0),
    ],
)
def test_alike_users_share_as_many_leading_codes_as_possible(n, users, n_shared):
    chosen, shared = alike_users(CODES, n)
    assert (chosen.tolist(), shared) == (users, n_shared)


def test_alike_users_with_equal_codes():
    chosen, shared = alike_users(np.array([[5, 1], [5, 1], [5, 2]]), 2)
    assert (chosen.tolist(), shared) == ([0, 1], 2)


def test_table():
    assert metrics_table(sides([1] * 6)).splitlines() == [
        "| side           | perplexity | dead codes | collision rate | reconstruction error |",
        "|----------------|------------|------------|----------------|----------------------|",
        "| search         | 2.0 / 4.0  | 1 / 0      | 12.5%          | 0.500                |",
        "| recommendation | 2.0 / 4.0  | 1 / 0      | 0.0%           | 0.500                |",
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def template_page(folder):
    """Table and page of a report on a template's summaries, where user 2 has no search codes."""
    return page(folder, sides([1, 1, 0, 1, 1, 1]), template())


@pytest.fixture(scope="module")
def model_page(tmp_path_factory):
    return page(tmp_path_factory.mktemp("report"), sides([1] * 6), model(encoder="bge-m3"))[1]


def test_files(template_page, folder):
    table, text = template_page
    assert sorted(path.name for path in folder.iterdir()) == ["d.code.md", "d.code.png"]
    assert (folder / "d.code.png").read_bytes().startswith(b"\x89PNG")
    assert table == metrics_table(sides([1] * 6)) and table in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Summaries",
        "## Codes",
        "## Do codes connect similar users?",
        "## Single codes, and codes with their prefix",
        "## Examples",
    ]
    assert "](d.code.png)" in text
    assert "Of 6 users, 5 have no search" in text


def test_examples(template_page):
    _, text = template_page
    assert "3 users who share their first 2 recommendation codes." in text
    assert [line for line in text.splitlines() if line.startswith("### ")] == [f"### User user-{i}" for i in (0, 2, 4)]
    assert "Recommendation codes: `r1_1 r2_2 r3_0`" in text
    assert "    Often: war.\n" in text
    assert "    Items\n    - item 2\n" in text and "    Also: word4.\n" in text
    assert "\n    - query: ```query\n" in text
    # User 2 has no search codes, and neither user 2 nor user 4 has a search history.
    assert text.count("Search codes: none") == 1 and text.count("No search history.") == 2


def test_who_made_what_and_what_was_there(template_page, model_page):
    _, text = template_page
    assert "Summarizer `template`, encoder `tfidf`, 3 levels of 4 codes" in text
    assert "3 had their summary in the store, 4 were summarised now" in text
    assert "5 had their vector in the store, 1,200 were encoded now" in text
    assert "Summarizer `transformers` with `small-model`, encoder `bge-m3`" in model_page


def test_summaries_of_a_template_cannot_fail(template_page):
    _, text = template_page
    assert "| with a prompt     | 1      | 6              |" in text
    assert "failed" not in text and "JSON" not in text


def test_failures(tmp_path):
    _, text = page(tmp_path, sides([1] * 6, failed=(0, 2)), model(missing_side="empty"))
    (row,) = re.findall(r"\| failed: cut off at the limit of tokens \(llm_max_tokens\) *\| (.*) \|", text)
    assert [cell.strip() for cell in row.split("|")] == ["0", "2 (33.3%)"]
    assert "User user-0, recommendation: cut off at the limit of tokens (llm_max_tokens). The answer begins:" in text
    # Of an answer 600 characters are shown, of which 15 come before these.
    assert re.findall(r"'Al(l+)\s+\.\.\.\n", text) == ["l" * 585] * 2
    examples = text[text.index("## Examples") :]
    in_place, missing, usual = examples.split("### User ")[1:]
    assert "failed: cut off" in in_place and "It is replaced by:\n\n    In place of user 0's.\n" in in_place
    assert "failed: cut off" in missing and "The side counts as missing (`missing_side: empty`)." in missing
    assert "failed" not in usual and "Summary of the recommendation history:\n\n    Also: word4.\n" in usual


def test_an_answer_without_text(tmp_path):
    reports = sides([1] * 6)
    reports["recommendation"].summaries[3] = Summary("empty", "")
    _, text = page(tmp_path, reports, model())
    assert "User user-3, recommendation: no text. The answer begins:\n\n    (empty)\n" in text


def test_tokens_are_reported_where_they_are_known(model_page, tmp_path):
    (row,) = re.findall(r"\| recommendation prompts *\| (.*) \|", model_page)
    assert [cell.strip() for cell in row.split("|")] == ["6", "102.5", "102.5", "104.8", "105", "615"]
    assert "search prompts" not in model_page
    reports = sides([1] * 6)
    reports["recommendation"].summaries[:] = [Summary("json", "short")] * 6
    _, text = page(tmp_path, reports, model())
    assert "tokens of" not in text


def test_agreement_on_the_page(template_page):
    _, text = template_page
    rows = {
        tuple(cells[:2]): cells[2:]
        for line in text.splitlines()
        if line.startswith("| ") and len(cells := [cell.strip() for cell in line[2:-2].split("|")]) == 10
    }
    # Users 0, 2 and 4, and users 1, 3 and 5, share the first code. Similarities: 2/3, 1/2, 1/3; 0, 0, 1.
    assert rows["recommendation", "first code"][:3] == ["6", "6", "66.7%"]
    assert rows["recommendation", "first code"][4] == "0.42"
    assert rows["recommendation", "first 2 codes"][:5] == [
        "3",
        "3",
        "100.0%",
        rows["recommendation", "first 2 codes"][3],
        "0.5",
    ]
    assert rows["recommendation", "all 3 codes"] == ["0", "0", *["–"] * 6]
    # On the search side user 2 has no codes: users 1, 3 and 5, and users 0 and 4, are left.
    assert rows["search", "first code"][:2] == ["4", "5"]


def test_chance_follows_the_seed(template_page):
    expected = {}
    for seed in (template().preprocess_seed, 0):
        found = code_agreement(CODES, np.ones(6, dtype=bool), ITEMS, seed=seed)
        expected[seed] = [f"{prefix.chance_jaccard:.2g}" for prefix in found.prefixes[:2]]
    rows = [line.split("|") for line in template_page[1].splitlines() if line.startswith("| recommendation | first ")]
    assert [row[8].strip() for row in rows] == expected[2024] != expected[0]


def test_nodes_on_the_page(template_page):
    rows = {
        tuple(cells[:2]): cells[2:]
        for line in template_page[1].splitlines()
        if line.startswith("| ") and len(cells := [cell.strip() for cell in line[2:-2].split("|")]) == 11
    }
    kinds = ["code 2 by itself", "code 3 by itself", "code 1", "codes 1 to 2", "codes 1 to 3"]
    assert list(rows)[1:] == [(side, kind) for side in ("search", "recommendation") for kind in kinds]
    # Users 0, 2 and 4 share their first code, and the others theirs. User 0 finds its item with user 2 and not with
    # user 4, user 2 finds its own with user 0, user 4 finds its with user 2: 5, 5 and 5 others, of whom 3, 2 and 3.
    first = rows["recommendation", "code 1"]
    assert first[:2] == ["2", "100.0%"] and first[5:] == ["50.00%", "53.33%", "0.9", "3"]
    assert rows["recommendation", "codes 1 to 2"][:2] == ["1", "50.0%"]
    assert rows["recommendation", "codes 1 to 3"] == ["0", "0.0%", *["–"] * 6, "0"]
    # On the search side user 2 has no codes.
    assert rows["search", "code 1"][:2] == ["2", "100.0%"] and rows["search", "code 2 by itself"][:2] == ["1", "80.0%"]
    assert "Nothing is trained on them" in template_page[1].replace("\n", " ") and "were drawn" not in template_page[1]


def test_a_sample_of_users_is_named():
    nodes = {"search": NodesAgreement([], [], 1_234_567, 100_000), "recommendation": NodesAgreement([], [], 5, 5)}
    assert _drawn(nodes, 7) == [
        "Of 1,234,567 users with search codes, 100,000 were drawn (seed 7). Those who share their nodes were sought "
        "among all."
    ]


def test_agreement_rows():
    some = Agreement(20_000, 1_234, 0.256, 0.0371, 0.1, 0.012345, 3.005, (2.5, 3.611))
    rows = agreement_rows({"search": CodeAgreement([some, None], some._replace(lift=None, interval=None))})
    start = ("20,000", "1,234", "25.6%", "10.0%", "0.037", "0.012")
    assert rows[1:] == [
        ("search", "any code", *start, "–", "–"),
        ("search", "first code", *start, "3.00", "2.50 to 3.61"),
        ("search", "all 2 codes", "0", "0", *["–"] * 6),
    ]
