"""RecBole's pickles beside checkpoints are read by who asked for it and made them alone."""

import logging
import os
import pickle

import pytest
from recbole.data import create_dataset, data_preparation

from recbole_gserec.errors import DataError


@pytest.fixture(autouse=True)
def key_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "recbole-gserec" / "pickles.key"


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.usefixtures("random_dataset")
@pytest.mark.parametrize(
    ("model", "dataset_class"), [("GSERec", "CodedSearchDataset"), ("SASRec", "SequentialDataset")]
)
def test_a_pickle_that_lies_there_is_not_read(model, dataset_class, make_config, tmp_path, caplog):
    config = make_config(model, checkpoint_dir=str(tmp_path / "saved"))
    (tmp_path / "saved").mkdir()
    for name in (f"toy-{dataset_class}", f"toy-for-{model}-dataloader"):
        (tmp_path / "saved" / f"{name}.pth").write_bytes(pickle.dumps(Hostile(tmp_path / name)))
    dataset = create_dataset(config)
    with caplog.at_level(logging.WARNING):
        assert len(data_preparation(config, dataset)) == 3
    assert "Reading them can run code, so they are ignored: save_dataloaders is False" in caplog.text
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("toy-")] == []
    assert config["dataset_save_path"] is None and config["dataloaders_save_path"] is None


NAMES = {"dataset": "toy-CodedSearchDataset.pth", "dataloaders": "toy-for-GSERec-dataloader.pth"}


def data_of(config):
    return [len(part.dataset) for part in data_preparation(config, create_dataset(config))]


@pytest.fixture
def saving(make_config, random_dataset, tmp_path):
    """Settings that ask for what is saved, and the two files."""
    asked = {"checkpoint_dir": str(tmp_path / "saved"), "save_dataset": True, "save_dataloaders": True}
    files = {kind: tmp_path / "saved" / name for kind, name in NAMES.items()}
    return (lambda **given: make_config("GSERec", **{**asked, **given})), files


def loaded(caplog):
    return [
        kind
        for kind, words in (("dataset", "filtered dataset"), ("dataloaders", "split dataloaders"))
        if f"Load {words} from" in caplog.text
    ]


@pytest.mark.parametrize("kind", NAMES)
def test_a_foreign_pickle_is_not_read_and_made_anew(saving, kind, tmp_path, caplog):
    config, files = saving
    expected = data_of(config(save_dataset=False, save_dataloaders=False))
    # The key is there already, and the foreign file has the marks of a sealed one.
    data_of(config())
    seal = files[kind].read_bytes()[-59:]
    caplog.set_level(logging.INFO)
    for content in (pickle.dumps(Hostile(tmp_path / "made")), pickle.dumps(Hostile(tmp_path / "made")) + seal, b""):
        files[kind].write_bytes(content)
        caplog.clear()
        assert data_of(config()) == expected
        assert f"the pickled {kind} is not read" in caplog.text and "It is made again" in caplog.text
        assert kind not in loaded(caplog)
        assert not (tmp_path / "made").exists()
        caplog.clear()
        assert data_of(config()) == expected
        assert kind in loaded(caplog) and "not read" not in caplog.text


@pytest.mark.parametrize("kind", NAMES)
def test_a_changed_bit_and_a_lost_key_are_found(saving, kind, key_file, caplog):
    config, files = saving
    expected = data_of(config())
    content = bytearray(files[kind].read_bytes())
    content[len(content) // 2] ^= 1
    files[kind].write_bytes(content)
    assert data_of(config()) == expected
    assert f"the pickled {kind} is not read" in caplog.text
    key_file.write_bytes(os.urandom(32))
    caplog.clear()
    assert data_of(config()) == expected
    assert f"the pickled {kind} is not read" in caplog.text


@pytest.mark.parametrize("kind", NAMES)
def test_a_foreign_pickle_that_is_named_is_an_error(saving, kind, tmp_path):
    config, _ = saving
    (tmp_path / "foreign.pth").write_bytes(pickle.dumps(Hostile(tmp_path / "made")))
    with pytest.raises(DataError, match=f"foreign.pth: not read: .* Leave {kind}_save_path out"):
        data_of(config(**{f"{kind}_save_path": str(tmp_path / "foreign.pth")}))
    assert not (tmp_path / "made").exists()


def test_the_key_is_the_users_own(saving, key_file):
    config, _ = saving
    data_of(config())
    assert key_file.stat().st_mode & 0o077 == 0 and len(key_file.read_bytes()) == 32
    assert [path.name for path in key_file.parent.iterdir()] == [key_file.name]


def test_without_a_place_for_a_key_all_is_made_anew(saving, monkeypatch, caplog, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    config, _ = saving
    assert data_of(config()) == data_of(config())
    assert "cannot be read later" in caplog.text and "is not read" in caplog.text


@pytest.mark.usefixtures("random_dataset")
def test_a_sealed_pickle_is_one_that_recbole_reads(make_config, tmp_path):
    dataset = create_dataset(make_config("GSERec", checkpoint_dir=str(tmp_path), save_dataset=True))
    (file,) = tmp_path.glob("toy-*.pth")
    assert len(pickle.loads(file.read_bytes())) == len(dataset)


@pytest.mark.usefixtures("random_dataset")
def test_a_dataset_that_is_named_is_read(make_config, tmp_path, caplog):
    create_dataset(make_config("GSERec", checkpoint_dir=str(tmp_path), save_dataset=True))
    (file,) = tmp_path.glob("toy-*.pth")
    with caplog.at_level(logging.INFO):
        create_dataset(make_config("GSERec", dataset_save_path=str(file)))
    assert "Load filtered dataset from" in caplog.text
