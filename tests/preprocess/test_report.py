import numpy as np
import pytest

from recbole_gserec.preprocess import report
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.report import SideReport, alike_users, metrics_table, save_report
from recbole_gserec.preprocess.settings import PreprocessSettings

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
REC_PROMPTS = {place: Prompt(place, "recommendation", ((f"item {place}",),), "Items\n{history}") for place in range(6)}


def sides(search_coded):
    searched, liked = ["Often: war.", *[None] * 5], [f"Also: word{place}." for place in range(6)]
    return {
        "search": SideReport(CODES[::-1], np.array(search_coded, dtype=bool), METRICS, SEARCH_PROMPTS, searched),
        "recommendation": SideReport(
            CODES, np.ones(6, dtype=bool), {**METRICS, "collision_rate": 0.0}, REC_PROMPTS, liked
        ),
    }


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


def test_files(tmp_path):
    users = [f"user-{place}" for place in range(6)]
    counts = {"all": 6, "without_search": 5, "without_recommendation": 0, "without_either": 0}
    settings = PreprocessSettings(n_codebooks=3, codebook_size=4)
    table = save_report(tmp_path / "d", users, sides([1, 1, 0, 1, 1, 1]), counts, HISTORY, settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.code.md", "d.code.png"]
    assert (tmp_path / "d.code.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "d.code.md").read_text()
    assert table == metrics_table(sides([1] * 6)) and table in text
    assert "Of 6 users, 5 have no search" in text
    assert "3 users who share their first 2 recommendation codes." in text
    assert [line for line in text.splitlines() if line.startswith("### ")] == [
        f"### User user-{place}" for place in (0, 2, 4)
    ]
    assert "Recommendation codes: `r1_1 r2_2 r3_0`" in text
    assert "    Often: war.\n" in text
    assert "    Items\n    - item 2\n" in text and "    Also: word4.\n" in text
    assert "\n    - query: ```query\n" in text
    # User 2 has no search codes, and neither user 2 nor user 4 has a search history.
    assert text.count("Search codes: none") == 1 and text.count("No search history.") == 2


def test_usage_is_drawn_for_users_with_codes():
    drawn = sides([1, 0, 0, 1, 1, 1])
    figure = report._draw(drawn, HISTORY, codebook_size=4)
    levels = figure.axes[:3]
    for level, panel in enumerate(levels):
        for line, side in zip(panel.get_lines(), drawn.values(), strict=True):
            usage = line.get_ydata()
            assert sorted(usage, reverse=True) == list(usage)
            assert usage.sum() == side.coded.sum()
            assert len(usage) == 4
            assert (usage > 0).sum() == len(set(side.codes[side.coded, level].tolist()))
    losses = {line.get_label(): list(line.get_ydata()) for line in figure.axes[3].get_lines()}
    assert losses == {"total": [0.1, 0.05], "contrastive": [0.0, 0.0]}
