"""Search-aware models of other packages: registered by hand, or found as entry points of what is installed."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recbole_gserec import register_model
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.models.gserec import GSERec
from recbole_gserec.settings.defaults import model_settings, properties_folder
from recbole_gserec.settings.model_table import MODELS
from recbole_gserec.settings.values import check_values
from tests.conftest import random_files, write_dataset

SOURCE = """
import torch
from torch import nn

from recbole_gserec.layers.prediction import pointwise_loss
from recbole_gserec.models.search_recommender import SearchRecommender


class MeanItems(SearchRecommender):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.items = nn.Embedding(self.n_items, config["mean_size"], padding_idx=0)

    def encode(self, interaction):
        return self.items(interaction[self.ITEM_SEQ]).mean(1)

    def score(self, state, candidates):
        return (state.unsqueeze(1) * self.items(candidates)).sum(-1)

    def calculate_loss(self, interaction):
        return (pointwise_loss(self.score(self.encode(interaction), self.training_candidates(interaction))),)
"""
SETTINGS = {
    "mean_size": 8,
    "margin_of_mean": 0,
    "names": ["a"],
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "train_neg_sample_args": {
        "distribution": "uniform",
        "sample_num": 2,
        "alpha": 1.0,
        "dynamic": False,
        "candidate_num": 0,
    },
}


def write_package(folder: Path, entry: str = "meanitems.model:MeanItems") -> Path:
    """What an installed package looks like to Python."""
    (folder / "meanitems").mkdir(parents=True)
    (folder / "meanitems" / "model.py").write_text(SOURCE)
    (folder / "meanitems" / "MeanItems.yaml").write_text(yaml.safe_dump(SETTINGS))
    record = folder / "mean_items-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: mean-items\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(f"[recbole_gserec.models]\nMeanItems = {entry}\n")
    return folder


def command(script: str, *arguments: str, package: Path, folder: Path) -> subprocess.CompletedProcess:
    """A console script of the module ``script``, with the package installed."""
    call = [sys.executable, "-c", f"from recbole_gserec.cli.{script} import main; main()", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(Path(__file__).parents[2])])}
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True)


def test_an_installed_model_is_one_of_all_commands(tmp_path):
    package = write_package(tmp_path / "site")
    write_dataset(tmp_path / "dataset", "toy", **random_files())
    ended = command(
        *("main", "benchmark", "--dataset", "toy", "--model", "MeanItems"),
        *("--epochs=1", "--mean_size=4", "--output", "out"),
        package=package,
        folder=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    assert "MeanItems" in (tmp_path / "out" / "report" / "table.md").read_text()
    assert "other code" not in (tmp_path / "out" / "report" / "table.md").read_text()
    (checkpoint,) = tmp_path.glob("out/runs/toy/MeanItems/*/checkpoint.pth")
    ended = command(
        *("main", "recommend", "--checkpoint", str(checkpoint), "--user", "u1", "--out", "best.csv"),
        package=package,
        folder=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "best.csv").read_text().startswith("user,rank,item,score\nu1,1,")

    (package / "meanitems" / "another_part.py").write_text("")
    ended = command("main", "benchmark", "--report-only", "--output", "out", package=package, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    reported = "MeanItems on toy: seed 2020 made with an earlier version of the model's code."
    assert reported in (tmp_path / "out" / "report" / "table.md").read_text()


def test_a_model_of_the_script_that_is_run(tmp_path):
    write_dataset(tmp_path / "dataset", "toy", **random_files())
    (tmp_path / "MeanItems.yaml").write_text(yaml.safe_dump(SETTINGS))
    register = "from recbole_gserec import register_model\n" + SOURCE.replace(
        "class Mean", "@register_model\nclass Mean"
    )
    run = "\nfrom recbole.quick_start import run_recbole\nrun_recbole(model='MeanItems', dataset='toy')\n"
    (tmp_path / "script.py").write_text(register + run)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    call = [sys.executable, "script.py", "--epochs=1"]
    ended = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.glob("saved/MeanItems-*.pth"))


def test_its_settings_are_checked_as_those_of_this_package(tmp_path):
    package = write_package(tmp_path / "site")
    write_dataset(tmp_path / "dataset", "toy", **random_files())
    ended = command(
        *("run_recbole", "--model=MeanItems", "--dataset=toy", "--mean_sise=4"),
        package=package,
        folder=tmp_path,
    )
    assert ended.returncode == 2
    assert "mean_size" in ended.stderr.splitlines()[-1]


def test_a_package_that_fails_stops_nothing_else(tmp_path):
    package = write_package(tmp_path / "site", entry="meanitems.model:Gone")
    ended = command("run_recbole", "--model=MeanItems", package=package, folder=tmp_path)
    assert ended.returncode == 2
    warning, error = ended.stderr.splitlines()[-2:]
    assert "'MeanItems' of package 'mean-items' cannot be used: " in warning and "Gone" in warning
    assert error.startswith("error: there is no model 'MeanItems'")


def named(name: str, module: str = __name__) -> type:
    return type(name, (GSERec,), {"__module__": module})


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """What registering changes, put back afterwards."""
    import recbole.data.dataset
    import recbole.trainer

    from recbole_gserec.settings import defaults

    monkeypatch.setattr(defaults, "_MODEL_FILES", {})
    for name, value in list(MODELS.items()):
        monkeypatch.setitem(MODELS, name, value)
    before = set(MODELS)
    yield
    for name in set(MODELS) - before:
        del MODELS[name]
        del sys.modules[f"recbole.model.general_recommender.{name.lower()}"]
        delattr(recbole.data.dataset, f"{name}Dataset")
        delattr(recbole.trainer, f"{name}Trainer")


def test_registering_by_hand(registered):
    from recbole.utils import get_model

    model = named("Variant")
    sys.modules[__name__].Variant = model
    file = properties_folder() / "model" / "GSERec.yaml"
    assert register_model(model, settings=file) is model
    assert register_model(model, settings=str(file)) is model
    assert get_model("Variant") is model
    assert model_settings("Variant") == model_settings("GSERec")
    delattr(sys.modules[__name__], "Variant")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (object, "must be a subclass of SearchRecommender"),
        ("GSERec", "must be a subclass of SearchRecommender"),
        (named("GSERec"), "there is already a model 'GSERec'"),
        (named("SASREC"), "there is already a model 'SASRec'"),
        (named("New"), "New.yaml: no such file"),
    ],
)
def test_what_is_refused(registered, model, message):
    with pytest.raises(SettingError, match=message):
        register_model(model)


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [", "1: 2\n", ""])
def test_settings_that_are_none(registered, tmp_path, content):
    path = tmp_path / "New.yaml"
    path.write_text(content)
    with pytest.raises(DataError, match="New.yaml"):
        register_model(named("New"), settings=path)


@pytest.fixture
def with_settings(registered, tmp_path, monkeypatch):
    """Registers ``MeanItems`` with some settings."""

    def register(settings):
        (tmp_path / "mean_items.py").write_text(SOURCE)
        (tmp_path / "MeanItems.yaml").write_text(settings)
        monkeypatch.syspath_prepend(tmp_path)
        register_model(importlib.import_module("mean_items").MeanItems)

    yield register
    sys.modules.pop("mean_items")


def test_numbers_of_its_settings_are_those_of_recbole(with_settings):
    with_settings("weight_decay: 1e-5\n")
    assert model_settings("MeanItems")["weight_decay"] == 1e-5
    with_settings("weight_decay: 1e-4\n")
    assert model_settings("MeanItems")["weight_decay"] == 1e-4


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a: 1", (["search", "query"], ["search_user_id"], ["search_item_ids"])),
        (
            "additional_feat_suffix: [search, query, code]",
            (["search", "query", "code"], ["search_user_id", "code_user_id"], ["search_item_ids"]),
        ),
        ("additional_feat_suffix:", ([], [], None)),
        ("alias_of_user_id: [friend_id]", (["search", "query"], ["friend_id"], ["search_item_ids"])),
    ],
)
def test_what_follows_from_the_files_it_reads_need_not_be_written(with_settings, written, expected):
    with_settings(written)
    settings = model_settings("MeanItems")
    names = ("additional_feat_suffix", "alias_of_user_id", "alias_of_item_id")
    assert tuple(settings.get(name) for name in names) == expected


def test_of_its_own_settings_the_kind_alone_is_known(with_settings):
    with_settings(yaml.safe_dump({**SETTINGS, "use_it": True, "weight_decay": 0}))
    for name, value in [
        ("weight_decay", 1e-5),
        ("margin_of_mean", 0.5),
        ("mean_size", -1),
        ("names", ["b"]),
        ("use_it", False),
    ]:
        check_values({name: value}, "MeanItems")
    for name, value in [("margin_of_mean", "a"), ("use_it", 1), ("names", "b"), ("learning_rate", -1)]:
        with pytest.raises(SettingError, match=name):
            check_values({name: value}, "MeanItems")
