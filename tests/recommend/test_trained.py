"""Loading a model with its dataset, and what is refused."""

import shutil

import pytest
import torch

from recbole_gserec.errors import CheckpointError, DataError, SettingError
from recbole_gserec.plugin.checkpoint import CheckpointConfig
from recbole_gserec.recommend.recommender import Recommender
from recbole_gserec.recommend.trained import load_trained
from tests.conftest import random_files, write_dataset
from tests.recommend.stored_models import by_user, store_model


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "dataset", "toy", **random_files())


@pytest.mark.parametrize("model", ["GSERec", "SASRec", "LightGCN", "ItemKNN", "MultiVAE", "BERT4Rec"])
def test_the_model_is_the_one_that_was_saved(data, model):
    checkpoint = store_model(data, model)
    trained = load_trained(checkpoint)
    assert not trained.model.training
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    loaded = trained.model.state_dict()
    assert list(saved) == list(loaded)
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)


@pytest.mark.parametrize("model", ["ItemKNN", "MultiVAE", "BERT4Rec", "FPMC", "Caser", "EASE", "Pop", "DIEN", "NPE"])
def test_other_models_of_recbole_can_be_asked(data, model):
    """Models with parameters beside their weights, another loader, a transform, or a history of fixed width."""
    trained = load_trained(store_model(data, model))
    recommender = Recommender(trained)
    found = by_user(recommender.recommend(recommender.choose().users, 5, batch_size=7))
    assert len(found) == 40
    assert all(len(entries) == 5 for entries in found.values())


def test_values_beside_the_weights_are_restored(data):
    """Pop has nothing but its counts."""
    checkpoint = store_model(data, "Pop")
    counts = torch.load(checkpoint, weights_only=True)["other_parameter"]["item_cnt"].squeeze(1)
    assert len(counts.unique()) > 1
    trained = load_trained(checkpoint)
    recommender = Recommender(trained, exclude_seen=False)
    found = by_user(recommender.recommend(recommender.choose(["u1"]).users, 200))["u1"]
    ids = trained.dataset.field2token_id["item_id"]
    for item, score in found:
        assert score == pytest.approx(float(counts[ids[item]] / counts.max()))
    assert found == sorted(found, key=lambda entry: (-entry[1], ids[entry[0]]))


def test_the_dataset_may_have_moved(data, tmp_path):
    checkpoint = store_model(data)
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(data, tmp_path / "elsewhere" / "data")
    with pytest.raises(DataError, match=r"dataset/toy: no such dataset; .*GSERec.*pth was trained on it.*--data-path"):
        load_trained(checkpoint)
    assert load_trained(checkpoint, moved).dataset.user_num == 42


@pytest.mark.parametrize("model", ["GSERec", "SASRec"])
@pytest.mark.parametrize("suffix", ["inter", "search", "item"])
def test_a_changed_dataset_is_refused(data, model, suffix):
    checkpoint = store_model(data, model)
    path = data / "toy" / f"toy.{suffix}"
    last = path.read_text().splitlines()[-1]
    with open(path, "a") as file:
        file.write(last.replace("i", "i9", 1) + "\n" if suffix == "item" else last + "\n")
    with pytest.raises(DataError, match=rf"toy\.{suffix}: not the file that .*{model}.*was trained on") as raised:
        load_trained(checkpoint)
    option = {"inter": "--new-interactions FILE", "search": "--new-searches FILE"}.get(suffix)
    assert ("without training again" in str(raised.value)) == (option is not None)
    assert (option or "Restore the old files, or train again") in str(raised.value)


def test_a_lost_file_is_refused(data):
    checkpoint = store_model(data, "SASRec")
    (data / "toy" / "toy.query").unlink()
    with pytest.raises(DataError, match=r"toy\.query: file not found, but .* was trained on it"):
        load_trained(checkpoint)


def test_another_dataset_of_the_same_name_is_refused(data, tmp_path):
    checkpoint = store_model(data)
    other = write_dataset(tmp_path / "other", "toy", **random_files(seed=1, n_users=30))
    with pytest.raises(DataError, match=r"other/toy/toy\.inter: not the file that"):
        load_trained(checkpoint, other)


def save_without(checkpoint, *names):
    """Make a checkpoint one of an earlier version."""
    state = torch.load(checkpoint, weights_only=True)
    restore, (plain,) = CheckpointConfig(state["config"]).__reduce__()
    for name in names:
        del plain[name]

    class Old:
        def __reduce__(self):
            return restore, (plain,)

    torch.save({**state, "config": Old()}, checkpoint)


def test_without_a_record_of_files_sizes_are_compared(data, tmp_path, caplog):
    checkpoint = store_model(data, "SASRec")
    save_without(checkpoint, "dataset_files", "reading")
    assert load_trained(checkpoint).dataset.user_num == 41
    assert "does not record its training files" in caplog.text
    other = write_dataset(tmp_path / "other", "toy", **random_files(seed=1, n_items=80))
    with pytest.raises(
        CheckpointError, match=r"does not fit the dataset in .*other/toy .*it was trained on other data"
    ):
        load_trained(checkpoint, other)


def test_ids_of_an_earlier_reading_of_side_files_are_not_trusted(data):
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]}
    checkpoint = store_model(data, "BPR", load_col=columns)
    assert load_trained(checkpoint).dataset.item_feat is not None
    save_without(checkpoint, "reading")
    with pytest.raises(
        CheckpointError, match=r"saved by an earlier version that read \.item differently, .*Train again$"
    ):
        load_trained(checkpoint)


def test_other_codes_are_refused(data):
    checkpoint = store_model(data)
    files = random_files()
    files["code"][0] = (files["code"][0][0], files["code"][1][1], files["code"][0][2])
    write_dataset(data, "toy", code=files["code"])
    with pytest.raises(CheckpointError, match=r"GSERec-toy-0\.pth: .*trained with other codes"):
        load_trained(checkpoint)


def test_missing_codes_are_not_made(data):
    checkpoint = store_model(data)
    (data / "toy" / "toy.code").unlink()
    with pytest.raises(DataError, match=r"toy\.code: file not found. Make it: gserec preprocess"):
        load_trained(checkpoint)
    assert not (data / "toy" / "toy.code").exists()


def test_a_truncated_checkpoint_is_refused(data):
    checkpoint = store_model(data, "SASRec")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="truncated or not a checkpoint"):
        load_trained(checkpoint)


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_trained(tmp_path / "none.pth")


def test_a_checkpoint_without_settings_is_refused(tmp_path):
    torch.save({"config": {"model": "GSERec"}, "state_dict": {}}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="has no settings"):
        load_trained(tmp_path / "odd.pth")


def test_a_model_that_nobody_knows_is_refused(data):
    checkpoint = store_model(data, "SASRec")
    state = torch.load(checkpoint, weights_only=True)
    config = state["config"]
    config.model = "Mine"
    config.final_config_dict["model"] = "Mine"
    torch.save({**state, "config": CheckpointConfig(config)}, checkpoint)
    with pytest.raises(SettingError, match="a checkpoint of 'Mine', which neither RecBole nor this package includes"):
        load_trained(checkpoint)


def test_propagated_vectors_are_made_of_the_weights(data):
    """LightGCN saves those of its last evaluation."""
    checkpoint = store_model(data, "LightGCN")
    state = torch.load(checkpoint, weights_only=True)
    assert list(state["other_parameter"]) == ["restore_user_e", "restore_item_e"]
    expected = Recommender(load_trained(checkpoint))
    expected = by_user(expected.recommend(expected.choose().users, 3))
    stale = {"restore_user_e": torch.ones(41, 8), "restore_item_e": torch.ones(148, 8)}
    torch.save({**state, "config": CheckpointConfig(state["config"]), "other_parameter": stale}, checkpoint)
    found = Recommender(load_trained(checkpoint))
    assert by_user(found.recommend(found.choose().users, 3)) == expected


def test_histories_from_files_split_beforehand_are_refused(data):
    checkpoint = store_model(data, "SASRec")
    state = torch.load(checkpoint, weights_only=True)
    state["config"]["benchmark_filename"] = ["train", "valid", "test"]
    torch.save({**state, "config": CheckpointConfig(state["config"])}, checkpoint)
    with pytest.raises(SettingError, match="split into files beforehand"):
        load_trained(checkpoint)
