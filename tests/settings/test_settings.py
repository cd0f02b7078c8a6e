"""Which defaults apply when, and which settings are refused."""

from pathlib import Path

import pytest
import recbole
import yaml

from recbole_gserec.errors import SettingError
from recbole_gserec.settings.dataset_paths import store_path
from recbole_gserec.settings.defaults import (
    dataset_settings,
    model_settings,
    objective_settings,
    properties_folder,
    protocol_settings,
)
from recbole_gserec.settings.model_table import MODELS, RECOMMENDATION_MODELS
from recbole_gserec.settings.names import (
    DEFAULT_DATASET,
    check_model,
    check_names,
    dataset_defaults,
    known_settings,
    models_reading,
    plugin_defaults,
    read_settings,
    settings_of_others,
    warn_of_unread,
)

PROTOCOL_MODE = {"valid": "uni99", "test": "uni99"}


def test_defaults_of_a_model_and_dataset(random_dataset):
    assert plugin_defaults("BPR", "other", str(random_dataset), False) == {}
    assert plugin_defaults("BPR", "toy", str(random_dataset), False) == protocol_settings()
    # Its loss is RecBole's own unless another is requested.
    objective = {name: value for name, value in objective_settings().items() if name != "loss_type"}
    sasrec = {**protocol_settings(), **objective, "repeatable": True}
    assert plugin_defaults("SASRec", "toy", str(random_dataset), True) == sasrec
    assert plugin_defaults("SASRec", "other", str(random_dataset), True) == objective
    ours = plugin_defaults("GSERec", "other", str(random_dataset), True)
    assert ours == {**protocol_settings(), **model_settings("GSERec"), "repeatable": True}
    # The default dataset is made on first use, so its folder may not be there yet.
    made_later = plugin_defaults("BPR", DEFAULT_DATASET, str(random_dataset), False)
    of_dataset = dataset_settings(DEFAULT_DATASET)
    offline = of_dataset.pop("rq_batch_size")
    del of_dataset["rq_epochs"]
    assert made_later == {**protocol_settings(), **of_dataset}
    # Who reads no codes has no setting of theirs.
    assert plugin_defaults("GSERec", DEFAULT_DATASET, str(random_dataset), True)["rq_batch_size"] == offline == 128


def test_a_dataset_gives_no_second_penalty_to_models_with_their_own():
    assert dataset_defaults("GSERec", "qilin")["weight_decay"] == dataset_settings("qilin")["weight_decay"]
    for model in ("LightGCN", "SimGCL"):
        assert "weight_decay" not in dataset_defaults(model, "qilin")
        assert dataset_defaults(model, "qilin")["embedding_size"] == 32


def test_defaults_are_copies(random_dataset):
    plugin_defaults("GSERec", "toy", str(random_dataset), True)["load_col"].clear()
    plugin_defaults("GSERec", "toy", str(random_dataset), True)["mlp_hidden_size"].append(1)
    again = plugin_defaults("GSERec", "toy", str(random_dataset), True)
    assert again["load_col"]["inter"] == ["user_id", "item_id", "timestamp"]
    assert again["mlp_hidden_size"] == [200, 80]


@pytest.mark.parametrize(("file", "n_least"), [("model/GSERec.yaml", 30), ("preprocess.yaml", 60)])
def test_every_value_of_the_yaml_reaches_the_config(random_dataset, make_config, file, n_least):
    config = make_config("GSERec", train_rows="users")
    written = yaml.safe_load((properties_folder() / file).read_text(encoding="utf-8"))
    if "learning_rate_of_windows" in written:
        written["learning_rate"] = written["learning_rate_of_windows"]
    assert len(written) > n_least
    for name, value in written.items():
        assert config[name] == value, name
    assert config["eval_args"]["mode"] == PROTOCOL_MODE
    assert config["repeatable"] is True


@pytest.mark.parametrize("model", ["SASRec", "LightGCN", "DIN", "FM"])
def test_the_protocol_holds_for_recboles_models_on_searchable_data(random_dataset, make_config, model):
    config = make_config(model)
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert config["eval_args"]["order"] == "TO"
    assert config["eval_args"]["mode"] == PROTOCOL_MODE
    assert config["metrics"] == ["Hit", "NDCG"]
    assert config["topk"] == [1, 5, 10]
    assert config["valid_metric"] == "NDCG@5"
    assert "summarizer" not in config, "settings of our models are not theirs"


@pytest.mark.parametrize(
    ("model", "mode", "split"),
    [("SASRec", "full", {"LS": "valid_and_test"}), ("LightGCN", "full", {"RS": [0.8, 0.1, 0.1]})],
)
def test_plain_data_keeps_recboles_defaults(make_config, model, mode, split):
    config = make_config(model, "ml-100k")
    assert config["eval_args"]["mode"] == {"valid": mode, "test": mode}
    assert config["eval_args"]["split"] == split
    assert config["metrics"] == ["Recall", "MRR", "NDCG", "Hit", "Precision"]
    assert config["topk"] == [10]
    assert config["valid_metric"] == "MRR@10"
    assert config["unordered_timestamps"] is None


def test_settings_of_the_offline_stage_stand_in_one_file():
    of_model, of_stage, of_objective = (
        yaml.safe_load((properties_folder() / file).read_text(encoding="utf-8"))
        for file in ("model/GSERec.yaml", "preprocess.yaml", "objective.yaml")
    )
    assert not of_model.keys() & of_stage.keys() and not (of_model.keys() | of_stage.keys()) & of_objective.keys()
    assert model_settings("GSERec") == {**of_stage, **of_objective, **of_model}
    assert model_settings("SASRec") == {}
    check_names(of_stage, "GSERec")


def test_what_a_user_gives_outranks_the_defaults(random_dataset, make_config):
    requested = {"topk": [3], "valid_metric": "NDCG@3", "embedding_size": 12, "MAX_ITEM_LIST_LENGTH": 7}
    for model in ("GSERec", "SASRec"):
        config = make_config(
            model, **requested, eval_args={"split": {"LS": "test_only"}, "order": "TO", "mode": "full"}
        )
        assert {name: config[name] for name in requested} == requested
        assert config["eval_args"]["mode"] == {"valid": "full", "test": "full"}
        assert config["eval_args"]["split"] == {"LS": "test_only"}


def test_config_files_and_command_line_outrank_the_defaults(random_dataset, make_config, tmp_path, monkeypatch):
    from recbole.config import Config

    file = tmp_path / "settings.yaml"
    file.write_text(f"data_path: {random_dataset}\nlambda_u_cl: 0.5\ntau_2: 0.7\nlearning_rate: 1e-2\n")
    monkeypatch.setattr("sys.argv", ["run", "--tau_2=0.9", "--topk=[5]"])
    config = Config("GSERec", "toy", config_file_list=[str(file)], config_dict={"tau_2": 0.8, "tau_3": 0.8})
    values = [config[name] for name in ("lambda_u_cl", "tau_2", "tau_3", "learning_rate", "topk", "lambda_his_cl")]
    assert values == [0.5, 0.9, 0.8, 0.01, [5], 0.01]


@pytest.mark.parametrize("dataset", ["toy", "ml-100k"])
def test_cross_entropy_takes_no_negatives(random_dataset, make_config, dataset):
    assert make_config("SASRec", dataset)["train_neg_sample_args"]["distribution"] == "none"
    pairwise = make_config("SASRec", dataset, loss_type="BPR")
    assert pairwise["train_neg_sample_args"]["distribution"] == "uniform"
    assert make_config("BPR", dataset)["train_neg_sample_args"]["sample_num"] == 1
    with pytest.raises(ValueError, match="should be None"):
        make_config("SASRec", dataset, train_neg_sample_args={"distribution": "uniform"})


def test_a_typing_error_is_refused_with_the_nearest_name(random_dataset, make_config, caplog):
    with pytest.raises(SettingError, match="unknown setting 'learning_rat'. Did you mean 'learning_rate'?"):
        make_config("GSERec", learning_rat=0.1)
    with pytest.raises(SettingError, match="unknown setting 'lamda_u_cl'. Did you mean 'lambda_u_cl'?"):
        make_config("GSERec", lamda_u_cl=0.1)
    with pytest.raises(SettingError, match="'qqqq'. See the model's YAML"):
        make_config("GSERec", qqqq=0.1)
    # A model of RecBole's or of a user's own may read it.
    make_config("BPR", learning_rat=0.1)
    assert "unknown setting 'learning_rat'. Did you mean 'learning_rate'?" in caplog.text


def test_settings_of_other_models_are_warned_of(caplog):
    requested = {"user_tower": "id", "hidden_size": 32, "embedding_size": 32, "learning_rate": 0.1, "topk": 5}
    check_names(requested, "GSERec")
    warn_of_unread(requested, "GSERec")
    assert [record.getMessage() for record in caplog.records] == [
        "GSERec does not read 'hidden_size', a setting of other models: it has no effect",
        "GSERec does not read 'user_tower', a setting of JSR: it has no effect",
    ]
    assert read_settings("GSERec").isdisjoint(["hidden_size", "user_tower"])
    caplog.clear()
    warn_of_unread({"loss_type": "BCE", "n_heads": 2}, "QuerySeqRec")
    warn_of_unread({"loss_type": "CE"}, "BPR")
    assert not caplog.records
    warn_of_unread({"hidden_size": 32}, "BPR")
    assert "BPR does not read 'hidden_size', a setting of other models" in caplog.text
    assert {"loss_type", "hidden_size"} <= read_settings("BPR")


def test_names_of_datasets_are_no_settings():
    assert "ml-100k" not in known_settings("GSERec")


def test_all_settings_that_recbole_reads_are_known():
    from recbole.utils.argument_list import (
        dataset_arguments,
        evaluation_arguments,
        general_arguments,
        training_arguments,
    )

    names = [*general_arguments, *training_arguments, *evaluation_arguments, *dataset_arguments]
    # Listed by RecBole, read by nothing.
    check_names(set(names) - {"config_file"}, "GSERec")
    check_names(
        ["tail_ratio", "train_batch_size", "alias_of_item_id", "nproc", "dataset", "config_files", "wandb_project"],
        "GSERec",
    )


@pytest.mark.parametrize("model", ["BPR", "GSERec"])
def test_recboles_short_forms_work(random_dataset, make_config, model):
    config = make_config(model, topk=10, metrics="Hit", valid_metric="Hit@10")
    assert (config["topk"], config["metrics"]) == ([10], ["Hit"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:<unknown>", "ignore::SyntaxWarning:<unknown>")
def test_every_model_of_recbole_passes_by_name():
    import ast
    from pathlib import Path

    folder = Path(recbole.__file__).parent / "model"
    names = set()
    for file in folder.glob("*_recommender/*.py"):
        classes = [node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)]
        names.update(name for name in classes if name.lower() == file.stem)
    assert len(names) > 80
    for name in [*names, "GSERec"]:
        check_model(name)


@pytest.mark.parametrize(("name", "meant"), [("gserec", "GSERec"), ("SASrec", "SASRec"), ("LightGNC", "LightGCN")])
def test_an_unknown_model_is_refused_with_the_nearest_name(name, meant):
    with pytest.raises(SettingError, match=f"there is no model '{name}'. Did you mean '{meant}'?"):
        check_model(name)


OURS = sorted({*MODELS, *RECOMMENDATION_MODELS})


@pytest.mark.parametrize("model", ["GSERec", "NRHUB", "KAR", "SimGCL", "BPR", "SASRec"])
def test_settings_of_every_other_model_are_warned_of(caplog, model):
    of_others = settings_of_others(model)
    for other in [*OURS, "LightGCN", "SASRec", "NeuMF"]:
        own = sorted(of_others.intersection(settings_in_file(other)))
        assert other != model or not own
        for name in own[:2]:
            caplog.clear()
            check_names([name], model)
            warn_of_unread([name], model)
            (record,) = caplog.records
            assert record.getMessage().startswith(f"{model} does not read '{name}', a setting of ")
            assert other in models_reading(name)
            if model in OURS:
                assert name not in read_settings(model)


def settings_in_file(model):
    folders = (properties_folder(), Path(recbole.__file__).parent / "properties")
    (file,) = [path for folder in folders if (path := folder / "model" / f"{model}.yaml").is_file()]
    return yaml.safe_load(file.read_text(encoding="utf-8")).keys()


def test_whose_a_setting_is(caplog):
    check_names(["lambda_u_cl"], "NRHUB")
    warn_of_unread(["lambda_u_cl"], "NRHUB")
    assert caplog.text.strip().endswith("NRHUB does not read 'lambda_u_cl', a setting of GSERec: it has no effect")


def test_what_recboles_models_read_unlisted_is_not_warned_of():
    assert "reg_weight" not in settings_of_others("HRM") and "tau" not in settings_of_others("FEARec")
    assert "loss_type" not in settings_of_others("BPR")
    assert not settings_of_others("ModelOfAUser")


def test_a_preset_comes_between_defaults_and_requests(make_config, random_dataset, monkeypatch, tmp_path):
    folder = tmp_path / "properties"
    (folder / "preset").mkdir(parents=True)
    (folder / "preset" / "fast.yaml").write_text(
        "hidden_dropout_prob: 0.4\nlearning_rate: 0.02\nn_layers: 3\nlambda_u_cl: 0.2\n"
    )
    shipped = properties_folder()
    for part in shipped.iterdir():
        if part.name != "preset":
            (folder / part.name).symlink_to(part)
    for module in ("defaults", "names"):
        monkeypatch.setattr(f"recbole_gserec.settings.{module}.properties_folder", lambda: folder)
    config = make_config("GSERec", train_rows="users", preset="fast", n_layers=2)
    assert [config[name] for name in ("hidden_dropout_prob", "learning_rate", "n_layers")] == [0.4, 0.02, 2]
    assert make_config("GSERec", train_rows="users")["learning_rate"] == 0.003
    with pytest.raises(SettingError, match="there is no preset 'slow'; choose from: fast"):
        make_config("GSERec", preset="slow")
    with pytest.raises(SettingError, match="preset is 'fast', which is not for BPR: BPR does not read 'lambda_u_cl'"):
        make_config("BPR", preset="fast")


def test_all_codes_in_a_folder_share_a_store():
    config = {"data_path": "data/d.e", "dataset": "d.e", "code_path": None, "preprocess_store": None}
    assert store_path(config) == Path("data/d.e/d.e.preprocess.sqlite3")
    assert store_path({**config, "code_path": "other/two.code"}) == Path("other/d.e.preprocess.sqlite3")
    own = {**config, "code_path": "other/two.code", "preprocess_store": "s.sqlite3"}
    assert store_path(own) == Path("s.sqlite3")
