import numpy as np
import pytest

from recbole_gserec.preprocess.encoders.base import TfidfEncoder
from recbole_gserec.preprocess.encoders.known_encoders import make_encoder
from recbole_gserec.settings.offline import PreprocessSettings

TEXTS = ["drama drama war", "drama comedy", "comedy comedy comedy", "sci-fi war", "horror", "drama war war"]


def tfidf_cosines(texts: list[str]) -> np.ndarray:
    """Cosines of TF-IDF rows by the formula: tf * (ln((1 + n) / (1 + df)) + 1)."""
    words = sorted({word for text in texts for word in text.split()})
    counts = np.array([[text.split().count(word) for word in words] for text in texts], dtype=float)
    weights = counts * (np.log((1 + len(texts)) / (1 + (counts > 0).sum(0))) + 1)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return weights @ weights.T


def test_enough_dimensions_keep_the_cosines_of_tfidf():
    vectors = TfidfEncoder(dim=128).encode(TEXTS)
    np.testing.assert_allclose(vectors @ vectors.T, tfidf_cosines(TEXTS), atol=1e-5)


@pytest.mark.parametrize("dim", [1, 2, 3, 128])
def test_shape_type_and_length(dim):
    vectors = TfidfEncoder(dim).encode(TEXTS)
    assert vectors.shape == (6, min(dim, 5))  # five distinct words
    assert vectors.dtype == np.float32
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(lengths[lengths > 0], 1, rtol=1e-5)


def test_there_are_never_more_dimensions_than_texts():
    assert TfidfEncoder(128).encode(["a b c d e f", "g h i j k l"]).shape == (2, 2)


def test_a_text_without_words_has_the_zero_vector():
    vectors = TfidfEncoder().encode(["", "drama", "...", "war"])
    assert np.array_equal(np.linalg.norm(vectors, axis=1) > 0.5, [False, True, False, True])
    assert not vectors[[0, 2]].any()


@pytest.mark.parametrize("texts", [["", ""], ["!"]])
def test_no_word_at_all(texts):
    assert np.array_equal(TfidfEncoder().encode(texts), np.zeros((len(texts), 1)))


@pytest.mark.parametrize("texts", [["war"], ["war", "war"], ["a", "1"]])
def test_tiny_vocabularies(texts):
    vectors = TfidfEncoder().encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_it_is_fitted_to_its_texts_and_looks_at_no_length():
    encoder = TfidfEncoder()
    assert encoder.is_fitted
    assert np.array_equal(encoder.encode(TEXTS, max_length=1), encoder.encode(TEXTS))


def test_the_encoder_of_the_settings():
    encoder = make_encoder(PreprocessSettings(encoder="tfidf", encoder_dim=3, preprocess_seed=5))
    assert (encoder.name, encoder.dim, encoder.seed) == ("tfidf", 3, 5)
    assert encoder.settings == TfidfEncoder(3, 5).settings
    assert encoder.settings not in (TfidfEncoder(4, 5).settings, TfidfEncoder(3, 6).settings)


def test_equal_texts_have_equal_vectors_and_repetition_counts():
    first, second, more = TfidfEncoder().encode([*TEXTS, "drama war", "drama war", "drama drama war"])[-3:]
    assert np.array_equal(first, second)
    assert not np.allclose(first, more, atol=1e-3)


def test_seeded_and_blind_to_the_global_random_state():
    texts = [f"w{index % 37} w{index % 11} w{index}" for index in range(200)]
    state = np.random.get_state()[1].copy()
    first = TfidfEncoder(8, seed=1).encode(texts)
    assert np.array_equal(np.random.get_state()[1], state)
    np.random.seed(0)
    assert np.array_equal(TfidfEncoder(8, seed=1).encode(texts), first)
    assert not np.array_equal(TfidfEncoder(8, seed=2).encode(texts), first)
