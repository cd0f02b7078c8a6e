"""Two runs at once, or one after the other in a process, have their own files."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import recbole.data.dataset.dataset
import recbole.data.utils
import recbole.quick_start.quick_start
import recbole.trainer.trainer
import recbole.utils
import torch
from recbole.utils import get_trainer

from recbole_gserec.plugin import own_files


@pytest.fixture
def one_moment(monkeypatch):
    """The clock stands still."""

    class Moment(recbole.utils.utils.datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 29, 23, 30, 12)

    monkeypatch.setattr(recbole.utils.utils.datetime, "datetime", Moment)


def test_checkpoints_of_one_second_have_names_of_their_own(one_moment, random_dataset, make_model):
    model, config, _, _ = make_model("BPR")
    make = get_trainer(config["MODEL_TYPE"], "BPR")
    names = {Path(make(config, model).saved_model_file).name for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("BPR-Nov-29-2026_23-30-12-") and name.endswith(".pth") for name in names)


def test_pretrained_weights_have_a_file_of_the_runs_own_too(random_dataset, make_model):
    """RecBole names them by the epoch, and tests what is there."""
    model, config, _, _ = make_model("BPR")
    trainer = get_trainer(config["MODEL_TYPE"], "BPR")(config, model)
    own, shared = trainer.saved_model_file, str(Path(config["checkpoint_dir"]) / "BPR-toy-10.pth")
    recbole.trainer.trainer.PretrainTrainer.save_pretrained_model(trainer, 9, shared)
    assert trainer.saved_model_file == own
    for file in (own, shared):
        saved = torch.load(file, weights_only=True)
        assert saved["epoch"] == 9 and saved["state_dict"].keys() == model.state_dict().keys()


def test_all_of_recbole_names_files_so(one_moment):
    """Trees have files of their own besides checkpoints; logs, and TensorBoard's folders, come from the same name."""
    modules = (recbole.trainer.trainer, recbole.utils.logger, recbole.utils.utils, recbole.utils)
    times = [module.get_local_time() for module in modules]
    assert len(set(times)) == len(times)


def test_names_draw_from_no_generator_that_a_seed_decides():
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    recbole.utils.get_local_time()
    assert states() == before


def test_a_folder_that_another_process_makes_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    for module in (recbole.utils, recbole.utils.logger, recbole.trainer.trainer, recbole.data.utils):
        module.ensure_dir(str(tmp_path / "log" / "BPR"))
    assert (tmp_path / "log" / "BPR").is_dir()


@pytest.mark.parametrize("module", [recbole.data.utils, recbole.data.dataset.dataset])
def test_a_saved_dataset_is_whole_or_the_former_one(module, tmp_path):
    file = tmp_path / "toy-Dataset.pth"
    file.write_bytes(b"former")
    with pytest.raises(RuntimeError), module.open(file, "wb") as opened:
        opened.write(b"half of")
        raise RuntimeError("killed")
    assert file.read_bytes() == b"former" and list(tmp_path.iterdir()) == [file]
    with module.open(str(file), "wb") as opened:
        opened.write(b"whole")
    with module.open(file, "rb") as opened:
        assert opened.read() == b"whole"


@pytest.fixture
def bare_logger(monkeypatch):
    """Makes the root logger as in a program of its own. To be called in the test, for which pytest adds handlers."""
    logger = logging.getLogger()

    def make():
        monkeypatch.setattr(logger, "handlers", [])
        monkeypatch.setattr(own_files, "_log_handlers", [])
        return logger

    yield make
    for handler in own_files._log_handlers:
        handler.close()


@pytest.mark.parametrize("dataset", ["toy", "toy.v2"])
def test_runs_of_a_process_log_apart(bare_logger, make_config, tmp_path, dataset, write_files):
    write_files(tmp_path / "dataset", dataset, inter=[("u", "i", 1)])
    logger, folders = bare_logger(), []
    for number in range(3):
        recbole.quick_start.quick_start.init_logger(make_config("BPR", dataset))
        logger.info(f"line of run {number}")
        writer = recbole.trainer.trainer.get_tensorboard(logger)
        folders.append(Path(writer.log_dir).name)
        writer.close()
    logs = {file.stem: file.read_text() for file in (tmp_path / "log" / "BPR").iterdir()}
    assert len(logs) == 3 and set(folders) == set(logs)
    run_numbers = [[number for number in range(3) if f"line of run {number}" in logs[name]] for name in folders]
    assert run_numbers == [[0], [1], [2]]


def test_handlers_of_a_users_program_stay(bare_logger, make_config, random_dataset):
    logger, own = bare_logger(), logging.StreamHandler()
    logger.addHandler(own)
    for _ in range(2):
        recbole.utils.init_logger(make_config("BPR"))
        assert logger.handlers == [own]


TOGETHER = """
import json, os, sys
import torch
torch.set_num_threads(1)
import recbole_gserec
from recbole.quick_start import run_recbole

settings = json.loads(sys.argv[1])
sys.argv = sys.argv[:1]
start, go = os.pipe()

def run(rate, name):
    result = run_recbole("BPR", "toy", config_dict={**settings, "learning_rate": rate})
    with open(f"{name}-{rate}.json", "w") as file:
        json.dump(dict(result["test_result"]), file)

children = []
for rate in (0.03, 0.0001):
    child = os.fork()
    if not child:
        os.close(go)
        # Until the parent closes its end.
        os.read(start, 1)
        run(rate, "together")
        os._exit(0)
    children.append(child)
os.close(go)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
for rate in (0.03, 0.0001):
    run(rate, "alone")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_trainings_that_start_together_test_their_own_weights(random_dataset, fresh_python, tmp_path):
    settings = {"data_path": str(random_dataset), "epochs": 3, "show_progress": False, "save_dataset": True}
    fresh_python(TOGETHER, json.dumps(settings))
    results = {file.stem: json.loads(file.read_text()) for file in tmp_path.glob("*-*.json")}
    for rate in (0.03, 0.0001):
        assert results[f"together-{rate}"] == results[f"alone-{rate}"]
    # Else one might have been tested by the other's weights unnoticed.
    assert results["alone-0.03"] != results["alone-0.0001"]
    files = [file.name for file in (tmp_path / "saved").iterdir()]
    assert len([name for name in files if name.startswith("BPR-")]) == 4
    assert len(list((tmp_path / "log" / "BPR").iterdir())) == len(list((tmp_path / "log_tensorboard").iterdir())) == 4


# ---- the offline stage ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_codes_are_made_once_by_two_commands(tmp_path, write_files, random_rows):
    write_files(tmp_path / "dataset", "toy", **{name: rows for name, rows in random_rows.items() if name != "code"})
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    command = [
        sys.executable,
        "-m",
        "recbole_gserec.cli.main",
        "preprocess",
        "--dataset=toy",
        "--rq_epochs=30",
        "--rq_warmup_epochs=0",
    ]
    processes = [
        subprocess.Popen(
            [*command, "--codebook_size=8"],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sorted("Training the RQ-VAE" in output for output in outputs) == [False, True]
    assert sorted("is up to date" in output for output in outputs) == [False, True]
    assert not [file.name for file in (tmp_path / "dataset" / "toy").iterdir() if file.name.startswith(".")]
