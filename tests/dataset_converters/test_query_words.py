"""Queries to words, in the scripts that queries come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_converters.query_words import words_of_texts
from recbole_gserec.errors import SettingError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Electric  Kettle, 1.5L!", "electric kettle 1 5l"),
        ("AT&T e-mail foo_bar", "at t e mail foo bar"),
        # Apostrophes within words, straight and curly alike; quotation marks are none.
        ("Don't rock'n'roll", "don't rock'n'roll"),
        ("don\u2019t rock\u2019n\u2019roll", "don't rock'n'roll"),
        ("'quoted' \u2019tis dogs' a''b", "quoted tis dogs a b"),
        # Chinese is split into words, also where it touches other scripts.
        ("连衣裙女2024新款", "连衣裙 女 2024 新款"),
        ("iPhone手机壳 红色", "iphone 手机 壳 红色"),
        ("a'手机'壳's", "a 手机 壳 s"),
        ("_手机_", "手机"),
        # Full-width and other compatible characters.
        ("ＩＰＨＯＮＥ\u3000１３，红色", "iphone 13 红色"),
        ("①② ½ ﬁsh", "12 1 2 fish"),
        # Accents composed or not, capitals of other languages, vowel signs.
        ("Café CAFE\u0301", "café café"),
        ("İstanbul STRASSE Ελλάδα", "i\u0307stanbul strasse ελλάδα"),
        ("हिन्दी खोज", "हिन्दी खोज"),
        ("ที่ ไทย", "ที่ ไทย"),
        ("مرحبا 한국어", "مرحبا 한국어"),
        # Emoji are no words, nor are their joiners and selectors.
        ("🎉 party ❤\ufe0f 👨\u200d👩\u200d👧", "party"),
        ("🎉", ""),
        ("a\u200bb\x00c\td\ne", "a b c d e"),
        ("", ""),
        (" \u3000\t\n", ""),
        ("?!… —_ ，。「」 '\u2019", ""),
    ],
)
def test_text(text, words):
    assert words_of_texts([text]) == [words]


def test_spaces():
    texts = ["12 7  3", " C++ don't ", "\u3000ＡB\tc", "", "  ", "连衣裙 女"]
    assert words_of_texts(texts, "spaces") == ["12 7 3", "C++ don't", "ＡB c", "", "", "连衣裙 女"]


@given(st.text())
def test_words_are_words(text):
    """No character but letters, digits, marks and inner apostrophes; splitting again changes nothing but Chinese."""
    (words,) = words_of_texts([text])
    split = words.split(" ") if words else []
    assert all(word and word == word.strip("'") and not word.isspace() for word in split)
    assert "\t" not in words and "\n" not in words and "_" not in words
    assert words_of_texts([text.upper().lower()]) == words_of_texts([text.upper()])


@given(st.text(st.characters(max_codepoint=0x24F)))
def test_words_split_again_are_the_same(text):
    words = words_of_texts([text])
    assert words_of_texts(words) == words


def test_order_and_number_of_texts_are_kept():
    assert words_of_texts(iter(["b", "", "A", "b"])) == ["b", "", "a", "b"]
    assert words_of_texts([]) == []


def test_unknown_kind():
    with pytest.raises(SettingError, match="words must be text or spaces, not 'letters'"):
        words_of_texts([], "letters")
