"""No setting runs code, and none fills the memory, wherever it is given and whoever reads it."""

import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from recbole.config import Config

from dataset_converters.logs.columns import read_file
from recbole_gserec.errors import GSERecError
from recbole_gserec.runs.plan import read_model_settings
from recbole_gserec.settings.defaults import add_model_file, read_config_files
from recbole_gserec.tune.space import read_space

READERS = {
    "config files": lambda path: read_config_files([path]),
    "config files, by RecBole": lambda path: Config("GSERec", "toy", config_file_list=[str(path)]),
    "settings of single models": read_model_settings,
    "settings of a new model": lambda path: add_model_file("New", path),
    "search spaces": read_space,
    "columns of logs": read_file,
}


@pytest.mark.parametrize("form", ["object/apply:os.mkdir", "object/new:os.mkdir", "name:os.mkdir"])
@pytest.mark.parametrize("reader", READERS)
def test_what_a_file_names_is_not_called(reader, form, tmp_path):
    path = tmp_path / "hostile.yaml"
    path.write_text(f"epochs: !!python/{form} ['{tmp_path / 'made'}']\n")
    with pytest.raises((GSERecError, yaml.YAMLError)):
        READERS[reader](path)
    assert not (tmp_path / "made").exists()


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


@pytest.mark.parametrize("text", [BOMB, "topk: &a [1, *a]\n", "a: " + "[" * 5_000, "epochs: 1\nepochs: 2\n"])
@pytest.mark.parametrize("reader", READERS)
def test_harmful_files_are_refused_at_once_in_one_line(reader, text, tmp_path):
    path = tmp_path / "harmful.yaml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(GSERecError) as error:
        READERS[reader](path)
    assert time.process_time() - start < 5
    assert str(path) in str(error.value) and len(str(error.value)) < 500 and "\n" not in str(error.value)


def test_very_many_unknown_names_are_reported_in_a_few_lines(random_dataset, caplog, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program"])
    requested = {f"name{n}": 1 for n in range(3_000)} | {"data_path": str(random_dataset)}
    start = time.process_time()
    Config("BPR", "toy", config_dict=requested)
    assert time.process_time() - start < 30
    warnings = [record.message for record in caplog.records if "unknown" in record.message]
    assert warnings[-1] == "2,980 more settings are unknown"
    assert len(warnings) == 21


CODE = [
    "__import__('os').mkdir('MADE')",
    "[__import__('os').mkdir('MADE')]",
    "{'mode': __import__('os').mkdir('MADE')}",
    "open('MADE', 'w')",
    "(lambda: __import__('os').mkdir('MADE'))()",
    "'a' if __import__('os').mkdir('MADE') else 'b'",
    "f\"{__import__('os').mkdir('MADE')}\"",
    "!!python/object/apply:os.mkdir ['MADE']",
]


@pytest.mark.parametrize("text", CODE)
@pytest.mark.parametrize("name", ["checkpoint_dir", "loss_type", "MODEL_TYPE", "dataset", "wandb_project"])
def test_values_of_commands_and_dictionaries_are_not_run(name, text, random_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for requested, arguments in (({name: text}, []), ({}, [f"--{name}={text}"])):
        monkeypatch.setattr(sys, "argv", ["program", *arguments])
        try:
            config = Config("BPR", "toy", config_dict={"data_path": str(random_dataset), **requested})
        except Exception as error:  # What the value means to RecBole is not the matter here.
            assert "MADE" in str(error) or "YAML" in str(error) or isinstance(error, (TypeError, AttributeError))
        else:
            assert name in ("dataset", "MODEL_TYPE") or "MADE" in str(config[name])
        assert not (tmp_path / "MADE").exists()


def test_values_that_users_know(random_dataset, monkeypatch):
    requested = {
        "learning_rate": ("1e-4", 0.0001),
        "topk": ("[1,5,10]", [1, 5, 10]),
        "user_inter_num_interval": ("[1,inf)", "[1,inf)"),
        "val_interval": ("None", None),
        "rm_dup_inter": ("first", "first"),
        "train_neg_sample_args": (
            "{'distribution':'uniform','sample_num':2}",
            {"distribution": "uniform", "sample_num": 2, "alpha": 1.0, "dynamic": False, "candidate_num": 0},
        ),
        "checkpoint_dir": ("my runs: 1 #2", "my runs: 1 #2"),
        "show_progress": ("false", False),
        "state": ("ERROR", "ERROR"),
    }
    texts = {name: text for name, (text, _) in requested.items()}
    values = {name: value for name, (_, value) in requested.items()}
    monkeypatch.setattr(sys, "argv", ["program", *(f"--{name}={text}" for name, text in texts.items())])
    by_command = Config("BPR", "toy", config_dict={"data_path": str(random_dataset)})
    monkeypatch.setattr(sys, "argv", ["program"])
    by_dictionary = Config("BPR", "toy", config_dict={"data_path": str(random_dataset), **texts})
    assert texts == {name: text for name, (text, _) in requested.items()}
    for config in (by_command, by_dictionary):
        assert {name: config[name] for name in values} == values


@pytest.mark.parametrize(
    ("value", "gpus"), [("0,1", "0,1"), ("(0,1)", "0,1"), ("[0, 1]", "0,1"), ([1], "1"), (3, "3"), ("", ""), (None, "")]
)
def test_gpus_are_written_as_a_list_without_brackets(value, gpus, random_dataset, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    config = Config("BPR", "toy", config_dict={"data_path": str(random_dataset), "gpu_id": value})
    assert config["gpu_id"].replace(" ", "") == gpus


def test_the_teacher_of_kd_dagfm_is_the_name_of_a_network(tmp_path):
    from recbole.model.context_aware_recommender import kd_dagfm

    assert kd_dagfm.eval("CrossNet") is kd_dagfm.CrossNet
    for name in (f"__import__('os').mkdir('{tmp_path / 'made'}')", "nn.Linear", "os", None):
        with pytest.raises(GSERecError, match="it must be 'CIN' or 'CrossNet' or 'DAGFM'"):
            kd_dagfm.eval(name)
    assert list(tmp_path.iterdir()) == []


def test_a_search_space_of_recbole_holds_values_alone(tmp_path):
    pytest.importorskip("hyperopt")
    from recbole.trainer import HyperTuning

    path = tmp_path / "hyper.test"
    path.write_text("learning_rate choice [0.01, 0.001]\nloss_type choice ['BPR', 'CE']\n")
    assert set(HyperTuning._build_space_from_file(path)) == {"learning_rate", "loss_type"}
    path.write_text(f"learning_rate choice [__import__('os').mkdir('{tmp_path / 'made'}')]\n")
    with pytest.raises(GSERecError, match="not a list of values"):
        HyperTuning._build_space_from_file(path)
    assert not (tmp_path / "made").exists()


def test_vectors_of_items_are_not_unpickled(tmp_path):
    from recbole.model.general_recommender import ldiffrec

    np.save(tmp_path / "numbers.npy", np.ones((2, 3)))
    assert ldiffrec.np.load(tmp_path / "numbers.npy", allow_pickle=True).shape == (2, 3)
    np.save(tmp_path / "objects.npy", np.array([SimpleNamespace()]), allow_pickle=True)
    with pytest.raises(GSERecError, match="not an array of numbers"):
        ldiffrec.np.load(tmp_path / "objects.npy", allow_pickle=True)


def test_values_that_look_like_code_stay_text(tmp_path, random_dataset, make_config):
    made = tmp_path / "made"
    path = tmp_path / "a.yaml"
    path.write_text(f"checkpoint_dir: \"__import__('os').mkdir('{made}')\"\n")
    settings = read_config_files([path])
    assert (
        Config("SASRec", "toy", [str(path)], {"data_path": str(random_dataset)})["checkpoint_dir"]
        == (settings["checkpoint_dir"])
    )
    assert not made.exists()
