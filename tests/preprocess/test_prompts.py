from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_gserec.errors import DataError
from recbole_gserec.preprocess import prompts
from recbole_gserec.preprocess.item_texts import read_item_texts
from recbole_gserec.preprocess.prompts import build_prompts, cut, read_template
from recbole_gserec.preprocess.settings import PreprocessSettings


class Search(NamedTuple):
    query: str
    items: list[str]


class Histories:
    """Histories given as lists; ``asked`` keeps how many events were asked for."""

    def __init__(self, items=(), searches=()):
        n_users = max(len(items), len(searches))
        self.user_tokens = [f"u{user}" for user in range(n_users)]
        self._items, self._searches = [*items, *[[]] * n_users], [*searches, *[[]] * n_users]
        self.asked = set()

    def recommendation_history(self, user, n):
        self.asked.add(n)
        return self._items[user][-n:]

    def search_history(self, user, n):
        self.asked.add(n)
        return self._searches[user][-n:]


def test_recommendation_prompt_is_the_instruction_and_then_the_history_oldest_first():
    (prompt,) = build_prompts("recommendation", Histories([["a", "b"]]), {"a": "Alien; Horror"}, PreprocessSettings())
    instruction = read_template("recommendation").removesuffix("{history}")
    assert prompt.text == instruction + "- Alien; Horror\n- b"  # an item without text is named by its id
    assert prompt.records == (("Alien; Horror",), ("b",))
    assert (prompt.user, prompt.side) == (0, "recommendation")


def test_search_record_is_the_query_and_the_first_click():
    histories = Histories(searches=[[Search("drama 1990s", ["a", "b"]), Search("war", [])]])
    (prompt,) = build_prompts("search", histories, {"a": "Alien"}, PreprocessSettings())
    assert prompt.records == (("drama 1990s", "Alien"), ("war",))
    assert prompt.text.endswith("\n- query: drama 1990s | clicked: Alien\n- query: war")


@pytest.mark.parametrize(("n_clicks", "record"), [(0, ("q",)), (1, ("q", "a")), (2, ("q", "a", "b"))])
def test_number_of_clicks(n_clicks, record):
    histories = Histories(searches=[[Search("q", ["a", "b", "c"][: n_clicks + 1])]])
    (prompt,) = build_prompts("search", histories, {}, PreprocessSettings(prompt_clicks=n_clicks))
    assert prompt.records == (record,)


def test_only_the_most_recent_events_are_asked_for_and_shown():
    items = [f"item{place}" for place in range(50)]
    searches = [Search(f"query{place}", []) for place in range(50)]
    histories = Histories([items], [searches])
    for side, events in (("recommendation", items), ("search", [search.query for search in searches])):
        (prompt,) = build_prompts(side, histories, {}, PreprocessSettings())
        assert [record[0] for record in prompt.records] == events[-20:]
        assert not any(f"{event}\n" in prompt.text for event in events[:-20])
    assert histories.asked == {20}


def test_texts_are_cut_to_128_words_and_queries_to_32():
    words = [f"w{place}" for place in range(200)]
    histories = Histories(searches=[[Search(" ".join(words), ["a"])]])
    (prompt,) = build_prompts("search", histories, {"a": " ".join(words)}, PreprocessSettings())
    assert prompt.records == ((" ".join(words[:32]), " ".join(words[:128])),)


def test_users_without_a_history_have_no_prompt():
    histories = Histories([[], ["a"], []], [[Search("", [])], [], [Search("q", [])]])
    assert [p.user for p in build_prompts("recommendation", histories, {}, PreprocessSettings())] == [1]
    assert [p.user for p in build_prompts("search", histories, {}, PreprocessSettings())] == [2]


def test_text_that_looks_like_a_slot_is_left_alone():
    (prompt,) = build_prompts("recommendation", Histories([["a", "b"]]), {"a": "{history} {0}"}, PreprocessSettings())
    assert prompt.text.endswith("\n- {history} {0}\n- b")


@pytest.mark.parametrize("wording", ["No slot.", "{history} first.", "{history} twice {history}"])
def test_damaged_template_is_refused(wording, tmp_path, monkeypatch):
    (tmp_path / "en_search.txt").write_text(wording)
    monkeypatch.setitem(prompts.TEMPLATES, "search", tmp_path / "en_search.txt")
    with pytest.raises(DataError, match=r"en_search\.txt: it must end with"):
        build_prompts("search", Histories(), {}, PreprocessSettings())


def test_languages_without_spaces_are_cut_by_character():
    assert cut("\u6211\u60f3\u8981 nice \u978b\u5b50", 2) == "\u6211\u60f3"
    assert cut("\u6211\u60f3\u8981 nice \u978b\u5b50", 5) == "\u6211\u60f3\u8981 nice \u978b"


@given(st.text("ab \n", max_size=40), st.integers(1, 10))
def test_cut_keeps_leading_words(text, n_words):
    assert cut(text, n_words) == " ".join(text.split()[:n_words])


def test_item_texts_join_text_columns_title_first(tmp_path):
    path = tmp_path / "d.item"
    path.write_text(
        "categories:token_seq\titem_id:token\tprice:float\tmovie_title:token_seq\tyear:token\n"
        "Horror Sci-Fi\ta\t1.5\tAlien\t1979\n"
        " \tb\t\t\t\n"
        "\tc\t\tC\t\n"
        "Drama\ta\t\tAlien again\t\n"
    )
    assert read_item_texts(path) == {"a": "Alien; Horror Sci-Fi; 1979", "c": "C"}


def test_item_texts_without_a_file(tmp_path, caplog):
    assert read_item_texts(tmp_path / "d.item") == {}
    assert "d.item is missing" in caplog.text


def test_item_texts_need_ids(tmp_path):
    (tmp_path / "d.item").write_text("title:token_seq\nAlien\n")
    with pytest.raises(DataError, match="no column 'item_id'"):
        read_item_texts(tmp_path / "d.item")
