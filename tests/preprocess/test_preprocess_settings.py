import dataclasses

import pytest

from recbole_gserec.errors import SettingError
from recbole_gserec.preprocess.rqvae_training import RQVAESettings
from recbole_gserec.preprocess.settings import PreprocessSettings
from recbole_gserec.properties_files import model_settings


def test_defaults_are_those_of_the_yaml():
    shipped = model_settings("GSERec")
    names = {field.name for field in dataclasses.fields(PreprocessSettings)}
    assert names <= set(shipped)
    assert PreprocessSettings.from_config({name: shipped[name] for name in names}) == PreprocessSettings()


def test_defaults_are_those_of_the_rqvae():
    assert PreprocessSettings().rqvae_settings() == RQVAESettings()


def test_rqvae_settings_take_their_values_from_here():
    settings = PreprocessSettings(
        n_codebooks=3, lambda_rq_cl=0.5, rq_hidden_sizes=[8, 4], rq_epochs=70, rq_sinkhorn=False, preprocess_seed=7
    ).rqvae_settings()
    assert (settings.n_codebooks, settings.lambda_rq_cl, settings.epochs) == (3, 0.5, 70)
    assert (settings.hidden_sizes, settings.sinkhorn, settings.seed) == ((8, 4), False, 7)


def test_reads_its_settings_out_of_many():
    config = {"rq_epochs": 70, "train_batch_size": "anything", "rq_batch_size": None}
    assert PreprocessSettings.from_config(config) == PreprocessSettings(rq_epochs=70)


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("lambda_rq_cl", "1e-3", 1e-3),  # YAML reads 1e-3 as text
        ("lambda_rq", 2, 2.0),
        ("rq_epochs", 60.0, 60),
        ("rq_hidden_sizes", [16, "8"], (16, 8)),
        ("rq_hidden_sizes", [], ()),
        ("missing_side", "no_edges", "no_edges"),
        ("prompt_clicks", 0, 0),
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
    assert message.startswith(f"{name} is {value!r}; it takes {allowed}")
    assert "\n" not in message


def test_warm_up_must_end_before_training():
    with pytest.raises(SettingError, match="rq_warmup_epochs is 50; it takes less than rq_epochs, which is 50"):
        PreprocessSettings(rq_epochs=50)
    assert PreprocessSettings(rq_epochs=51).rqvae_settings().warmup_epochs == 50
