import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_gserec.errors import DataError
from recbole_gserec.preprocess import prompts
from recbole_gserec.preprocess.prompts import (
    SIDES,
    build_prompts,
    first_words,
    read_item_texts,
    read_template,
    template_hashes,
    template_path,
)
from recbole_gserec.settings.offline import PreprocessSettings


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
    wording = Path(prompts.__file__).parent / "templates" / "en" / "recommendation.txt"
    instruction = wording.read_text().rstrip().removesuffix("{history}")
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
    items = [f"item{index}" for index in range(50)]
    searches = [Search(f"query{index}", []) for index in range(50)]
    histories = Histories([items], [searches])
    for side, events in (("recommendation", items), ("search", [search.query for search in searches])):
        (prompt,) = build_prompts(side, histories, {}, PreprocessSettings())
        assert [record[0] for record in prompt.records] == events[-20:]
        assert not any(f"{event}\n" in prompt.text for event in events[:-20])
    assert histories.asked == {20}


def test_texts_are_cut_to_128_words_and_queries_to_32():
    words = [f"w{index}" for index in range(200)]
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


# ---- wordings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wording", ["No slot.", "{history} first.", "{history} twice {history}", ""])
def test_damaged_template_is_refused(wording, tmp_path):
    (tmp_path / "search.txt").write_text(wording)
    with pytest.raises(DataError, match=r"search\.txt: it must contain '.history.' exactly once, at its end") as caught:
        build_prompts("search", Histories(), {}, PreprocessSettings(prompt_templates=str(tmp_path)))
    assert caught.value.path == tmp_path / "search.txt"


def test_missing_template_is_named(tmp_path):
    with pytest.raises(DataError, match=rf"{tmp_path}/search\.txt: file not found"):
        build_prompts("search", Histories(), {}, PreprocessSettings(prompt_templates=str(tmp_path)))
    with pytest.raises(DataError, match="file not found"):
        read_template(tmp_path)


def test_template_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "search.txt").write_bytes("\u5206\u6790 {history}".encode("gb18030"))
    with pytest.raises(DataError, match=r"search\.txt: not UTF-8 text"):
        read_template(tmp_path / "search.txt")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_wordings_ask_for_json_and_end_with_the_history(language, side):
    wording = read_template(template_path(side, language))
    assert wording.endswith("\n{history}")
    (found,) = re.findall(r"\{.*?\}", wording.removesuffix("{history}"))
    assert list(json.loads(found)) == ["summary"]
    is_chinese = sum("\u4e00" <= character <= "\u9fff" for character in wording) > 50
    assert is_chinese == (language == "zh")


def test_each_side_and_language_has_its_own_wording():
    assert len({read_template(template_path(side, language)) for side in SIDES for language in ("en", "zh")}) == 4


def test_chinese_prompts_are_chinese_throughout():
    histories = Histories([["a"]], [[Search("\u978b\u5b50", ["a", "b"]), Search("\u8dd1\u978b", [])]])
    settings = PreprocessSettings(prompt_language="zh", prompt_clicks=2)
    (search,) = build_prompts("search", histories, {"a": "\u76ae\u978b"}, settings)
    # "Query" and "clicked", as the instruction calls them.
    query, click = "\u641c\u7d22\u8bcd", "\u70b9\u51fb"
    assert search.text == read_template(template_path("search", "zh")).removesuffix("{history}") + (
        f"- {query}\uff1a\u978b\u5b50 | {click}\uff1a\u76ae\u978b | {click}\uff1ab\n- {query}\uff1a\u8dd1\u978b"
    )
    assert query in search.template
    assert click in search.template
    (recommendation,) = build_prompts("recommendation", histories, {"a": "\u76ae\u978b"}, settings)
    assert recommendation.text.endswith("\n- \u76ae\u978b")
    assert recommendation.template == read_template(template_path("recommendation", "zh"))


def test_wordings_of_ones_own(tmp_path):
    (tmp_path / "search.txt").write_text("Searches of one user:\n{history}\n\n")
    settings = PreprocessSettings(prompt_templates=str(tmp_path))
    (prompt,) = build_prompts("search", Histories(searches=[[Search("war", ["a"])]]), {}, settings)
    assert prompt.text == "Searches of one user:\n- query: war | clicked: a"


def test_template_hashes_tell_wordings_apart(tmp_path):
    english, chinese = (template_hashes(PreprocessSettings(prompt_language=language)) for language in ("en", "zh"))
    assert set(english) == set(chinese) == set(SIDES)
    assert len({*english.values(), *chinese.values()}) == 4
    for side in SIDES:
        (tmp_path / f"{side}.txt").write_text(read_template(template_path(side, "en")))
    own = PreprocessSettings(prompt_language="zh", prompt_templates=str(tmp_path))
    assert template_hashes(own) == english
    (tmp_path / "search.txt").write_text("Another. {history}")
    assert template_hashes(own) == {**english, "search": hashlib.sha256(b"Another. {history}").hexdigest()}


# ---- lengths --------------------------------------------------------------------------------------------------------


def test_lengths_of_queries_and_texts_are_settings():
    histories = Histories(searches=[[Search("a b c d", ["a"])]])
    settings = PreprocessSettings(prompt_query_length=2, prompt_item_length=3)
    (prompt,) = build_prompts("search", histories, {"a": "e f g h"}, settings)
    assert prompt.records == (("a b", "e f g"),)


def test_who_shortens_texts_is_given():
    def shorten(text, length):
        return f"{text[:2]}{length}" if text else ""

    histories = Histories([["a", "b"]], [[Search("query", ["a"]), Search("", ["b"])]])
    (search,) = build_prompts("search", histories, {"a": "Alien"}, PreprocessSettings(), shorten)
    assert search.records == (("qu32", "Al128"), ("", "b"))
    (recommendation,) = build_prompts("recommendation", histories, {"a": "Alien"}, PreprocessSettings(), shorten)
    assert recommendation.records == (("Al128",), ("b",))


def test_each_text_is_shortened_once():
    asked = []

    def shorten(text, length):
        asked.append(text)
        return text

    histories = Histories([["a", "b"], ["b", "a"]], [[Search("war", ["a"])], [Search("war", ["b"])]])
    build_prompts("search", histories, {"a": "Alien", "b": "Big"}, PreprocessSettings(), shorten)
    assert sorted(asked) == ["Alien", "Big", "war"]


def test_languages_without_spaces_are_cut_by_character():
    assert first_words("\u6211\u60f3\u8981 nice \u978b\u5b50", 2) == "\u6211\u60f3"
    assert first_words("\u6211\u60f3\u8981 nice \u978b\u5b50", 5) == "\u6211\u60f3\u8981 nice \u978b"


@given(st.text("ab \n", max_size=40), st.integers(1, 10))
def test_cut_keeps_leading_words(text, n_words):
    assert first_words(text, n_words) == " ".join(text.split()[:n_words])


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
