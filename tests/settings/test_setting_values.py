"""Which values are refused for our models."""

from pathlib import Path

import numpy as np
import pytest
import recbole
import yaml

from recbole_gserec.errors import SettingError
from recbole_gserec.files.yaml_values import read_value
from recbole_gserec.settings.defaults import model_settings, protocol_settings
from recbole_gserec.settings.values import _defaults_of_recbole, _recbole_defaults, check_values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("embedding_size", 0),
        ("embedding_size", "64"),
        ("embedding_size", 2.5),
        ("train_batch_size", True),
        ("epochs", -1),
        ("lambda_u_cl", -0.1),
        ("lambda_u_cl", "much"),
        ("tau_2", True),
        ("use_code_fusion", 1),
        ("use_code_fusion", "yes"),
        ("mlp_hidden_size", 200),
        ("train_neg_sample_args", "uniform"),
        ("eval_args", "uni99"),
        ("MAX_CLICK_LIST_LENGTH", 0),
    ],
)
def test_values_of_the_wrong_kind_are_refused(name, value):
    with pytest.raises(SettingError, match=name):
        check_values({name: value}, "GSERec")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("embedding_size", 1),
        ("epochs", 0),
        ("lambda_u_cl", 0),
        ("lambda_u_cl", 1),
        ("mlp_hidden_size", []),
        ("use_code_fusion", False),
        ("eval_candidate_seed", None),
        # RecBole's own settings, in the forms that RecBole documents.
        ("topk", 10),
        ("metrics", "Hit"),
        ("load_col", None),
        ("additional_feat_suffix", "search"),
    ],
)
def test_values_of_the_right_kind_pass(name, value):
    check_values({name: value}, "GSERec")


@pytest.mark.parametrize(
    ("name", "values", "wanted"),
    [
        ("mlp_hidden_size", [[0], [-5], [8, "8"], [8, 2.5], [True], 8], "a list of whole numbers of at least 1"),
        ("seed", ["abc", -1, 2**32, 1.5, None], "a whole number from 0 to 4294967295"),
        ("eval_batch_size", [0, -1, "many"], "a whole number of at least 1"),
        ("worker", [-1, "two"], "a whole number of at least 0"),
        ("stopping_step", ["never"], "a whole number of at least 0"),
        ("eval_step", ["abc", 0.5], "a whole number"),
        ("use_gpu", ["maybe", 1], "True or False"),
        ("show_progress", ["maybe"], "True or False"),
        ("learner", ["foo", 3, "sparse_adam"], "'adam' or 'adamw' or 'sgd' or 'adagrad' or 'rmsprop'"),
        ("clip_grad_norm", [5, {"norm": 5}, {}], "None or a dict such as {'max_norm': 5, 'norm_type': 2}"),
        (
            "reduce_lr_on_plateau",
            [True, 3, {"mode": "max"}],
            "None or a dict such as {'factor': 0.1, 'patience': 3",
        ),
        ("reduce_lr_on_plateau", [{"factor": 1.0}, {"factor": 0}], "a dict whose factor is above 0 and below 1"),
        (
            "reduce_lr_on_plateau",
            [{"patience": 1.5}, {"patience": "3"}],
            "a dict whose patience is a whole number of at least 0",
        ),
        ("reduce_lr_on_plateau", [{"min_lr": -1}, {"min_lr": "low"}], "a dict whose min_lr is a number of at least 0"),
        ("encoding", ["latin9x", 8], "the name of an encoding, such as 'utf-8'"),
        (
            "train_neg_sample_args",
            [{"sample_num": 0}, {"sample_num": "4"}],
            "a dict whose sample_num is a whole number",
        ),
        (
            "train_neg_sample_args",
            [{"samples": 4}],
            "a dict with keys from distribution, sample_num, alpha, dynamic",
        ),
        ("train_neg_sample_args", [{"alpha": -1}], "a dict whose alpha is a number of at least 0"),
        # Of the offline stage: as its own settings say.
        ("codebook_size", ["abc", 0, [8, 0], ["abc"], 2.5], "a whole number of at least 1, or a list of one for each"),
        ("rq_warmup_epochs", ["abc", -1], "a whole number of at least 0, or nothing"),
        ("tau_1", [0], "a number above 0"),
        ("rq_hidden_sizes", [[0], 8], "a list of whole numbers of at least 1"),
        ("missing_side", ["none"], "'copy_rec' or 'empty' or 'no_edges'"),
        ("llm_json_schema", ["maybe"], "True or False"),
    ],
)
def test_what_a_setting_takes_is_said(name, values, wanted):
    for value in values:
        with pytest.raises(SettingError) as error:
            check_values({name: value}, "GSERec")
        assert str(error.value).startswith(f"{name} is {value!r}; it must be {wanted}")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mlp_hidden_size", [[8], [200, 80]]),
        ("embedding_size", [np.int64(8)]),
        ("learning_rate", [np.float32(0.5), 1]),
        ("seed", [0, 2**32 - 1]),
        ("worker", [0, 3]),
        ("eval_step", [-1, 0, 5]),
        ("loss_decimal_place", [None, 0, 6]),
        ("learner", ["AdamW", "sgd"]),
        ("clip_grad_norm", [None, {"max_norm": 5}, {"max_norm": 5, "norm_type": 2}]),
        ("reduce_lr_on_plateau", [None, {}, {"factor": 0.1, "patience": 3, "min_lr": 1e-6}, {"cooldown": 0}]),
        ("encoding", [None, "utf-8-sig", "gbk"]),
        ("train_neg_sample_args", [{"sample_num": 1}, {"distribution": "popularity", "alpha": 0.5}]),
        ("rq_epochs", [1, 500]),
        ("codebook_size", [1, [256, 64], [8]]),
        ("lambda_rq_cl", ["1e-4", 0]),
        ("llm", [None, "name"]),
    ],
)
def test_other_forms_pass(name, values):
    for value in values:
        check_values({name: value}, "GSERec")


@pytest.mark.parametrize("text", [".inf", "-.inf", "1e400", "-1e400", ".nan"])
@pytest.mark.parametrize(
    ("model", "name", "form"),
    [
        ("GSERec", "learning_rate", "{}"),
        ("GSERec", "lambda_u_cl", "{}"),
        ("GSERec", "tau_2", "{}"),
        ("GSERec", "reduce_lr_on_plateau", "{{min_lr: {}}}"),
        ("GSERec", "train_neg_sample_args", "{{alpha: {}}}"),
        ("BPR", "learning_rate", "{}"),
        ("BPR", "embedding_size", "{}"),
        ("LightGCN", "reg_weight", "{}"),
    ],
)
def test_numbers_have_an_end(model, name, form, text):
    with pytest.raises(SettingError, match=f"^{name} is "):
        check_values({name: read_value(name, form.format(text))}, model)


def test_numbers_of_any_size_have_an_end():
    check_values({"reg_weight": 10**400, "learning_rate": np.float32(1e38)}, "LightGCN")


def test_recboles_models_may_stop_at_any_step():
    for value in (-1, 0, 10):
        check_values({"stopping_step": value}, "BPR")
    for value in (1.5, "never", True, None):
        with pytest.raises(SettingError, match="^stopping_step is .*; it must be a whole number$"):
            check_values({"stopping_step": value}, "BPR")
    with pytest.raises(SettingError, match="^stopping_step is -1; it must be a whole number of at least 0$"):
        check_values({"stopping_step": -1}, "GSERec")


def test_every_default_passes():
    check_values(model_settings("GSERec"), "GSERec")
    check_values(protocol_settings(), "GSERec")
    overall = Path(recbole.__file__).parent / "properties" / "overall.yaml"
    check_values(yaml.safe_load(overall.read_text()), "GSERec")


def test_settings_of_recboles_models_are_theirs():
    check_values({"mlp_hidden_size": "[64]", "learner": "foo", "codebook_size": "abc"}, "BPR")
    with pytest.raises(SettingError, match="^MAX_SEARCH_LIST_LENGTH is 0; it must be a whole number of at least 1$"):
        check_values({"MAX_SEARCH_LIST_LENGTH": 0}, "BPR")


@pytest.mark.parametrize("model", ["BPR", "SASRec", "FM", "Pop"])
@pytest.mark.parametrize(
    ("name", "values", "wanted"),
    [
        ("epochs", ["abc", -1, 2.5, True, None], "a whole number of at least 0"),
        ("seed", ["abc", -1], "a whole number from 0 to"),
        ("eval_batch_size", [0, "x"], "a whole number of at least 1"),
        ("learning_rate", ["fast", -0.1], "a number of at least 0"),
        ("enable_amp", ["maybe", 1], "True or False"),
        ("clip_grad_norm", [5], "None or a dict"),
        ("checkpoint_dir", [2024, None], "a text"),
        ("train_neg_sample_args", [3], "a dict"),
    ],
)
def test_what_every_run_reads_is_checked_for_recboles_models(model, name, values, wanted):
    for value in values:
        with pytest.raises(SettingError, match=f"^{name} is .*; it must be {wanted}"):
            check_values({name: value}, model)


@pytest.mark.parametrize(
    ("model", "name", "fine", "wrong"),
    [
        ("SASRec", "n_layers", [1, 2, 3.0], ["two", [1], True]),
        ("BPR", "embedding_size", [8, 64], ["large", None]),
        ("LightGCN", "reg_weight", [0, 1e-4], ["1e", {}]),
    ],
)
def test_own_settings_of_recboles_models_are_numbers_where_their_defaults_are(model, name, fine, wrong):
    for value in fine:
        check_values({name: value}, model)
    for value in wrong:
        with pytest.raises(SettingError, match=f"^{name} is .*; it must be a "):
            check_values({name: value}, model)


@pytest.mark.parametrize("model", ["SASRec", "NeuMF", "FISM", "GRU4RecF", "BERT4Rec", "MultiVAE"])
def test_the_defaults_of_recboles_models_pass(model):
    check_values({**_recbole_defaults(), **_defaults_of_recbole(model)}, model)
