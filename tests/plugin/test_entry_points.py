"""RecBole's entry points pass by this package, so that any process that unpickles one knows it."""

import logging
import multiprocessing
import pickle
import signal
import time

import pytest
import recbole.quick_start
import recbole.quick_start.quick_start as stock

from recbole_gserec.errors import CheckpointError, SettingError
from recbole_gserec.plugin import entry_points
from recbole_gserec.settings.config import without_arguments


@pytest.mark.parametrize("name", entry_points.__all__)
def test_recboles_names_are_ours(name):
    ours = getattr(entry_points, name)
    assert getattr(stock, name) is ours
    assert getattr(recbole.quick_start, name, ours) is ours
    assert entry_points.STOCK[name].__module__ == "recbole.quick_start.quick_start"
    assert entry_points.STOCK[name].__name__ == name


def test_names_that_recbole_exports():
    for name in ("run", "run_recbole", "objective_function", "load_data_and_model"):
        assert getattr(recbole.quick_start, name) is getattr(entry_points, name)


@pytest.mark.parametrize("name", entry_points.__all__)
def test_arguments_and_result_pass_unchanged(monkeypatch, tmp_path, name):
    calls = []
    monkeypatch.setitem(entry_points.STOCK, name, lambda *args, **kwargs: (calls.append((args, kwargs)), 7)[1])
    monkeypatch.setattr(entry_points, "read_checkpoint", lambda path: (calls.append(path), {"config": None})[1])
    function = getattr(entry_points, name)
    if name == "load_data_and_model":
        assert function("file.pth") == 7
        assert calls == ["file.pth", (("file.pth",), {})]
    elif name == "run_recboles":
        assert function(1, "GSERec", "toy", None, {"a": 1}) == 7
        assert calls == [((1, "GSERec", "toy", None, {"a": 1}), {})]
    else:
        assert function("GSERec", dataset="toy") == 7
        assert calls == [(("GSERec",), {"dataset": "toy"})]


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        recbole.quick_start.load_data_and_model(str(tmp_path / "nothing.pth"))


def test_unpickling_in_a_new_process_registers_the_models(fresh_python):
    names = ["run_recboles", "run_recbole", "objective_function", "run", "load_data_and_model"]
    pickled = [pickle.dumps(getattr(stock, name)) for name in names]
    assert all(b"recbole_gserec.plugin.entry_points" in function for function in pickled)
    code = """
        import pickle, sys
        assert not [name for name in sys.modules if name.startswith("recbole")]
        functions = [pickle.loads(bytes.fromhex(argument)) for argument in sys.argv[1:]]
        from recbole.utils import get_model
        print(get_model("GSERec").__module__, *(function.__name__ for function in functions))
    """
    printed = fresh_python(code, *(function.hex() for function in pickled))
    assert printed.split()[-6:] == ["recbole_gserec.models.gserec", *names]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_processes_of_a_run_end_when_it_is_interrupted(monkeypatch):
    children = []

    def train_in_processes():
        context = multiprocessing.get_context("fork")
        ready = context.Event()
        for work, arguments in ((time.sleep, (60,)), (_never_ends, (60, ready))):
            children.append(context.Process(target=work, args=arguments))
            children[-1].start()
        ready.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setitem(entry_points.STOCK, "run", train_in_processes)
    monkeypatch.setattr(entry_points, "_SECONDS_TO_END", 1)
    with pytest.raises(KeyboardInterrupt):
        entry_points.run()
    for child in children:
        child.join(10)
    assert [child.exitcode for child in children] == [-signal.SIGTERM, -signal.SIGKILL]


def _never_ends(seconds, ready):
    """As a process that waits for another in another language."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.set()
    time.sleep(seconds)


def test_the_log_ends_with_the_checkpoint_and_what_to_do_next(random_dataset, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    settings = {"data_path": "dataset", "epochs": 1, "show_progress": False}
    with caplog.at_level(logging.INFO), without_arguments():
        recbole.quick_start.run_recbole("BPR", "toy", config_dict=settings)
    last = caplog.records[-1].getMessage()
    (checkpoint,) = (tmp_path / "saved").glob("*.pth")
    assert last.splitlines()[0] == f"Checkpoint: {checkpoint}"
    assert f"gserec recommend --checkpoint saved/{checkpoint.name}" in last.replace("./", "")
    assert "gserec export" in last and "gserec analyze user" not in last
    assert "gserec analyze user USER --checkpoint 'a b.pth'" in entry_points.next_steps("a b.pth", "GSERec")


def test_several_processes_without_a_gpu_are_one_with_a_warning(monkeypatch, caplog):
    calls = []
    monkeypatch.setitem(entry_points.STOCK, "run", lambda *args, **kwargs: calls.append((args, kwargs)))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    entry_points.run("BPR", "toy", None, None, True, 2)
    entry_points.run("BPR", "toy", nproc=2, world_size=2)
    alone = {"nproc": 1, "world_size": -1}
    assert calls == [(("BPR", "toy", None, None, True), alone), (("BPR", "toy"), alone)]
    assert caplog.text.count("--nproc=2: PyTorch finds no GPU") == 2
    with pytest.raises(SettingError, match="--nproc=1: RecBole needs one GPU per process"):
        entry_points.run("BPR", "toy", nproc=1, world_size=2)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(SettingError, match="PyTorch finds 2. Use at most"):
        entry_points.run("BPR", "toy", nproc=3)
    entry_points.run("BPR", "toy", nproc=2)
    assert calls[-1] == (("BPR", "toy"), {"nproc": 2})
