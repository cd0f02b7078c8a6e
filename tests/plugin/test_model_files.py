"""Models in a file of the user's: how they are named, loaded, refused, and known to other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recbole_gserec import register_model
from recbole_gserec.cli.options import names_in
from recbole_gserec.cli.run_recbole import run
from recbole_gserec.errors import DataError, GSERecError, SettingError
from recbole_gserec.plugin import model_registry
from recbole_gserec.plugin.checkpoint import read_checkpoint
from recbole_gserec.plugin.model_registry import forget_model, registered_module
from recbole_gserec.runs.record import code_digest
from recbole_gserec.settings.config import without_arguments
from recbole_gserec.settings.defaults import is_search_aware, model_settings, registered_models
from recbole_gserec.settings.names import MODEL_FILES_VARIABLE, failures
from tests.plugin.test_register_model import SETTINGS, SOURCE

PLAIN = "from recbole.model.general_recommender.bpr import BPR\n\n\nclass MyBPR(BPR):\n    pass\n"
RAN = "import pathlib\npathlib.Path('ran').write_text('run')\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder to work in; whatever models are added are forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(MODEL_FILES_VARIABLE, "[]")
    monkeypatch.setattr(model_registry, "_named", {})
    monkeypatch.setattr(model_registry, "_modules", {})
    failures.clear()
    before = registered_models()
    yield tmp_path
    for name in registered_models() - before:
        forget_model(name)


def write(content: str, name: str = "mine.py") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def write_mean_items() -> None:
    write(SOURCE)
    write(yaml.safe_dump(SETTINGS), "MeanItems.yaml")


def test_a_search_aware_model_has_its_settings_beside_it():
    write_mean_items()
    model = register_model("mine.py:MeanItems")
    assert model.__name__ == "MeanItems" and is_search_aware("MeanItems")
    assert model_settings("MeanItems")["mean_size"] == 8
    assert register_model("./mine.py:MeanItems") is model


def test_a_decorated_class_is_registered_once():
    write("from recbole_gserec import register_model\n" + SOURCE.replace("class Mean", "@register_model\nclass Mean"))
    write(yaml.safe_dump(SETTINGS), "MeanItems.yaml")
    assert register_model("mine.py:MeanItems").__module__ == registered_module("MeanItems")


def test_without_a_file_the_settings_are_those_of_the_class_it_is_made_from(here):
    from recbole.utils import get_model, get_trainer

    write(
        f"{PLAIN}\nfrom recbole.model.general_recommender.multivae import MultiVAE\n"
        "from recbole_gserec.models.nrhub import NRHUB\n\n"
        "class MyNRHUB(NRHUB):\n    pass\n\nclass MyVAE(MultiVAE):\n    pass\n\nclass Later(MyNRHUB):\n    pass\n"
    )
    for name, base in (("MyBPR", "BPR"), ("MyNRHUB", "NRHUB"), ("Later", "NRHUB")):
        assert get_model(name) if name in registered_models() else register_model(f"mine.py:{name}")
        assert is_search_aware(name) == (base == "NRHUB")
    assert model_settings("Later") == model_settings("NRHUB")
    assert model_settings("MyBPR") == {"embedding_size": 64}
    assert get_model("MyBPR").__mro__[1].__name__ == "BPR"
    model = register_model("mine.py:MyVAE")
    assert get_trainer(model.type, "MyVAE") is get_trainer(model.type, "MultiVAE")


def test_code_that_changed_is_loaded_again_and_has_another_digest():
    write(PLAIN)
    first = register_model("mine.py:MyBPR")
    digest = code_digest("MyBPR")
    assert register_model("mine.py:MyBPR") is first
    write(f"{PLAIN}    margin = 2\n")
    assert register_model("mine.py:MyBPR").margin == 2
    assert None not in (digest, code_digest("MyBPR")) and code_digest("MyBPR") != digest


@pytest.mark.parametrize(
    ("content", "named", "reported"),
    [
        (None, "mine.py:MyBPR", "mine.py: no such file"),
        (PLAIN, "mine.py", "does not name the model's class"),
        (PLAIN, "mine.py:", "does not name the model's class"),
        (PLAIN, "mine.py:My BPR", "does not name the model's class"),
        (PLAIN, "mine.py:MyBRP", "it has no class 'MyBRP'. Did you mean 'MyBPR'?"),
        (PLAIN, "mine.py:Another", "Models in it: MyBPR"),
        ("class Plain: pass\n", "mine.py:Plain", "'Plain' is not a recommender"),
        ("Plain = 1\n", "mine.py:Plain", "'Plain' is not a recommender"),
        ("x = 1\nclass (\n", "mine.py:MyBPR", "mine.py, line 2: it cannot be loaded: SyntaxError"),
        ("x = 1\n\ny = 1 / 0\n", "mine.py:MyBPR", "mine.py, line 3: it cannot be loaded: ZeroDivisionError"),
        ("import not_there\n", "mine.py:MyBPR", "line 1: it cannot be loaded: ModuleNotFoundError"),
        ("raise SystemExit(0)\n", "mine.py:MyBPR", "line 1: it cannot be loaded: SystemExit"),
        (SOURCE, "mine.py:MeanItems", "MeanItems.yaml: no such file"),
        (f"{RAN}class GSERec: pass\n", "mine.py:GSERec", "there is already a model 'GSERec'"),
        (f"{RAN}class sasrec: pass\n", "mine.py:sasrec", "there is already a model 'SASRec'"),
    ],
)
def test_what_is_no_model_is_reported_in_one_line(here, content, named, reported):
    if content is not None:
        write(content)
    with pytest.raises(GSERecError) as caught:
        run([f"--model={named}"])
    assert reported in str(caught.value)
    assert not registered_models() and not Path("ran").exists()


def test_a_class_that_is_only_imported_is_refused():
    write(PLAIN)
    with pytest.raises(SettingError, match="there is already a model 'BPR'"):
        register_model("mine.py:BPR")
    write("from recbole.model.abstract_recommender import GeneralRecommender\n", "other.py")
    with pytest.raises(SettingError, match="'GeneralRecommender' is only imported there"):
        register_model("other.py:GeneralRecommender")


def test_two_files_with_one_name_of_a_model():
    write(PLAIN)
    write(PLAIN, "another/mine.py")
    register_model("mine.py:MyBPR")
    with pytest.raises(SettingError, match="there is already a model 'MyBPR'"):
        register_model("another/mine.py:MyBPR")


def test_trained_and_loaded_again_only_if_it_is_named(random_dataset, here):
    from recbole.quick_start import load_data_and_model, run_recbole

    from recbole_gserec.recommend.trained import load_trained

    write(RAN + PLAIN)
    settings = {"epochs": 1, "use_gpu": False, "show_progress": False, "data_path": str(random_dataset)}
    with without_arguments():
        run_recbole(model="mine.py:MyBPR", dataset="toy", config_dict=settings)
    (checkpoint,) = Path("saved").glob("MyBPR-*.pth")
    config = read_checkpoint(checkpoint)["config"]
    assert config.model_file == f"{here / 'mine.py'}:MyBPR" and config["model"] == "MyBPR"
    with without_arguments():
        assert type(load_data_and_model(str(checkpoint))[1]).__name__ == "MyBPR"

    forget_model("MyBPR")
    model_registry._named.clear()
    model_registry._modules.clear()
    Path("ran").unlink()
    for load in (load_trained, lambda path: load_data_and_model(str(path))):
        with pytest.raises(SettingError, match="only runs if you name it: --model .*mine.py:MyBPR"):
            load(checkpoint)
    assert not Path("ran").exists()
    register_model("mine.py:MyBPR")
    assert Path("ran").exists()
    assert type(load_trained(checkpoint).model).__name__ == "MyBPR"


def test_a_file_of_settings_runs_no_code(here):
    from recbole.config import Config

    write(RAN + PLAIN)
    write("model: mine.py:MyBPR\n", "settings.yaml")
    with pytest.raises(SettingError, match="code only runs if you name it"):
        run(["--config_files=settings.yaml"])
    with without_arguments():
        with pytest.raises(SettingError, match="code only runs if you name it"):
            Config(dataset="ml-100k", config_file_list=["settings.yaml"])
        assert not Path("ran").exists()
        assert Config(dataset="ml-100k", config_dict={"model": "mine.py:MyBPR"})["model"] == "MyBPR"


def test_processes_that_are_started_know_it_too(fresh_python):
    write_mean_items()
    register_model("mine.py:MeanItems")
    write("settings: 1\n", "other.yaml")
    write(PLAIN, "second.py")
    register_model("second.py:MyBPR", "other.yaml")
    Path("second.py").write_text("oh no")
    code = """
        import pickle, sys
        import recbole_gserec
        from recbole.utils import get_model
        from recbole_gserec.errors import SettingError
        from recbole_gserec.settings.names import check_model

        model = get_model("MeanItems")
        assert pickle.loads(pickle.dumps(model)) is model
        print(model.__module__)
        try:
            check_model("MyBPR")
        except SettingError as error:
            print(error)
    """
    module, *reported = fresh_python(code).splitlines()
    assert module == registered_module("MeanItems")
    assert len(reported) == 1 and "second.py, line 1: it cannot be loaded: SyntaxError" in reported[0]


@pytest.mark.parametrize("reported", ["", "no list", "[1]", '{"a": 1}'])
def test_an_environment_of_somebody_else_stops_nothing(monkeypatch, reported):
    monkeypatch.setenv(MODEL_FILES_VARIABLE, reported)
    model_registry.load_named_files()
    assert not registered_models()


def test_names_are_separated_by_commas_and_spaces_and_paths_may_have_spaces():
    assert names_in(["GSERec, my models/a.py:A", "b.py:B c.py:C", "SASRec GSERec"]) == [
        *("GSERec", "my models/a.py:A", "b.py:B", "c.py:C", "SASRec"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "benchmark --dataset toy --model mine.py:MeanItems --reference mine.py:MeanItems --epochs=1 --output out",
        "tune -d toy --model mine.py:MeanItems --space space.yaml --samples 1 --workers 1 --epochs=1 --output out",
    ],
)
def test_commands_that_start_processes(random_dataset, here, command):
    write_mean_items()
    write("mean_size: [4, 8]\n", "space.yaml")
    call = [sys.executable, "-c", "from recbole_gserec.cli.main import main; main()", *command.split()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    checkpoint = next(Path("out").rglob("checkpoint.pth"))
    assert read_checkpoint(checkpoint)["config"].model_file == f"{here / 'mine.py'}:MeanItems"


def test_settings_that_are_malformed_are_reported():
    write_mean_items()
    write("- a\n", "MeanItems.yaml")
    with pytest.raises(DataError, match="MeanItems.yaml"):
        register_model("mine.py:MeanItems")
