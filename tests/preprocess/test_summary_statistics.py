import numpy as np
import pytest

from recbole_gserec.preprocess.answers import STATUSES, Summary
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.summaries import failure_examples, summary_rows, summary_statistics, token_rows


def prompt(user, *items):
    return Prompt(user, "recommendation", tuple((item,) for item in items), "Items\n{history}")


# User 2 has no prompt; users 0 and 4 have the same.
PROMPTS = {0: prompt(0, "a", "b"), 1: prompt(1, "b", "a"), 3: prompt(3, "a"), 4: prompt(4, "a", "b")}
SAME = Summary("json", "of a and b", 1, 2, 10, 4)
SUMMARIES = [SAME, Summary("text", "of b", 2, 1, 30, 6), None, Summary("truncated", "of", 3, None, 20, 512), SAME]


def test_counts_are_of_users_and_tokens_of_different_prompts():
    found = summary_statistics(PROMPTS, SUMMARIES)
    assert (found.n_prompts, found.n_distinct) == (4, 3)
    assert found.by_status == {"json": 2, "text": 1, "truncated": 1}
    # User 1's prompt shows one record of two; that of user 3 was not shortened.
    assert (found.n_shortened, found.n_asked_again) == (1, 2)
    assert sorted(found.prompt_tokens.tolist()) == [10, 20, 30]
    assert sorted(found.answer_tokens.tolist()) == [4, 6, 512]


def test_unknown_tokens_are_left_out():
    summaries = [Summary("text", "of a and b"), Summary("text", "of b", prompt_tokens=7), None]
    found = summary_statistics({0: PROMPTS[0], 1: PROMPTS[1]}, summaries)
    assert (found.prompt_tokens.tolist(), found.answer_tokens.tolist()) == ([7], [])
    assert found.n_shortened == 0


def test_summary_rows():
    none = summary_statistics({}, [None] * 5)
    rows = summary_rows(
        {"search": none, "recommendation": summary_statistics(PROMPTS, SUMMARIES)}, model_was_asked=True
    )
    assert rows == [
        ("users", "search", "recommendation"),
        ("with a prompt", "0", "4"),
        ("different prompts", "0", "3"),
        ("JSON, as requested", "0", "2 (50.0%)"),
        ("complete, but not the requested JSON; used as it is", "0", "1 (25.0%)"),
        ("failed: cut off at the limit of tokens (llm_max_tokens)", "0", "1 (25.0%)"),
        ("failed: never finished its reasoning", "0", "0"),
        ("failed: no text", "0", "0"),
        ("failed: not the requested JSON (plain_answers: fail)", "0", "0"),
        ("different usable summaries", "0", "2"),
        ("prompt shortened", "0", "1 (25.0%)"),
        ("asked more than once", "0", "2 (50.0%)"),
    ]


def test_no_failures_are_counted_where_no_model_was_asked():
    rows = summary_rows({"search": summary_statistics(PROMPTS, SUMMARIES)}, model_was_asked=False)
    assert rows == [("users", "search"), ("with a prompt", "4"), ("different prompts", "3")]


def test_token_rows():
    statistics = summary_statistics(PROMPTS, SUMMARIES)
    search = statistics._replace(prompt_tokens=np.arange(1000, 1101), answer_tokens=np.array([], dtype=np.int64))
    assert token_rows({"search": search, "recommendation": statistics}) == [
        ("tokens of", "number", "mean", "median", "95th percentile", "largest", "total"),
        ("search prompts", "101", "1,050.0", "1,050.0", "1,095.0", "1,100", "106,050"),
        ("recommendation prompts", "3", "20.0", "20.0", "29.0", "30", "60"),
        # Nine tenths of the way from 6 to 512.
        ("recommendation answers", "3", "174.0", "6.0", "461.4", "512", "522"),
    ]


def test_no_table_of_tokens_without_any():
    assert token_rows({"search": summary_statistics({0: PROMPTS[0]}, [Summary("text", "")])}) == []


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, [("search", 1)]),
        (2, [("search", 1), ("recommendation", 0)]),
        (3, [("search", 1), ("recommendation", 0), ("search", 2)]),
        (9, [("search", 1), ("recommendation", 0), ("search", 2), ("search", 3)]),
    ],
)
def test_failures_of_all_kinds_are_shown_before_a_second_of_one(n, expected):
    cut_off = Summary("truncated", "of")
    summaries = {
        "search": [SAME, cut_off, cut_off, cut_off, None],
        "recommendation": [Summary("empty", ""), None, SAME, Summary("text", ""), SAME],
    }
    assert failure_examples(summaries, n) == expected


def test_no_failures():
    assert failure_examples({"search": [SAME, None]}, 3) == []


def test_every_status_has_a_place_in_the_table():
    labels = [row[0] for row in summary_rows({}, model_was_asked=True)]
    assert all(any(wording in label for label in labels) for wording in STATUSES.values())
