import errno
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

import pytest

from recbole_gserec.files import writing
from recbole_gserec.files.writing import (
    NO_ROOM,
    folder_written_aside,
    is_plain_name,
    remove_abandoned,
    scratch_folder,
    sha256_of_file,
    sha256_of_known_file,
    written_aside,
)

needs_locks = pytest.mark.skipif(writing.fcntl is None, reason="needs locks of POSIX")
WRITERS = {"file": written_aside, "folder": folder_written_aside, "scratch": lambda path: scratch_folder(path.parent)}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_a_file_appears_when_it_is_complete(tmp_path, umask):
    path = tmp_path / "new" / "a.v2.csv"
    with written_aside(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert (temporary.parent, temporary.suffix) == (path.parent, ".csv")
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.v2.csv"]
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_file_leaves_the_old_one_and_nothing_else(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(error), written_aside(str(path)) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("number", sorted(NO_ROOM))
def test_no_room_tells_the_file(tmp_path, number):
    path = tmp_path / "a"
    with pytest.raises(OSError) as caught, written_aside(path):
        raise OSError(number, os.strerror(number))
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    with pytest.raises(OSError) as caught, folder_written_aside(path):
        raise OSError(number, os.strerror(number), str(path / "part"))
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert names(tmp_path) == []


def test_other_errors_keep_their_file(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, written_aside(tmp_path / "a"):
        (tmp_path / "b" / "c").read_text()
    assert caught.value.filename == str(tmp_path / "b" / "c")


@pytest.mark.parametrize("write", [written_aside, folder_written_aside])
def test_a_folder_that_takes_no_files_tells_the_file(tmp_path, monkeypatch, write):
    def refuse(**named):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / ".a-temporary"))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(PermissionError) as caught, write(tmp_path / "a"):
        pass
    assert caught.value.filename == str(tmp_path / "a")


@pytest.mark.parametrize("write", [written_aside, folder_written_aside])
def test_what_cannot_be_replaced_is_reported_by_its_own_name(tmp_path, monkeypatch, write):
    def refuse(source, target):
        raise PermissionError(errno.EACCES, "Permission denied", str(source))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError) as caught, write(tmp_path / "a"):
        pass
    assert caught.value.filename == str(tmp_path / "a")
    assert names(tmp_path) == []


def test_a_known_file_is_read_again_when_it_changes(tmp_path):
    path = tmp_path / "a"
    for content in ("one", "three"):
        path.write_text(content)
        for _ in range(2):
            assert sha256_of_known_file(path) == hashlib.sha256(content.encode()).hexdigest()


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "a"
    path.write_text("a longer old content")
    with written_aside(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_two_writers_do_not_share_a_temporary_file(tmp_path):
    path = tmp_path / "a"
    with written_aside(path) as first, written_aside(path) as second:
        first.write_text("first")
        second.write_text("second")
    # The outer block ends last.
    assert path.read_text() == "first"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_appears_when_it_is_complete(tmp_path, umask, exists):
    path = tmp_path / "new" / "d"
    if exists:
        path.mkdir(parents=True)
    with folder_written_aside(path) as temporary:
        (temporary / "a").write_text("1")
        assert not path.exists() or names(path) == []
    assert names(path) == ["a"]
    assert names(path.parent) == ["d"]
    assert path.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_folder_leaves_nothing(tmp_path, error):
    with pytest.raises(error), folder_written_aside(tmp_path / "d") as temporary:
        (temporary / "a").write_text("1")
        raise error
    assert names(tmp_path) == []


def test_of_two_folders_the_first_finished_is_kept(tmp_path):
    path = tmp_path / "d"
    with folder_written_aside(path) as temporary:
        (temporary / "mine").write_text("1")
        path.mkdir()
        (path / "theirs").write_text("2")
    assert names(path) == ["theirs"]
    assert names(tmp_path) == ["d"]


def test_a_file_in_the_folder_s_place_is_an_error(tmp_path):
    path = tmp_path / "d"
    path.write_text("a file")
    with pytest.raises(OSError), folder_written_aside(path) as temporary:
        (temporary / "a").write_text("1")
    assert path.read_text() == "a file"
    assert names(tmp_path) == ["d"]


def test_sha256(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc\r\n\x00" * 50_000)
    assert sha256_of_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_of_file(str(path)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_scratch_folder_is_empty_and_goes(tmp_path):
    with scratch_folder(tmp_path / "new" / "parent", "work") as folder:
        assert names(folder) == [] and folder.name == "work"
        (folder / "a").touch()
        assert len(names(tmp_path / "new" / "parent")) == 1
    assert names(tmp_path) == []


def test_a_scratch_folder_is_in_the_temporary_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder() as folder:
        assert tmp_path in folder.parents
    assert names(tmp_path) == []


def script_that_writes(folder, kind, then):
    """The command of a process that writes ``<folder>/a.csv``, and then does something before it is complete."""
    lines = f"""
        import os, pathlib, signal, sys, time
        from recbole_gserec.files import folder_written_aside, scratch_folder, written_aside
        path = pathlib.Path(sys.argv[1], "a.csv")
        scratch = lambda path: scratch_folder(path.parent)
        writers = dict(file=written_aside, folder=folder_written_aside, scratch=scratch)
        while True:
            with writers[{kind!r}](path) as temporary:
                (temporary / "part" if temporary.is_dir() else temporary).write_text("half")
                {then}
    """
    return [sys.executable, "-c", textwrap.dedent(lines), str(folder)]


@pytest.fixture
def killed(tmp_path):
    """Kills a process that writes something, and returns what it left."""

    def kill(kind):
        command = script_that_writes(tmp_path, kind, "os.kill(os.getpid(), signal.SIGKILL)")
        before = set(tmp_path.iterdir())
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        (left,) = set(tmp_path.iterdir()) - before
        return left

    return kill


@needs_locks
@pytest.mark.parametrize("kind", WRITERS)
def test_what_a_killed_process_left_goes_and_what_is_in_use_stays(tmp_path, killed, kind):
    left = killed(kind)
    assert left.name.startswith(".")
    with WRITERS[kind](tmp_path / "b.csv"):
        (in_use,) = tmp_path.iterdir()
        assert in_use != left
        with WRITERS[kind](tmp_path / "c.csv"):
            assert in_use in tmp_path.iterdir()
        remove_abandoned(tmp_path)
        assert in_use.exists()
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@needs_locks
def test_each_kind_is_removed_by_the_next_of_any_kind(tmp_path, killed):
    left = [killed(kind) for kind in ("scratch", "folder", "file")]
    # Each of them had removed what the one before left.
    assert list(tmp_path.iterdir()) == left[-1:]
    with scratch_folder(tmp_path):
        assert left[-1] not in tmp_path.iterdir()


@needs_locks
@pytest.mark.parametrize("kind", WRITERS)
def test_two_at_once_of_which_one_is_killed(tmp_path, kind):
    """Killed at any moment, also between making and locking; what the other writes is never taken away."""
    writer = subprocess.Popen(script_that_writes(tmp_path, kind, "time.sleep(0.001)"))
    deadline = time.monotonic() + 30
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        for _ in range(3):
            other = subprocess.Popen(script_that_writes(tmp_path, kind, "pass"))
            time.sleep(random.uniform(0.1, 0.3))
            other.kill()
            assert other.wait() == -signal.SIGKILL
        # A writer whose file another has taken away fails at its renaming.
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()
    remove_abandoned(tmp_path)
    assert set(names(tmp_path)) <= {"a.csv"}


@needs_locks
@pytest.mark.parametrize(
    "name",
    [".a-abcd1234.csv", ".a-unfinished-abc", ".a-unfinished-ABCD1234", "a-unfinished-abcd1234", ".unfinished-abcd1234"],
)
def test_files_of_other_names_are_left_alone(tmp_path, name):
    (tmp_path / name).touch()
    with scratch_folder(tmp_path), written_aside(tmp_path / "b"):
        pass
    assert name in names(tmp_path)


@needs_locks
def test_nothing_is_followed_out_of_the_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "in-use").touch()
    (tmp_path / "file").write_text("mine")
    here = tmp_path / "here"
    here.mkdir()
    (here / ".a-unfinished-abcd1234").symlink_to(tmp_path / "mine")
    (here / ".b-unfinished-abcd1234").symlink_to(tmp_path / "file")
    (here / ".c-unfinished-abcd1234").mkdir()
    (here / ".c-unfinished-abcd1234" / "in-use").symlink_to(tmp_path / "file")
    # A folder without a lock is not one of ours, unless it is empty.
    (here / ".d-unfinished-abcd1234").mkdir()
    (here / ".d-unfinished-abcd1234" / "a").touch()
    remove_abandoned(here)
    assert (tmp_path / "mine" / "in-use").exists() and (tmp_path / "file").read_text() == "mine"
    assert len(names(here)) == 4


@needs_locks
def test_without_locks_nothing_is_removed(tmp_path, monkeypatch, killed):
    left = killed("scratch")

    def no_locks(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    with monkeypatch.context() as context:
        context.setattr(writing.fcntl, "flock", no_locks)
        with scratch_folder(tmp_path) as folder:
            assert folder.is_dir()
        with written_aside(tmp_path / "a"):
            pass
    with monkeypatch.context() as context:
        context.setattr(writing, "fcntl", None)
        with scratch_folder(tmp_path), written_aside(tmp_path / "a"):
            pass
    assert left.exists() and names(tmp_path) == [left.name, "a"]
    with scratch_folder(tmp_path):
        assert not left.exists()


@needs_locks
@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_taken_before_it_is_locked_is_made_again(tmp_path, monkeypatch, kind):
    """Another process may look between the making and the locking, or between lock and look."""
    made = {name: getattr(tempfile, name) for name in ("mkstemp", "mkdtemp")}
    acquire, taken = writing._acquire, []

    def take(path):
        taken.append(path)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    def taken_when_new(name):
        def make(**options):
            result = made[name](**options)
            if not taken:
                take(result[1] if name == "mkstemp" else result)
            return result

        return make

    def taken_when_locked(lock):
        for path in tmp_path.iterdir() if len(taken) == 1 else []:
            take(path)
        return acquire(lock)

    for name in made:
        monkeypatch.setattr(tempfile, name, taken_when_new(name))
    monkeypatch.setattr(writing, "_acquire", taken_when_locked)
    with WRITERS[kind](tmp_path / "a.csv") as temporary:
        assert len(taken) == 2 and len(names(tmp_path)) == 1 and temporary.exists()


def test_a_path_is_no_plain_name():
    assert all(map(is_plain_name, ("ml-100k", "a.b", "...", "a_00001", "词")))
    assert not any(map(is_plain_name, ("", ".", "..", "/", "a/b", "/a", "../a", "a/", "a/.", "./a")))
