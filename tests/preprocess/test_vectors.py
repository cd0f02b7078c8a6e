import sqlite3

import numpy as np
import pytest

from recbole_gserec.errors import DataError
from recbole_gserec.preprocess import vectors as module
from recbole_gserec.preprocess.store import Store
from recbole_gserec.preprocess.vectors import make_vectors
from recbole_gserec.settings.offline import PreprocessSettings

SETTINGS = PreprocessSettings()
TEXTS = [f"{'word ' * (index % 5)}number {index}" for index in range(23)]


class Interruption(Exception):
    pass


class CountingEncoder:
    """A vector is made of the counts of five letters, at most ``max_length`` letters of the text being looked at."""

    name = "counting"

    def __init__(self, factor=1.0, is_fitted=False, dies_in_batch=None):
        self.settings = {"factor": factor}
        self.factor, self.is_fitted, self.dies_in_batch = factor, is_fitted, dies_in_batch
        self.batches = []

    def encode(self, texts, max_length=None):
        if len(self.batches) == self.dies_in_batch:
            raise Interruption
        self.batches.append(list(texts))
        return expected(texts, max_length) * np.float32(self.factor)

    @property
    def encoded(self):
        return [text for batch in self.batches for text in batch]


def expected(texts, max_length=None):
    rows = [[text[:max_length].count(letter) for letter in "word1"] for text in texts]
    return np.array(rows, dtype=np.float32).reshape(len(texts), 5)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.sqlite3") as store:
        yield store


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(module, "TEXTS_PER_BATCH", 4)


def make(texts, encoder, store, **options):
    return make_vectors(texts, encoder, SETTINGS, store, show_progress=False, **options)


def test_vectors_have_the_order_of_the_texts(store):
    made = make(TEXTS, CountingEncoder(), store)
    assert np.array_equal(made.vectors, expected(TEXTS))
    assert made.vectors.dtype == np.float32
    assert (made.n_kept, made.n_made) == (0, 23)


def test_equal_texts_are_encoded_once(store):
    encoder = CountingEncoder()
    texts = ["word", "d", "word", "", "d", "word"]
    made = make(texts, encoder, store)
    assert sorted(encoder.encoded) == ["", "d", "word"]
    assert np.array_equal(made.vectors, expected(texts))
    assert (made.n_kept, made.n_made) == (0, 3)


def test_only_missing_texts_are_encoded(store):
    make(TEXTS[:10], CountingEncoder(), store)
    encoder = CountingEncoder()
    made = make(TEXTS[::-1], encoder, store)
    assert sorted(encoder.encoded) == sorted(TEXTS[10:])
    assert np.array_equal(made.vectors, expected(TEXTS[::-1]))
    assert (made.n_kept, made.n_made) == (10, 13)


def test_nothing_is_encoded_twice_in_another_run(store, tmp_path):
    make(TEXTS, CountingEncoder(), store)
    store.close()
    encoder = CountingEncoder(dies_in_batch=0)
    with Store(tmp_path / "store.sqlite3") as again:
        made = make(TEXTS, encoder, again)
    assert np.array_equal(made.vectors, expected(TEXTS))
    assert (made.n_kept, made.n_made) == (23, 0)


def test_batches_hold_texts_of_similar_length(store):
    encoder = CountingEncoder()
    make(TEXTS, encoder, store)
    lengths = [len(text) for text in encoder.encoded]
    assert lengths == sorted(lengths)
    assert [len(batch) for batch in encoder.batches] == [4, 4, 4, 4, 4, 3]


def test_batches_do_not_depend_on_the_order_of_the_texts(store, tmp_path):
    first, second = CountingEncoder(), CountingEncoder()
    make(TEXTS, first, store)
    with Store(tmp_path / "other.sqlite3") as other:
        make(TEXTS[::-1], second, other)
    assert first.batches == second.batches


@pytest.mark.parametrize("n_finished", [1, 3, 5])
def test_batches_after_an_interruption_are_those_of_an_uninterrupted_run(store, tmp_path, n_finished):
    whole = CountingEncoder()
    with Store(tmp_path / "other.sqlite3") as other:
        make(TEXTS, whole, other)
    before, after = CountingEncoder(dies_in_batch=n_finished), CountingEncoder()
    with pytest.raises(Interruption):
        make(TEXTS, before, store)
    made = make(TEXTS, after, store)
    assert before.batches + after.batches == whole.batches
    assert np.array_equal(made.vectors, expected(TEXTS))
    assert made.n_kept == 4 * n_finished


@pytest.mark.parametrize("encoder, max_length", [(CountingEncoder(), 3), (CountingEncoder(factor=2.0), None)])
def test_another_length_or_setting_makes_all_anew(store, encoder, max_length):
    make(TEXTS, CountingEncoder(), store)
    made = make(TEXTS, encoder, store, max_length=max_length)
    assert (made.n_kept, made.n_made) == (0, 23)
    assert np.array_equal(made.vectors, expected(TEXTS, max_length) * encoder.factor)
    # And those made before are still there.
    assert make(TEXTS, CountingEncoder(dies_in_batch=0), store).n_kept == 23


def test_a_fitted_encoder_does_without_the_store(store):
    texts = ["word", "d", "word"]
    for _ in range(2):
        encoder = CountingEncoder(is_fitted=True)
        made = make(texts, encoder, store, max_length=2)
        assert encoder.batches == [texts]
        assert np.array_equal(made.vectors, expected(texts, 2))
        assert (made.n_kept, made.n_made) == (0, 2)


def test_no_text(store):
    assert make([], CountingEncoder(), store).vectors.shape == (0, 5)


def test_a_runner_makes_its_own_encoder_and_may_finish_in_any_order(store, monkeypatch):
    made_for = []

    def make_encoder(settings):
        made_for.append(settings)
        return CountingEncoder()

    class BackwardRunner:
        def run(self, make_worker, batches):
            worker = make_worker()
            for index in reversed(range(len(batches))):
                yield index, worker(batches[index])

    monkeypatch.setattr(module, "make_encoder", make_encoder)
    made = make(TEXTS, CountingEncoder(dies_in_batch=0), store, max_length=7, runner=BackwardRunner())
    assert made_for == [SETTINGS]
    assert np.array_equal(made.vectors, expected(TEXTS, 7))


def test_a_damaged_vector_is_reported_with_its_file(store):
    make(TEXTS, CountingEncoder(), store)
    store.close()
    with sqlite3.connect(store.path) as connection:
        (row, blob) = connection.execute("SELECT rowid, vector FROM vectors LIMIT 1").fetchone()
        connection.execute("UPDATE vectors SET vector = ? WHERE rowid = ?", (b"\1" + blob[1:], row))
    connection.close()
    with Store(store.path) as again, pytest.raises(DataError, match="damaged: the vector of text") as caught:
        make(TEXTS, CountingEncoder(), again)
    assert str(store.path) in str(caught.value)


def test_the_bar_tells_what_is_done(store, capsys):
    make(TEXTS[:10], CountingEncoder(), store)
    make_vectors(TEXTS, CountingEncoder(), SETTINGS, store, what="items")
    shown = capsys.readouterr().err
    assert "Vectors of items (counting)" in shown
    assert "10/23" in shown and "23/23" in shown
