import numpy as np
import pytest

from recbole_gserec.preprocess.encoders.known_encoders import make_encoder
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.summarizers.base import Completion, TemplateSummarizer
from recbole_gserec.preprocess.summarizers.known_summarizers import SUMMARIZERS
from recbole_gserec.settings.offline import PreprocessSettings


def prompt(*records: tuple[str, ...]) -> Prompt:
    return Prompt(0, "search", records, "an instruction that must not be read {history}")


def summary(*records: tuple[str, ...], **limits: int) -> str:
    return TemplateSummarizer(**limits).complete([prompt(*records)])[0].text


def test_frequent_words_first_then_the_latest_words():
    text = summary(("Alien; Horror Sci-Fi",), ("Scream; Horror",), ("Solaris; Sci-Fi drama", "horror"))
    assert text == "Often: horror horror horror, sci-fi sci-fi. Also: solaris, drama, scream, alien."


def test_equally_frequent_words_stand_by_recency():
    assert summary(("war",), ("war", "love"), ("love",)) == "Often: love love, war war."


def test_a_word_counts_once_per_record():
    assert summary(("war war", "war"), ("love",)) == "Also: love, war."


def test_function_words_are_left_out_unless_there_is_nothing_else():
    assert summary(("The Thing",), ("The Fly",)) == "Also: fly, thing."
    assert summary(("It",), ("It",)) == "Often: it it."


def test_limits():
    records = [(f"a{index} b{index // 2}",) for index in range(10)]
    text = summary(*records, max_frequent=2, max_single=3)
    assert text == "Often: b4 b4, b3 b3. Also: a9, a8, a7."


def test_characters_of_languages_without_spaces_are_words():
    assert summary(("\u978b\u5b50",), ("\u8dd1\u978b",)) == "Often: \u978b \u978b. Also: \u8dd1, \u5b50."


@pytest.mark.parametrize("records", [(), (("",),), (("...", "!"),)])
def test_a_history_without_words_has_an_empty_summary(records):
    assert summary(*records) == ""


def test_a_summary_does_not_depend_on_the_batch():
    batch = [prompt(("war love",)), prompt(("love",)), prompt(("war",), ("war",))]
    together = TemplateSummarizer().complete(batch)
    assert together == [Completion(summary(*single.records)) for single in batch]


def test_a_history_is_summarised_without_a_prompt_too():
    records = [("Alien; Horror",), ("Scream; Horror",)]
    assert TemplateSummarizer().summary(records) == summary(*records) == "Often: horror horror. Also: scream, alien."


def test_every_attempt_has_the_same_answer():
    summarizer = TemplateSummarizer()
    assert summarizer.complete([prompt(("war",))], 1) == summarizer.complete([prompt(("war",))], 2)
    assert summarizer.failure is None


def test_texts_are_shortened_by_words():
    shorten = TemplateSummarizer().shorten
    assert shorten(" Alien;  Horror\nSci-Fi", 2) == "Alien; Horror"
    assert shorten("\u978b\u5b50 nice", 1) == "\u978b"
    assert shorten("Alien", 5) == "Alien"


def test_limits_are_among_the_settings():
    assert TemplateSummarizer(max_frequent=2).settings != TemplateSummarizer().settings
    assert TemplateSummarizer(max_single=2).settings != TemplateSummarizer().settings


def test_users_of_equal_taste_are_near_whatever_their_titles():
    settings = PreprocessSettings()
    generator = np.random.default_rng(0)
    tastes = ["horror sci-fi", "drama romance", "comedy children's"] * 8
    prompts = [
        prompt(*((f"title{generator.integers(10**6)}; {taste}",) for _ in range(generator.integers(3, 10))))
        for taste in tastes
    ]
    summaries = [completion.text for completion in SUMMARIZERS["template"](settings).complete(prompts, 1)]
    vectors = make_encoder(settings).encode(summaries)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    assert [tastes[nearest] for nearest in cosines.argmax(1)] == tastes
