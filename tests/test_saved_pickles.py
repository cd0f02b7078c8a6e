"""RecBole's pickles beside checkpoints are read by who asked for it alone."""

import logging
import os
import pickle

import pytest
from recbole.data import create_dataset, data_preparation


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
    assert "can run code when they are read. They are not read: save_dataloaders is False" in caplog.text
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("toy-")] == []
    assert config["dataset_save_path"] is None and config["dataloaders_save_path"] is None

    # The files would have been found: asked for, they are read.
    config["save_dataset"] = True
    with pytest.raises(AttributeError):
        create_dataset(config)
    assert (tmp_path / f"toy-{dataset_class}").is_dir()


@pytest.mark.usefixtures("random_dataset")
def test_a_dataset_that_is_named_is_read(make_config, tmp_path, caplog):
    create_dataset(make_config("GSERec", checkpoint_dir=str(tmp_path), save_dataset=True))
    (file,) = tmp_path.glob("toy-*.pth")
    with caplog.at_level(logging.INFO):
        create_dataset(make_config("GSERec", dataset_save_path=str(file)))
    assert "Load filtered dataset from" in caplog.text
