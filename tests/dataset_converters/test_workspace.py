"""The temporary database: its limits, what its errors say, and that nothing of it stays."""

from __future__ import annotations

import errno
import os
import signal
import threading

import duckdb
import pytest

from dataset_converters.workspace import count, run, workspace
from recbole_gserec.errors import DataError, SettingError

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


def test_tables_live_in_a_folder_that_goes(tmp_path):
    with workspace(tmp_path / "new" / "dataset", "200MB", 1) as connection:
        (folder,) = (tmp_path / "new" / "dataset").iterdir()
        assert folder.name.startswith(".converting-") and list(folder.rglob("workspace.duckdb"))
        run(connection, "CREATE TABLE numbers AS SELECT range AS x FROM range(?)", [10], label="Counting")
        assert count(connection, "SELECT sum(x) FROM numbers WHERE x < ?", [4]) == 6
        settings = connection.execute(
            "SELECT current_setting('threads'), current_setting('memory_limit'), current_setting('TimeZone')"
        ).fetchall()
        assert settings == [(1, "190.7 MiB", "UTC")]
    assert list(tmp_path.iterdir()) == []


def test_folders_that_were_there_stay(tmp_path):
    with pytest.raises(ZeroDivisionError), workspace(tmp_path / "a" / "b"):
        (tmp_path / "a" / "kept.txt").touch()
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "kept.txt"]
    (tmp_path / "empty").mkdir()
    with workspace(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize("memory", ["", "2", "lots", "-1", "-5GB", "0GB", "0.0MB", "1e9GB", "2 G"])
def test_memory_that_makes_no_sense(tmp_path, memory):
    with pytest.raises(SettingError, match=f"memory '{memory}'") as caught, workspace(tmp_path / "new", memory):
        pytest.fail("made")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("memory", ["300MB", "0.5 GiB", "1gb", "50%", " 1TB "])
def test_memory_that_does(tmp_path, memory):
    with workspace(tmp_path, memory, 1) as connection:
        assert count(connection, "SELECT 1") == 1


# A million threads would abort the whole process.
@pytest.mark.parametrize("threads", [0, -1, 1025, 10**6, 10**30])
def test_threads_that_make_no_sense(tmp_path, threads):
    with pytest.raises(SettingError, match=f"threads {threads} is invalid"), workspace(tmp_path, threads=threads):
        pytest.fail("made")


def test_too_little_memory_is_said(tmp_path):
    with (
        pytest.raises(DataError, match="the memory of 20MB is not enough. Increase --memory"),
        workspace(tmp_path, "20MB", 1) as connection,
    ):
        connection.execute("SELECT list(md5(range::VARCHAR)) FROM range(2000000)").fetchall()
    assert list(tmp_path.iterdir()) == []


def test_what_exceeds_the_memory_goes_to_the_disk(tmp_path):
    with workspace(tmp_path, "50MB", 1) as connection:
        connection.execute("CREATE TABLE x AS SELECT md5(range::VARCHAR) AS h FROM range(1000000) ORDER BY h")
        assert count(connection, "SELECT count(*) FROM x") == 1_000_000


def test_a_full_disk_is_said(tmp_path):
    with pytest.raises(DataError, match="the disk is full"), workspace(tmp_path, "50MB", 1) as connection:
        # As DuckDB sees it: no room for what exceeds the memory.
        connection.execute("SET max_temp_directory_size = '1MB'")
        connection.execute("CREATE TABLE x AS SELECT md5(range::VARCHAR) AS h FROM range(1500000) ORDER BY h")
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_cannot_grow_is_said(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with (
            pytest.raises(DataError, match=r"the conversion cannot read or write \(.*File too large\)"),
            workspace(tmp_path / "dataset", "50MB", 1) as connection,
        ):
            resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, limits[1]))
            connection.execute("CREATE TABLE x AS SELECT md5(range::VARCHAR) AS h FROM range(1500000) ORDER BY h")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "where", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), None, "(No space left on device)"),
        (PermissionError(errno.EACCES, "Permission denied", "raw/log.csv"), "raw/log.csv", "(Permission denied)"),
        (duckdb.IOException("IO Error: Could not read from file\nmore"), None, "(IO Error: Could not read from file)"),
        (
            duckdb.TransactionException("TransactionContext Error: Could not write file: No space left on device"),
            None,
            "(TransactionContext Error: Could not write file: No space left on device)",
        ),
    ],
)
def test_errors_of_the_system_are_one_line(tmp_path, error, where, reason):
    with pytest.raises(DataError) as caught, workspace(tmp_path):
        raise error
    assert str(caught.value).startswith(f"{where or tmp_path}: the conversion cannot read or write {reason}. ")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError("a defect"), duckdb.BinderException("a defect"), KeyboardInterrupt()])
def test_other_errors_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error)) as raised, workspace(tmp_path):
        raise error
    assert raised.value is error
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "dataset"):
        with pytest.raises(DataError, match="the conversion cannot read or write"), workspace(folder):
            pytest.fail("made")
    assert (tmp_path / "file").read_text() == "mine"


@needs_signals
def test_an_interrupt_stops_a_statement(tmp_path):
    # Where the tests run in the background, an interrupt would be ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), workspace(tmp_path / "dataset", threads=1) as connection:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            run(connection, "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b")
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(tmp_path.iterdir()) == []
