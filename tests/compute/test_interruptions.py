"""Commands that are interrupted: a line, a status, nothing left running."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import recbole_gserec
from recbole_gserec.runs.plan import Entry
from recbole_gserec.runs.prepare import prepare_all

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")

# The module alone, without the package, whose import takes seconds. A process that was started in the background may
# ignore SIGINT.
PREAMBLE = f"""
import importlib.util, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
path = {str(Path(recbole_gserec.__file__).with_name("compute") / "interruptions.py")!r}
spec = importlib.util.spec_from_file_location("recbole_gserec.compute.interruptions", path)
interruptions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(interruptions)
def ready():
    print("ready", flush=True)
"""

WORK = """
with interruptions.heeded(lambda: "work is kept"):
    try:
        ready()
        time.sleep(30)
    finally:
        ready()
        time.sleep(0.5)
        print("clean", flush=True)
"""


def start(code, **options):
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def end(process):
    output, error = process.communicate(timeout=60)
    return process.returncode, output, error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cleans_up_and_says_a_line(number):
    process = start(WORK)
    process.stdout.readline()
    process.send_signal(number)
    assert end(process) == (128 + number, "ready\nclean\n", "interrupted; work is kept\n")


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_signals_while_it_cleans_up_stop_nothing(second):
    process = start(WORK)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.stdout.readline()
    for _ in range(3):
        process.send_signal(second)
        time.sleep(0.02)
    assert end(process) == (130, "clean\n", "interrupted; work is kept\n")


def test_where_cleaning_up_hangs_another_signal_ends_it():
    process = start("interruptions._SECONDS_TO_CLEAN_UP = 0.1\n" + WORK.replace("sleep(0.5)", "sleep(30)"))
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert end(process) == (143, "", "interrupted again: ended at once\n")


@pytest.mark.parametrize("ending", ["raise OSError('gone')", "sys.exit(2)"])
def test_an_error_while_it_cleans_up_is_no_traceback(ending):
    process = start(WORK.replace('print("clean", flush=True)', ending))
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "ready\n", "interrupted; work is kept\n")


def test_errors_and_other_endings_are_left_alone():
    assert end(start("with interruptions.heeded(lambda: ''):\n    sys.exit(3)"))[0] == 3
    status, _, error = end(start("with interruptions.heeded(lambda: ''):\n    raise ValueError('a defect')"))
    assert status == 1 and "ValueError: a defect" in error


def test_what_is_ignored_stays_ignored():
    """As after ``nohup``, or in a shell's background."""
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    process = start(ignored + WORK.replace("sleep(30)", "sleep(0.5)"))
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    assert end(process) == (0, "ready\nclean\n", "")


def test_handlers_of_a_users_program_are_back_afterwards():
    code = """
def own(*_): ...
signal.signal(signal.SIGTERM, own)
before = [signal.getsignal(number) for number in interruptions._SIGNALS]
with interruptions.heeded(lambda: ""):
    assert signal.getsignal(signal.SIGTERM) is own and interruptions.is_heeded(signal.SIGINT)
assert [signal.getsignal(number) for number in interruptions._SIGNALS] == before
interruptions.heed_while_importing()
assert [signal.getsignal(number) for number in interruptions._SIGNALS] == before
"""
    assert end(start(code)) == (0, "", "")


def test_signals_that_a_library_takes_are_taken_back_in_commands_only():
    code = """
def take():
    with interruptions.kept():
        signal.signal(signal.SIGTERM, lambda *_: None)
    return interruptions.is_heeded(signal.SIGTERM)
assert not take()
signal.signal(signal.SIGTERM, signal.SIG_DFL)
with interruptions.heeded(lambda: ""):
    assert take()
"""
    assert end(start(code)) == (0, "", "")


def test_forked_processes_end_as_they_would_without():
    code = """
with interruptions.heeded(lambda: "never said"):
    child = os.fork()
    if not child:
        ready()
        time.sleep(30)
    time.sleep(0.3)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert end(start(code)) == (0, "ready\n-15\n", "")


def test_a_process_ends_with_the_one_that_started_it():
    code = """
if sys.argv[1:]:
    interruptions.heed_while_importing()
    ready()
    time.sleep(60)
import subprocess
environment = {**os.environ, interruptions.PARENT: str(os.getpid())}
child = subprocess.Popen([sys.executable, "-c", CODE, "child"], env=environment)
print(child.pid, flush=True)
time.sleep(60)
"""
    process = start(f"CODE = {PREAMBLE + code!r}\n{code}")
    child = psutil.Process(int(process.stdout.readline()))
    assert process.stdout.readline() == "ready\n"
    process.kill()
    assert not psutil.wait_procs([child], timeout=10)[1]
    process.communicate()


# ---- the commands themselves ----------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, write_files, random_rows):
    """Starts ``gserec`` in a folder with a dataset without codes; ``tmp`` is its folder for temporary files."""
    write_files(tmp_path / "dataset", "toy", **{name: rows for name, rows in random_rows.items() if name != "code"})
    (tmp_path / "tmp").mkdir()
    path = os.pathsep.join([*(entry or os.getcwd() for entry in sys.path)])

    def run(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "recbole_gserec.cli.main", *arguments],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "TMPDIR": str(tmp_path / "tmp")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    return run


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_interrupted_while_it_is_imported(command):
    process = command("benchmark", "--dataset=toy", "--model=BPR")

    def is_heeded():
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (signal.SIGTERM - 1) & 1

    while not is_heeded():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert end(process) == (143, "", "interrupted before it began\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_benchmark_ended_while_it_makes_codes_leaves_nothing_behind(command, tmp_path, number, monkeypatch):
    process = command("benchmark", "--dataset=toy", "--model=GSERec", "--rq_epochs=1000000", "--codebook_size=8")
    error = ""
    while "Training the RQ-VAE" not in error:
        line = process.stderr.readline()
        assert line, error
        error += line
    (child,) = psutil.Process(process.pid).children()
    process.send_signal(number)
    status, _, rest = end(process)
    assert not psutil.wait_procs([child], timeout=10)[1]
    assert not (tmp_path / "dataset" / "toy" / "toy.code").exists()
    if number == signal.SIGTERM:
        assert status == 143 and rest.endswith("interrupted; finished runs are kept. Repeat the command to resume\n")
        assert "Traceback" not in rest
    else:
        assert len(list((tmp_path / "tmp").iterdir())) == 1
        # The next of its kind.
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
        prepare_all([Entry("toy", "BPR", {}, {})], tmp_path / "dataset")
    assert not list((tmp_path / "tmp").iterdir())
