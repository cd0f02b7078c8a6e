"""What made a run."""

import subprocess

import numpy as np
import psutil
import pytest

from recbole_gserec.runs.record import git_state, peak_memory_bytes, provenance

UNKNOWN = {"commit": None, "dirty": None, "changes": None}


@pytest.fixture
def git(tmp_path):
    """Runs git in a new repository."""

    def run(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        run("init", "-q")
    except OSError:
        pytest.skip("needs git")
    return run


def test_the_commit_and_whether_files_differ_from_it(git, tmp_path):
    file, other = tmp_path / "code.py", tmp_path / "other.py"
    file.write_text("1\n")
    other.write_text("1\n")
    assert git_state(file) == UNKNOWN
    git("add", ".")
    git("commit", "-qm", "first")
    clean = {"commit": git("rev-parse", "HEAD"), "dirty": False, "changes": None}
    assert git_state(file) == clean
    (tmp_path / "notes.txt").write_text("not tracked\n")
    assert git_state(file) == clean
    states = []
    # Whatever encoding it is in.
    for content in (b"2\n", b"caf\xe9\n"):
        other.write_bytes(content)
        states.append(git_state(file))
        assert states[-1]["dirty"] and states[-1]["commit"] == clean["commit"]
    assert states[0]["changes"] != states[1]["changes"]
    other.write_text("2\n")
    assert git_state(file) == states[0]


def test_what_is_installed_inside_a_repository_is_not_part_of_it(git, tmp_path):
    (tmp_path / "own.py").write_text("1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    installed = tmp_path / "site-packages" / "code.py"
    installed.parent.mkdir()
    installed.write_text("1\n")
    assert git_state(installed) == UNKNOWN


def test_without_git_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path / "code.py") == UNKNOWN


def test_versions_and_machine():
    recorded = provenance()
    assert recorded["versions"]["numpy"] == np.__version__
    assert recorded["machine"]["memory_bytes"] == psutil.virtual_memory().total and recorded["machine"]["cpu"]


SLACK = 1 << 20  # The kernel counts by the batch.


def test_peak_memory_is_no_less_than_what_is_held():
    held = np.ones(20_000_000)
    before = psutil.Process().memory_info().rss
    assert before > held.nbytes
    assert peak_memory_bytes() >= before - SLACK
    del held
    assert peak_memory_bytes() >= before - SLACK
