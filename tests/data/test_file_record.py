"""The record of the files that a model was trained on."""

import pytest

from recbole_gserec.data.fingerprint import check_file_record, file_record
from recbole_gserec.errors import DataError
from recbole_gserec.files.writing import sha256_of_file


class Settings(dict):
    """RecBole's Config has None for what is not set."""

    def __missing__(self, name):
        return None


@pytest.fixture
def config(tmp_path):
    for suffix in ("inter", "search", "code", "item.vectors.parquet", "train.inter"):
        (tmp_path / f"d.{suffix}").write_text(f"{suffix}\n")
    return Settings(data_path=str(tmp_path), dataset="d")


def test_files_that_are_there_are_recorded(config, tmp_path):
    expected = {suffix: sha256_of_file(tmp_path / f"d.{suffix}") for suffix in ("inter", "search")}
    assert file_record(config) == expected
    # Codes are compared by the models themselves; vectors are recorded for models that read them, made or not.
    config["preprocess_missing_vectors"] = False
    assert list(file_record(config)) == ["inter", "search", "item.vectors.parquet"]
    config["benchmark_filename"] = ["train"]
    assert "train.inter" in file_record(config)


def test_a_file_of_the_same_size_is_read_again(config, tmp_path):
    before = file_record(config)
    path = tmp_path / "d.inter"
    path.write_text("retni\n")
    assert file_record(config)["inter"] != before["inter"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda folder: (folder / "d.search").write_text("other"),
            r"d\.search: not the file that m\.pth was trained on",
        ),
        (lambda folder: (folder / "d.search").unlink(), r"d\.search: file not found, but m\.pth was trained on it"),
        (lambda folder: (folder / "d.item").write_text("item"), r"d\.item: did not exist when m\.pth was trained"),
    ],
)
def test_other_files_are_refused(config, tmp_path, change, problem):
    record = file_record(config)
    check_file_record(record, config, "m.pth")
    change(tmp_path)
    with pytest.raises(DataError, match=problem):
        check_file_record(record, config, "m.pth")
