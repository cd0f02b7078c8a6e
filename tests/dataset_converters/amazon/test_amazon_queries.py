"""The published recipe for queries, and the cleaning of texts."""

from __future__ import annotations

import pytest

from dataset_converters.amazon.items import category_paths, plain_text, shorten
from dataset_converters.amazon.queries import STOP_WORDS, queries_of_paths


def test_the_published_example():
    assert queries_of_paths([["Camera, Photo", "Digital Camera Lenses"]]) == ["photo digital camera lenses"]


@pytest.mark.parametrize(
    ("paths", "queries"),
    [
        ([], []),
        ([[]], []),
        ([["Electronics"]], []),
        ([["Toys & Games", "Toys for the Beach"]], ["games toys beach"]),
        ([["A", "The"]], []),
        (
            [["CDs & Vinyl", "Rock"], ["CDs & Vinyl", "Pop"], ["CDs & Vinyl", "ROCK"]],
            ["cds vinyl rock", "cds vinyl pop"],
        ),
        ([["Kindle Store", "Kindle Fire HD"], ["Games", "Xbox One"]], ["store kindle fire hd", "games xbox one"]),
        ([["Electronics", "MP3 Players", "Women's"]], ["electronics mp3 players women's"]),
    ],
)
def test_queries_of_paths(paths, queries):
    assert queries_of_paths(paths) == queries


def test_words_that_published_queries_keep_are_no_stop_words():
    assert not STOP_WORDS & {"call", "fire", "interest", "made", "show", "system", "well", "computer", "case", "tv"}
    assert {"and", "for", "the", "in", "of", "with", "other"} <= STOP_WORDS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("a\n\t b", "a b"),
        (["a", "", ["b"]], "a b"),
        (3.5, "3.5"),
        ("5 < 6 &lt;b&gt;bold&lt;/b&gt;<br/>x<!-- no -->", "5 < 6 bold x"),
        ("var aPageStart = (new Date()).getTime();", ""),
        ("half \ud83d.", "half ."),
        ("Caf\u00e9 \u732b", "Caf\u00e9 \u732b"),
    ],
)
def test_plain_text(value, text):
    assert plain_text(value) == text


def test_shortened():
    assert shorten("one two three", 7) == "one two"
    assert shorten("one two three", 9) == "one two"
    assert shorten("one two", 7) == shorten("one two", 0) == "one two"
    assert shorten("undivided", 4) == "undi"


def test_category_paths():
    assert category_paths(None) == category_paths([]) == category_paths("Toys") == []
    assert category_paths(["Toys &amp; Games", "Dolls", "</span></span>", "x"]) == [["Toys & Games", "Dolls"]]
    assert category_paths([["A", "B"], ["C"]]) == [["A", "B"], ["C"]]
