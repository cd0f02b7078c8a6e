"""Our models that need no searches: RecBole's in all but their own file, on data with searches and without."""

from pathlib import Path

import pytest
import torch
import yaml
from recbole.data.dataloader import FullSortEvalDataLoader, TrainDataLoader
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer

from recbole_gserec.cli.run_recbole import run
from recbole_gserec.errors import SettingError
from recbole_gserec.evaluation.scoring import CandidateEvalDataLoader
from recbole_gserec.settings.config import without_arguments
from recbole_gserec.settings.defaults import is_search_aware, model_settings, properties_folder
from recbole_gserec.settings.model_table import MODELS, RECOMMENDATION_MODELS
from recbole_gserec.settings.names import check_model, plugin_defaults
from recbole_gserec.settings.values import check_values

DATASETS = {"SimGCL": Dataset, "CL4SRec": SequentialDataset}
STOCK = {"SimGCL": "LightGCN", "CL4SRec": "SASRec"}
SMALL = {
    "SimGCL": {"embedding_size": 8},
    "CL4SRec": {"hidden_size": 8, "inner_size": 8},
}
QUIET = {"show_progress": False, "use_gpu": False, "state": "ERROR", "train_batch_size": 256}

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")


@pytest.fixture(params=RECOMMENDATION_MODELS)
def name(request):
    return request.param


@pytest.fixture
def plain(random_rows, write_rows) -> Path:
    """The random dataset without searches; returns the folder of all datasets."""
    return write_rows("plain", inter=random_rows["inter"]).parent


PLAIN = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}


def test_tables_and_settings_agree():
    assert not MODELS.keys() & RECOMMENDATION_MODELS.keys()
    assert RECOMMENDATION_MODELS.keys() >= {"SimGCL", "CL4SRec"}
    for table, aware in ((MODELS, True), (RECOMMENDATION_MODELS, False)):
        for model, module in table.items():
            check_model(model)
            assert model_settings(model) and is_search_aware(model) == aware
            assert get_model(model).__module__ == module
    assert not is_search_aware("SASRec")


def test_tuned_settings_are_settings_and_lists_of_what_they_take(name):
    space = yaml.safe_load((properties_folder() / "tune" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert space and space.keys() <= model_settings(name).keys()
    for setting, values in space.items():
        assert len(values) > 1 and model_settings(name)[setting] in values
        for value in values:
            check_values({setting: value}, name)


# ---- settings --------------------------------------------------------------------------------------------------------


def test_plain_data_keeps_recboles_protocol(plain, make_config, name):
    assert plugin_defaults(name, "plain", str(plain), True) == model_settings(name)
    ours, stock = (make_config(model, "plain") for model in (name, STOCK[name]))
    for setting in ("eval_args", "metrics", "topk", "valid_metric", "load_col", "repeatable", "eval_batch_size"):
        assert ours[setting] == stock[setting], setting
    assert "short_users" not in ours and "eval_candidate_seed" not in ours
    partly = make_config(name, "plain", eval_args={"mode": "uni99", "order": "TO"})
    assert partly["eval_args"]["split"] == {"RS": [0.8, 0.1, 0.1]}


@pytest.mark.parametrize("dataset", ["plain", "toy", "ml-100k", "ml-100k-search"])
def test_every_value_of_the_yaml_reaches_the_config(random_dataset, plain, make_config, name, dataset):
    config = make_config(name, dataset)
    of_dataset = {"epochs"} if dataset == "ml-100k-search" else set()
    for setting, value in model_settings(name).items():
        assert setting in of_dataset or config[setting] == value, setting


def test_the_protocol_holds_on_searchable_data(random_dataset, make_config, name):
    ours, stock = (make_config(model) for model in (name, STOCK[name]))
    assert ours["eval_args"]["mode"] == {"valid": "uni99", "test": "uni99"}
    for setting in ("eval_args", "metrics", "topk", "valid_metric", "load_col", "repeatable", "short_users"):
        assert ours[setting] == stock[setting], setting


@pytest.mark.parametrize("dataset", ["toy", "plain"])
def test_wrong_settings_are_refused_on_any_data(random_dataset, plain, make_config, name, dataset, caplog):
    with pytest.raises(SettingError, match="unknown setting 'lamda_cl'. Did you mean 'lambda_cl'?"):
        make_config(name, dataset, lamda_cl=0.1)
    with pytest.raises(SettingError, match="lambda_cl is -1; it must be a number of at least 0"):
        make_config(name, dataset, lambda_cl=-1)
    make_config(name, dataset, codebook_size=4)
    assert f"{name} does not read 'codebook_size', a setting of " in caplog.text


@pytest.mark.parametrize("dataset", ["toy", "plain"])
def test_losses_say_what_negatives_they_take(random_dataset, plain, make_config, dataset):
    assert make_config("CL4SRec", dataset)["train_neg_sample_args"]["distribution"] == "none"
    # How RecBole's users are used to say so.
    assert make_config("CL4SRec", dataset, train_neg_sample_args=None)["loss_type"] == "CE"
    kinds = {}
    for loss_type in ("CE", "BPR", "BCE"):
        config = make_config("CL4SRec", dataset, loss_type=loss_type)
        kinds[loss_type] = config["MODEL_INPUT_TYPE"].name, config["train_neg_sample_args"]["sample_num"]
    assert kinds == {"CE": ("POINTWISE", "none"), "BPR": ("PAIRWISE", 1), "BCE": ("PAIRWISE", 1)}
    with pytest.raises(SettingError, match="train_neg_sample_args is None; it must be a dict"):
        make_config("NRHUB", train_neg_sample_args=None)


def test_the_default_dataset_is_recboles(name, monkeypatch, tmp_path):
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("recbole.quick_start.run", lambda *args, **_: calls.append(args))
    run([f"--model={name}"])
    assert calls == [(name, "ml-100k")]


# ---- data and training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dataset", "requested"), [("toy", {}), ("plain", PLAIN)])
def test_datasets_loaders_and_trainer_are_recboles(random_dataset, plain, make_model, name, dataset, requested):
    model, config, built, loaders = make_model(name, dataset, **SMALL[name], **requested)
    assert type(built) is DATASETS[name]
    assert type(get_trainer(config["MODEL_TYPE"], name)(config, model)) is Trainer
    evaluated = CandidateEvalDataLoader if dataset == "toy" else FullSortEvalDataLoader
    assert [type(loader) for loader in loaders] == [TrainDataLoader, evaluated, evaluated]


def test_rows_and_candidates_are_those_of_recboles_models(random_dataset, prepare, name):
    negatives = {} if name == "SimGCL" else {"MAX_ITEM_LIST_LENGTH": 20}
    ours, stock = (prepare(model, **negatives)[2] for model in (name, STOCK[name]))
    for mine, theirs in zip(ours, stock, strict=True):
        for field in ("user_id", "item_id"):
            assert torch.equal(mine._dataset.inter_feat[field], theirs._dataset.inter_feat[field])
    for mine, theirs in zip(ours[1:], stock[1:], strict=True):
        assert torch.equal(mine.candidates, theirs.candidates)


def start(model, dataset, folder, **settings):
    with without_arguments():
        return run_recbole(model, dataset, config_dict={**QUIET, "checkpoint_dir": str(folder), **settings})


@pytest.mark.parametrize(("dataset", "requested"), [("toy", {}), ("plain", PLAIN)])
def test_two_epochs_twice_and_from_the_checkpoint(
    random_dataset, plain, tmp_path, monkeypatch, name, dataset, requested
):
    monkeypatch.chdir(tmp_path)
    settings = {**SMALL[name], **requested, "data_path": str(plain), "epochs": 2}
    first, second = (start(name, dataset, tmp_path / part, **settings) for part in ("first", "second"))
    assert first == second
    assert all(0 <= value <= 1 for value in first["test_result"].values())
    (checkpoint,) = (tmp_path / "first").glob(f"{name}-*.pth")
    with without_arguments():
        config, model, _, _, _, test = load_data_and_model(str(checkpoint))
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    assert trainer.evaluate(test, load_best_model=False) == first["test_result"]


@pytest.mark.parametrize("loss_type", ["BPR", "BCE"])
def test_losses_with_negatives_train(random_dataset, tmp_path, monkeypatch, loss_type):
    monkeypatch.chdir(tmp_path)
    negatives = {"distribution": "uniform", "sample_num": 3}
    settings = {**SMALL["CL4SRec"], "data_path": str(random_dataset), "epochs": 1, "loss_type": loss_type}
    result = start("CL4SRec", "toy", tmp_path / "saved", **settings, train_neg_sample_args=negatives)
    assert 0 <= result["test_result"]["ndcg@5"] <= 1
    (checkpoint,) = (tmp_path / "saved").glob("CL4SRec-*.pth")
    with without_arguments():
        assert load_data_and_model(str(checkpoint))[0]["loss_type"] == loss_type


@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
def test_without_contrast_a_run_of_cl4srec_is_one_of_sasrec(random_dataset, tmp_path, monkeypatch, loss_type):
    """Without dropout, the only random numbers of SASRec that are not the dataloader's."""
    monkeypatch.chdir(tmp_path)
    shared = {
        **{"hidden_size": 8, "inner_size": 8, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
        **{"MAX_ITEM_LIST_LENGTH": 20, "weight_decay": 0.0, "stopping_step": 4, "epochs": 3, "learning_rate": 0.01},
        **{"loss_type": loss_type, "data_path": str(random_dataset), "metric_decimal_place": 3},
    }
    ours = start("CL4SRec", "toy", tmp_path / "ours", **shared, lambda_cl=0)
    stock = start("SASRec", "toy", tmp_path / "stock", **shared)
    assert ours == stock
