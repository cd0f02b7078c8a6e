"""The files of text vectors: what is in them, and what none of them may know."""

import hashlib

import numpy as np
import pytest

from recbole_gserec.preprocess.encoders.base import TfidfEncoder
from recbole_gserec.preprocess.store import Store
from recbole_gserec.preprocess.vector_files import read_vectors
from recbole_gserec.preprocess.vectors import write_text_vectors
from recbole_gserec.settings.offline import PreprocessSettings

USERS = ["a", "b", "c", "d"]
SUMMARIES = {
    "search": ["red shoes", None, "blue hats and shoes", None],
    "recommendation": ["likes drama", "likes horror films", None, None],
}
RECORDS = {
    "item": {"i1": "a drama", "i2": "", "i3": "horror comedy films"},
    "query": {"q1": "red shoes", "q2": "", "q3": "green"},
}
KINDS = ("user", "item", "query")


class StandIn:
    """An encoder that learns from nothing, and counts what it is asked."""

    name, settings, is_fitted = "stand-in", {"size": 3}, False

    def __init__(self):
        self.asked = []

    def encode(self, texts, max_length=None):
        self.asked += [(text, max_length) for text in texts]
        vectors = [self.vector(text, max_length) for text in texts]
        return np.stack(vectors).astype(np.float32)

    @staticmethod
    def vector(text, max_length):
        seed = int(hashlib.md5(f"{text} {max_length}".encode()).hexdigest()[:8], 16)
        return np.random.default_rng(seed).normal(size=3).astype(np.float32) if text else np.zeros(3, np.float32)


@pytest.fixture
def write(tmp_path):
    """Writes the files of some kinds, and returns what they hold."""

    def make(kinds=KINDS, encoder=None, summaries=SUMMARIES, records=RECORDS):
        settings = PreprocessSettings(encoder_max_length=7, encoder_item_length=8, encoder_query_length=9)
        for path in tmp_path.glob("*.parquet"):
            path.unlink()
        with Store(tmp_path / "store.sqlite3") as store:
            paths = write_text_vectors(
                tmp_path / "d",
                kinds,
                USERS,
                summaries,
                records,
                encoder or TfidfEncoder(),
                settings,
                store,
                {"made": "today", "settings": {}},
                show_progress=False,
            )
        assert sorted(paths) == sorted(tmp_path.glob("*.parquet"))
        return {path.name.split(".")[1]: read_vectors(path) for path in paths}

    return make


def test_each_text_has_its_vector_and_no_text_has_zero(write):
    files = write(encoder=StandIn())
    assert files.keys() == set(KINDS)
    assert files["user"].ids == USERS and files["user"].vectors.keys() == {"search", "recommendation"}
    for side, texts in SUMMARIES.items():
        expected = [StandIn.vector(text, 7) for text in texts]
        np.testing.assert_array_equal(files["user"].vectors[side], expected)
    for kind, length in (("item", 8), ("query", 9)):
        assert files[kind].ids == list(RECORDS[kind])
        expected = [StandIn.vector(text, length) for text in RECORDS[kind].values()]
        np.testing.assert_array_equal(files[kind].vectors["text"], expected)


def test_what_the_store_has_is_not_encoded_again(write):
    write(encoder=StandIn())
    again = StandIn()
    write(encoder=again)
    assert again.asked == []


def test_what_is_not_asked_for_is_not_encoded(write):
    encoder = StandIn()
    assert write(("user",), encoder).keys() == {"user"}
    assert {length for _, length in encoder.asked} == {7}
    assert write(("query",), StandIn()).keys() == {"query"}
    assert write((), StandIn()) == {}


@pytest.mark.parametrize("encoder", [StandIn(), TfidfEncoder()])
def test_vectors_do_not_change_with_the_kinds_asked_for(write, encoder):
    together = write(encoder=encoder)
    for kind in KINDS:
        alone = write((kind,), encoder)[kind]
        for column, vectors in together[kind].vectors.items():
            np.testing.assert_array_equal(alone.vectors[column], vectors)


@pytest.mark.parametrize("encoder", [StandIn(), TfidfEncoder()])
def test_vectors_of_recommendation_know_nothing_of_searches(write, encoder):
    before = write(encoder=encoder)
    other = {**SUMMARIES, "search": ["drama", "drama horror likes", None, "films"]}
    after = write(encoder=encoder, summaries=other, records={**RECORDS, "query": {"q1": "horror", "q2": "films drama"}})
    alone = write(encoder=encoder, summaries={"recommendation": SUMMARIES["recommendation"]})
    assert not np.array_equal(before["user"].vectors["search"][:2], after["user"].vectors["search"][:2])
    for files in (after, alone):
        np.testing.assert_array_equal(files["item"].vectors["text"], before["item"].vectors["text"])
        np.testing.assert_array_equal(files["user"].vectors["recommendation"], before["user"].vectors["recommendation"])
    assert alone.keys() == {"user", "item"} and alone["user"].vectors.keys() == {"recommendation"}


def test_a_fitted_encoder_puts_users_and_items_into_one_space(write):
    files = write()
    users, items = files["user"].vectors["recommendation"], files["item"].vectors["text"]
    similar = users @ items.T
    assert similar[0].argmax() == 0 and similar[1].argmax() == 2
    assert not users[2:].any() and not items[1].any()


def test_the_files_tell_what_decided_their_vectors(write):
    for file in write().values():
        assert file.description["made"] == "today"
        settings = file.description["settings"]
        assert settings["encoder"] == "tfidf" and settings["encoder_dim"] == 128
        assert not any(name.startswith("rq_") for name in settings)
        assert settings.keys().isdisjoint({"n_codebooks", "codebook_size", "missing_side", "encoder_item_length"})
    settings = PreprocessSettings(encoder="bge-m3", encoder_item_length=5).deciding_vectors()
    assert settings["encoder_item_length"] == 5 and "encoder_dim" not in settings
