"""RecBole's entry points pass by this package, so that any process that unpickles one knows it."""

import multiprocessing
import pickle
import signal
import time

import pytest
import recbole.quick_start
import recbole.quick_start.quick_start as stock

from recbole_gserec import entry_points
from recbole_gserec.errors import CheckpointError


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
    monkeypatch.setattr(entry_points, "check_checkpoint", lambda path: calls.append(path))
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
    assert all(b"recbole_gserec.entry_points" in function for function in pickled)
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
