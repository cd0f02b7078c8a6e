import errno
import hashlib
import os
import tempfile

import pytest

from recbole_gserec.files import (
    NO_ROOM,
    folder_written_aside,
    is_plain_name,
    sha256_of_file,
    sha256_of_known_file,
    written_aside,
)


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
def test_what_cannot_be_replaced_is_told_by_its_own_name(tmp_path, monkeypatch, write):
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


def test_a_path_is_no_plain_name():
    assert all(map(is_plain_name, ("ml-100k", "a.b", "...", "a_00001", "词")))
    assert not any(map(is_plain_name, ("", ".", "..", "/", "a/b", "/a", "../a", "a/", "a/.", "./a")))
