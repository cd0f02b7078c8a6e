import shutil

import pytest

from recbole_gserec.preprocess.description import model_identity

MEBIBYTE = 1 << 20


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text('{"hidden_size": 4}')
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "weights.bin").write_bytes(bytes(3 * MEBIBYTE))
    return folder


def test_a_name_on_a_hub_is_its_own_identity():
    assert model_identity("BAAI/bge-m3") == {"model": "BAAI/bge-m3"}


def test_a_copy_elsewhere_is_the_same_model(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "model")
    assert model_identity(str(copy)) == model_identity(str(folder))
    assert model_identity(f"{folder}/../model") == model_identity(str(folder))
    assert str(tmp_path) not in str(model_identity(str(folder)))


def overwrite(path, position, content):
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "config.json").write_text('{"hidden_size": 5}'),
        lambda folder: (folder / "1_Pooling" / "config.json").write_text("[]"),
        lambda folder: (folder / "config.json").rename(folder / "configuration.json"),
        lambda folder: (folder / "more.txt").touch(),
        lambda folder: (folder / "1_Pooling" / "config.json").unlink(),
        lambda folder: overwrite(folder / "weights.bin", 0, b"1"),
        lambda folder: overwrite(folder / "weights.bin", MEBIBYTE - 1, b"1"),
        lambda folder: overwrite(folder / "weights.bin", 2 * MEBIBYTE, b"1"),
        lambda folder: overwrite(folder / "weights.bin", 3 * MEBIBYTE - 1, b"1"),
        lambda folder: overwrite(folder / "weights.bin", 3 * MEBIBYTE, bytes(1)),
    ],
)
def test_another_content_is_another_model(folder, change):
    before = model_identity(str(folder))
    change(folder)
    assert model_identity(str(folder))["content"] != before["content"]


@pytest.mark.parametrize("position", [MEBIBYTE, MEBIBYTE + MEBIBYTE // 2 - 1])
def test_a_file_of_less_than_two_edges_is_looked_at_whole(folder, position):
    (folder / "weights.bin").write_bytes(bytes(MEBIBYTE + MEBIBYTE // 2))
    before = model_identity(str(folder))
    overwrite(folder / "weights.bin", position, b"1")
    assert model_identity(str(folder)) != before


def test_hidden_files_are_not_the_models(folder):
    before = model_identity(str(folder))
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("x")
    (folder / ".gitattributes").write_text("x")
    assert model_identity(str(folder)) == before


def test_content_moved_between_files_shows(folder):
    (folder / "a.txt").write_text("one")
    (folder / "b.txt").write_text("two")
    before = model_identity(str(folder))
    (folder / "a.txt").write_text("two")
    (folder / "b.txt").write_text("one")
    assert model_identity(str(folder)) != before


def test_weights_that_differ_in_the_middle_alone_are_of_another_model(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        content = bytearray(5 << 20)
        content[len(content) // 2] = name == "other"
        (tmp_path / name / "model.safetensors").write_bytes(content)
    assert model_identity(str(tmp_path / "one")) != model_identity(str(tmp_path / "other"))
