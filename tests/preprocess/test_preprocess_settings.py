import json
import pickle
from typing import get_args

import numpy as np
import pytest
import yaml

from recbole_gserec.errors import SettingError
from recbole_gserec.preprocess.encoders.known_encoders import ENCODERS
from recbole_gserec.preprocess.prompts import TEMPLATES
from recbole_gserec.preprocess.summarizers.known_summarizers import SUMMARIZERS
from recbole_gserec.settings.defaults import model_settings, preprocess_settings, preset_file, properties_folder
from recbole_gserec.settings.offline import PreprocessSettings, with_absolute_folders


def test_the_yaml_of_the_offline_stage_has_its_settings_and_no_others():
    written = yaml.safe_load((properties_folder() / "preprocess.yaml").read_text(encoding="utf-8"))
    assert set(written) == set(PreprocessSettings.model_fields)
    assert written.items() <= model_settings("GSERec").items()
    for name, default in PreprocessSettings():
        if name == "rq_warmup_epochs":
            # It follows from rq_epochs.
            assert written[name] is None and default == 50
            continue
        # Read, and not only compared: the YAML's default must be of the right kind itself.
        expected = tuple(written[name]) if isinstance(default, tuple) else written[name]
        assert (type(default), default) == (type(expected), expected), name


@pytest.mark.parametrize("path", sorted((properties_folder() / "preset").glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_have_settings_of_the_offline_stage_or_of_a_model_only(path):
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not written.keys() & preprocess_settings().keys():
        assert written.keys() <= model_settings(path.stem.partition("-")[0].replace("gserec", "GSERec")).keys()
        return
    settings = PreprocessSettings(**written)
    assert {name: getattr(settings, name) for name in written} == written


def test_the_paper_s_models():
    written = yaml.safe_load(preset_file("paper").read_text(encoding="utf-8"))
    assert (written["llm"], written["encoder"]) == ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "bge-m3")
    with pytest.raises(SettingError, match=r"there is no preset 'papers'; choose from: .*paper"):
        preset_file("papers")


def test_rqvae_settings_take_their_values_from_here():
    settings = PreprocessSettings(
        n_codebooks=3, lambda_rq_cl=0.5, rq_hidden_sizes=[8, 4], rq_epochs=70, rq_sinkhorn=False, preprocess_seed=7
    ).rqvae_settings()
    assert (settings.n_codebooks, settings.lambda_rq_cl, settings.epochs) == (3, 0.5, 70)
    assert (settings.hidden_sizes, settings.sinkhorn, settings.seed) == ((8, 4), False, 7)


def test_a_codebook_size_for_each_level():
    settings = PreprocessSettings(n_codebooks=3, codebook_size=[64, 16, 4])
    assert settings.rqvae_settings().codebook_sizes == (64, 16, 4)
    assert json.loads(json.dumps(settings.deciding()))["codebook_size"] == [64, 16, 4]
    # As in records of earlier versions.
    assert PreprocessSettings().deciding()["codebook_size"] == 256
    assert PreprocessSettings(n_codebooks=2).rqvae_settings().codebook_sizes == (256, 256)
    with pytest.raises(SettingError, match=r"^codebook_size is \[64, 16\], but n_codebooks is 4; give one size"):
        PreprocessSettings(codebook_size=[64, 16])


def test_reads_its_settings_out_of_many():
    config = {"rq_epochs": 70, "train_batch_size": "anything", "rq_batch_size": None}
    assert PreprocessSettings.from_config(config) == PreprocessSettings(rq_epochs=70)


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("lambda_rq_cl", "1e-3", 1e-3),  # YAML reads 1e-3 as text
        ("lambda_rq", 2, 2.0),
        ("rq_epochs", 60.0, 60),
        ("rq_epochs", "1e3", 1000),
        ("rq_batch_size", np.int64(8), 8),
        ("rq_learning_rate", np.float32(0.5), 0.5),
        ("rq_hidden_sizes", [16, "8"], (16, 8)),
        ("rq_hidden_sizes", [], ()),
        ("missing_side", "no_edges", "no_edges"),
        ("prompt_clicks", 0, 0),
        ("prompt_language", "zh", "zh"),
        ("prompt_templates", "my prompts", "my prompts"),
        ("llm", "a/model", "a/model"),
        ("llm_context_length", "64", 64),
        ("llm_context_length", None, None),
        ("llm_temperature", 0, 0.0),
        ("llm_top_p", 1, 1.0),
        ("llm_engine_args", {"tensor_parallel_size": 2}, {"tensor_parallel_size": 2}),
        ("encoder", "tfidf", "tfidf"),
        ("encoder", "bge-m3", "bge-m3"),
        ("encoder", "bge-m3:models/bge", "bge-m3:models/bge"),
        ("encoder", "flag:BAAI/bge-base-en-v1.5", "flag:BAAI/bge-base-en-v1.5"),
        ("encoder", "sentence-transformers:C:/models", "sentence-transformers:C:/models"),
        ("encoder_pooling", "mean", "mean"),
        ("encoder_pooling", None, None),
        ("text_vectors", ["query", "user", "query"], ("user", "query")),
        ("text_vectors", [], ()),
        ("code_path", "other.code", "other.code"),
    ],
)
def test_values_are_read(name, given, read):
    value = getattr(PreprocessSettings.from_config({name: given}), name)
    assert value == read
    assert type(value) is type(read)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("summarizer", "gpt", "'template'"),
        ("encoder", 3, "'tfidf'"),
        ("encoder", ["tfidf"], "'tfidf'"),
        ("encoder", "bge", "'tfidf' or 'bge-m3' or 'flag:NAME' or 'sentence-transformers:NAME'"),
        ("encoder", "flag", "'tfidf' or 'bge-m3' or 'flag:NAME'"),
        ("encoder", "flag:", "'tfidf' or 'bge-m3' or 'flag:NAME'"),
        ("encoder", "bge-m3:", "'tfidf' or 'bge-m3' or 'flag:NAME'"),
        ("encoder", "tfidf:words", "'tfidf' or 'bge-m3' or 'flag:NAME'"),
        ("encoder", ":BAAI/bge-m3", "'tfidf' or 'bge-m3' or 'flag:NAME'"),
        ("encoder_pooling", "max", "'cls' or 'mean', or nothing"),
        ("encoder_max_length", 0, "a whole number of at least 1, or nothing"),
        ("prompt_language", "de", "'en' or 'zh'"),
        ("prompt_query_length", 0, "a whole number of at least 1"),
        ("prompt_item_length", 0, "a whole number of at least 1"),
        ("prompt_templates", "", "a text, or nothing"),
        ("llm", 7, "a text, or nothing"),
        ("llm_context_length", 63, "a whole number of at least 64, or nothing"),
        ("llm_temperature", -0.1, "a number of at least 0"),
        ("llm_top_p", 0, "a number above 0"),
        ("llm_top_p", 1.1, "a number above 0, and at most 1"),
        ("llm_top_k", -1, "a whole number of at least 0"),
        ("llm_attempts", 0, "a whole number of at least 1"),
        ("llm_retries", -1, "a whole number of at least 0"),
        ("llm_timeout", 0, "a number above 0"),
        ("llm_dtype", "int8", "'auto' or 'bfloat16' or 'float16' or 'float32'"),
        ("llm_engine_args", ["a"], "a mapping of names to values"),
        ("llm_engine_args", {1: "a"}, "a mapping of names to values"),
        ("plain_answers", "keep", "'use' or 'fail'"),
        ("failed_summary", "empty", "'template' or 'missing'"),
        ("text_vectors", ["item", "words"], "a list of user, item, query"),
        ("text_vectors", "item", "a list of user, item, query"),
        ("code_path", ".code", "the name of a file that ends with .code, or nothing"),
        ("code_path", "codes.txt", "the name of a file that ends with .code, or nothing"),
        ("preprocess_ray_workers", 0, "a whole number of at least 1"),
        ("missing_side", "copy", "'copy_rec' or 'empty' or 'no_edges'"),
        ("rq_loss_reduction", "max", "'mean' or 'sum'"),
        ("rq_epochs", 0, "a whole number of at least 1"),
        ("rq_epochs", 2.5, "a whole number of at least 1"),
        ("rq_epochs", True, "a whole number of at least 1"),
        ("rq_epochs", "many", "a whole number of at least 1"),
        ("preprocess_seed", -1, "a whole number of at least 0"),
        ("tau_1", 0, "a number above 0"),
        ("tau_1", float("inf"), "a number above 0"),
        ("lambda_rq", -0.1, "a number of at least 0"),
        ("lambda_rq", float("nan"), "a number of at least 0"),
        ("rq_kmeans_init", "yes", "True or False"),
        ("rq_kmeans_init", 1, "True or False"),
        ("rq_hidden_sizes", 64, "a list of whole numbers"),
        ("rq_hidden_sizes", [64, 0], "a list of whole numbers"),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(name, value, allowed):
    with pytest.raises(SettingError) as caught:
        PreprocessSettings.from_config({name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} is {value!r}; it must be {allowed}")
    assert "\n" not in message


def test_unknown_settings_are_named_with_a_known_one():
    with pytest.raises(SettingError, match="^unknown setting 'rq_epoch'. Did you mean 'rq_epochs'\\?$"):
        PreprocessSettings(rq_epoch=5)


def test_settings_do_not_change():
    settings = PreprocessSettings(llm_engine_args={"a": [1]})
    with pytest.raises(ValueError, match="frozen"):
        settings.rq_epochs = 5
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize("summarizer", ["vllm", "transformers", "openai"])
def test_language_models_need_a_name(summarizer):
    with pytest.raises(SettingError, match=f"summarizer '{summarizer}' needs the setting llm"):
        PreprocessSettings(summarizer=summarizer, llm_base_url="http://localhost")


def test_a_server_needs_an_address():
    with pytest.raises(SettingError, match="summarizer 'openai' needs the setting llm_base_url"):
        PreprocessSettings(summarizer="openai", llm="a/model")
    assert PreprocessSettings(summarizer="openai", llm="a/model", llm_base_url="http://localhost").llm == "a/model"


def test_settings_that_do_not_change_the_result_do_not_decide():
    changed = PreprocessSettings(
        llm_base_url="http://localhost",
        llm_concurrency=2,
        llm_timeout=3.0,
        llm_retries=1,
        retry_failed=True,
        text_vectors=["user"],
        preprocess_store="elsewhere.sqlite3",
        preprocess_ray=True,
        preprocess_ray_address="auto",
        preprocess_ray_workers=2,
        preprocess_ray_cpus=2.0,
        preprocess_ray_gpus=1.0,
    )
    assert changed.deciding() == PreprocessSettings().deciding()


@pytest.mark.parametrize(
    "change",
    [
        {"llm": "a/model"},
        {"llm_tokenizer": "a/model"},
        {"llm_seed": 1},
        {"llm_attempts": 3},
        {"llm_engine_args": {"seed": 1}},
        {"plain_answers": "fail"},
        {"failed_summary": "missing"},
        {"prompt_language": "zh"},
        {"prompt_templates": "prompts"},
        {"encoder": "flag:other"},
        {"encoder_pooling": "mean"},
        {"encoder_dtype": "float16"},
        {"encoder_max_length": 9},
        {"encoder_max_length": 64},
        {"rq_epochs": 51},
    ],
)
def test_settings_that_change_the_result_decide(change):
    used = {"summarizer": "vllm", "llm": "model", "encoder": "flag:model"}
    assert PreprocessSettings(**{**used, **change}).deciding() == {**PreprocessSettings(**used).deciding(), **change}


def test_settings_that_the_chosen_parts_do_not_read_do_not_decide():
    default = PreprocessSettings().deciding()
    assert "encoder_dim" in default
    for unread in (
        {"llm_seed": 1},
        {"plain_answers": "fail"},
        {"encoder_pooling": "cls"},
        {"encoder_dtype": "float16"},
        {"encoder_max_length": 9},
        {"rq_stopping_changed": 0.5},
    ):
        assert PreprocessSettings(**unread).deciding() == default
    other = PreprocessSettings(encoder="sentence-transformers:x", encoder_max_length=9).deciding()
    # Codes from before these settings existed stay valid.
    assert "rq_stopping_checks" not in default and PreprocessSettings(rq_stopping_checks=2).deciding() != default
    assert "encoder_dim" not in other and other["encoder_max_length"] == 9


def test_folders_are_made_absolute_and_names_are_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "bge").mkdir(parents=True)
    settings = PreprocessSettings(llm="models", llm_tokenizer="hub/name", encoder="flag:models/bge")
    made = with_absolute_folders(settings)
    assert (made.llm, made.llm_tokenizer) == (str(tmp_path / "models"), "hub/name")
    assert made.encoder == f"flag:{tmp_path / 'models' / 'bge'}"
    assert with_absolute_folders(PreprocessSettings()) == PreprocessSettings()


def test_what_decides_can_be_kept_as_json():
    used = {"summarizer": "vllm", "llm": "model"}
    settings = PreprocessSettings(**used, llm_engine_args={"a": [1]}, rq_hidden_sizes=[8], text_vectors=["user"])
    assert json.loads(json.dumps(settings.deciding()))["llm_engine_args"] == {"a": [1]}


def test_warm_up_must_end_before_training():
    with pytest.raises(SettingError, match="rq_warmup_epochs is 50; it must be less than rq_epochs, which is 50"):
        PreprocessSettings(rq_epochs=50, rq_warmup_epochs=50)


@pytest.mark.parametrize(
    ("epochs", "warmup"), [(500, 50), (60, 50), (51, 50), (50, 25), (40, 20), (3, 1), (2, 1), (1, 0)]
)
def test_the_usual_warm_up_follows_few_epochs(epochs, warmup):
    for given in ({}, {"rq_warmup_epochs": None}):
        settings = PreprocessSettings.from_config({"rq_epochs": epochs, **given})
        assert settings.rqvae_settings().warmup_epochs == settings.deciding()["rq_warmup_epochs"] == warmup
    assert PreprocessSettings(rq_epochs=epochs, rq_warmup_epochs=0).rq_warmup_epochs == 0


def test_every_name_has_what_it_names():
    choices = {name: get_args(field.annotation) for name, field in PreprocessSettings.model_fields.items()}
    assert tuple(SUMMARIZERS) == choices["summarizer"]
    assert {folder.name for folder in TEMPLATES.iterdir()} == set(choices["prompt_language"])
    for name in ENCODERS:
        assert PreprocessSettings(encoder=name if name in ("tfidf", "bge-m3") else f"{name}:model")
