"""Checkpoints: loaded without running anything in them, complete or absent, equal to what was saved."""

import io
import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from recbole.config import Config
from recbole.quick_start import load_data_and_model
from recbole.trainer import Trainer
from recbole.utils import EvaluatorType, InputType, ModelType, get_trainer

from recbole_gserec.errors import CheckpointError
from recbole_gserec.files import stored
from recbole_gserec.models.gserec import GSERec
from recbole_gserec.plugin.checkpoint import (
    CheckpointConfig,
    PortableArray,
    PortableMatrix,
    check_checkpoint,
    restore_config,
)

SMALL = {"embedding_size": 8, "inner_size": 8, "mlp_hidden_size": [8], "train_batch_size": 256, "epochs": 2}


class Hostile:
    """Unpickling it creates the marker file."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


@pytest.fixture
def trained(random_dataset, make_model):
    """A trainer after two epochs, its config and its dataloaders."""

    def make(model="GSERec", **settings):
        built, config, _, loaders = make_model(model, **{**SMALL, **settings})
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, built)
        trainer.fit(*loaders[:2], verbose=False)
        return trainer, config, loaders

    return make


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "marker"


def assert_equal(first, second):
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for pair in zip(first, second, strict=True):
            assert_equal(*pair)
    else:
        assert first == second


# ---- saving and loading ---------------------------------------------------------------------------------------------


def test_content_is_what_recbole_saves_and_needs_no_code(trained):
    trainer, config, _ = trained()
    trainer._save_checkpoint(5, verbose=False)
    checkpoint = torch.load(trainer.saved_model_file, weights_only=True)
    assert set(checkpoint) == {
        *("config", "epoch", "cur_step", "best_valid_score", "state_dict", "other_parameter", "optimizer")
    }
    assert checkpoint["epoch"] == 5
    assert checkpoint["cur_step"] == trainer.cur_step
    assert checkpoint["best_valid_score"] == trainer.best_valid_score
    assert_equal(dict(checkpoint["state_dict"]), dict(trainer.model.state_dict()))
    assert_equal(checkpoint["optimizer"], trainer.optimizer.state_dict())
    assert isinstance(checkpoint["config"], Config)
    with zipfile.ZipFile(trainer.saved_model_file) as file:
        (pickled,) = [file.read(name) for name in file.namelist() if name.endswith("data.pkl")]
    assert b"recbole.config" not in pickled
    assert b"recbole_gserec.plugin.checkpoint\nrestore_config" in pickled


PARTS = (
    "final_config_dict",
    "external_config_dict",
    "internal_config_dict",
    "file_config_dict",
    "variable_config_dict",
)
CACHES = ("dataset_save_path", "dataloaders_save_path")


def test_config_comes_back_as_it_was(random_dataset, make_config, tmp_path):
    config = make_config(
        "GSERec",
        gpu_id=(0, 1),
        eval_args={"split": {"LS": "valid_and_test"}, "order": "TO", "mode": {"valid": "uni9", "test": "full"}},
        loss_decimal_place=None,
        clip_grad_norm={"max_norm": 5, "norm_type": 2.0},
    )
    config["pair"] = (1, "a", [2.5, None, {"deep": (True,)}])
    config["number"], config["text_number"] = np.float32(0.25), "12"
    torch.save({"config": CheckpointConfig(config)}, tmp_path / "config.pth")
    again = torch.load(tmp_path / "config.pth", weights_only=True)["config"]
    assert type(again) is Config
    assert (again.model, again.dataset, again.model_class) == ("GSERec", "toy", GSERec)
    for part in PARTS:
        assert_equal(
            {name: value for name, value in getattr(config, part).items() if name not in (*CACHES, "number")},
            {name: value for name, value in getattr(again, part).items() if name not in (*CACHES, "number")},
        )
    assert again["number"] == 0.25 and type(again["number"]) is float
    assert again["MODEL_TYPE"] is ModelType.SEQUENTIAL
    assert again["eval_type"] is EvaluatorType.RANKING
    assert again["MODEL_INPUT_TYPE"] is InputType.PAIRWISE
    assert again["device"] == torch.device("cpu")
    assert again["pair"] == (1, "a", [2.5, None, {"deep": (True,)}])
    assert again["lambda_u_cl"] == 0.1 and "embedding_size" in again and str(again) != ""
    assert again.parameters.keys() == config.parameters.keys()
    # The restored one can be saved in its turn.
    torch.save({"config": CheckpointConfig(again)}, tmp_path / "again.pth")
    assert_equal(
        torch.load(tmp_path / "again.pth", weights_only=True)["config"].final_config_dict, again.final_config_dict
    )


def test_a_device_that_is_not_there_becomes_the_cpu(monkeypatch, random_dataset, make_config, tmp_path):
    config = make_config("GSERec")
    config["device"] = torch.device("cuda", 1)
    torch.save(CheckpointConfig(config), tmp_path / "config.pth")
    for available, expected in ((False, "cpu"), (True, "cuda:1")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert torch.load(tmp_path / "config.pth", weights_only=True)["device"] == torch.device(expected)


@pytest.mark.parametrize("model", ["GSERec", "BPR"])
def test_loaded_data_and_model_give_the_same_metrics(trained, model):
    settings = {} if model == "GSERec" else {"mlp_hidden_size": None}
    trainer, _, loaders = trained(model, **settings)
    expected = trainer.evaluate(loaders[2], load_best_model=True)
    ranks = trainer.eval_collector.per_user_ranks()
    config, built, dataset, train, valid, test = load_data_and_model(trainer.saved_model_file)
    assert config["model"] == model
    assert dataset.item_num == loaders[0]._dataset.item_num
    assert torch.equal(test.candidates, loaders[2].candidates)
    assert torch.equal(valid.candidates, loaders[1].candidates)
    assert len(train) == len(loaders[0])
    again = get_trainer(config["MODEL_TYPE"], config["model"])(config, built)
    assert again.evaluate(test, load_best_model=False) == expected
    assert again.eval_collector.per_user_ranks().equals(ranks)


def test_resumed_training_goes_on_where_it_was(trained, make_model):
    trainer, _, _ = trained(epochs=2)
    trainer._save_checkpoint(1, verbose=False)
    saved = torch.load(trainer.saved_model_file, weights_only=True)
    model, config, _, loaders = make_model(**{**SMALL, "epochs": 3})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    resumed = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    resumed.resume_checkpoint(trainer.saved_model_file)
    assert resumed.start_epoch == 2
    assert (resumed.cur_step, resumed.best_valid_score) == (trainer.cur_step, trainer.best_valid_score)
    assert_equal(dict(model.state_dict()), dict(saved["state_dict"]))
    assert_equal(resumed.optimizer.state_dict(), saved["optimizer"])
    resumed.fit(*loaders[:2], verbose=False)
    assert list(resumed.train_loss_dict) == [2]


def test_interrupted_save_keeps_the_checkpoint_before(trained, monkeypatch):
    trainer, _, _ = trained(epochs=0)
    path = trainer.saved_model_file
    before = Path(path).read_bytes()
    folder = os.listdir(os.path.dirname(path))

    def half(state, file):
        file.write(before[:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(KeyboardInterrupt):
            trainer._save_checkpoint(9, verbose=False)
    assert Path(path).read_bytes() == before
    assert os.listdir(os.path.dirname(path)) == folder
    trainer._save_checkpoint(9, verbose=False)
    assert torch.load(path, weights_only=True)["epoch"] == 9
    assert os.listdir(os.path.dirname(path)) == folder


def test_another_file_can_be_named(trained, tmp_path):
    trainer, _, _ = trained(epochs=0)
    trainer._save_checkpoint(3, verbose=False, saved_model_file=str(tmp_path / "other" / "file.pth"))
    assert torch.load(tmp_path / "other" / "file.pth", weights_only=True)["epoch"] == 3


# ---- files that are no checkpoints, or hostile ones -----------------------------------------------------------------


@pytest.fixture
def readers(trained):
    """The ways to load a checkpoint."""
    trainer, _, loaders = trained(epochs=0)
    return trainer.saved_model_file, [
        check_checkpoint,
        load_data_and_model,
        trainer.resume_checkpoint,
        lambda path: trainer.evaluate(loaders[2], model_file=path),
    ]


def assert_refused(readers, path, match):
    for read in readers:
        with pytest.raises(CheckpointError, match=match) as raised:
            read(str(path))
        assert "\n" not in str(raised.value)
        assert str(path) in str(raised.value)


def repacked(path, target, change):
    """The checkpoint with its pickle changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name.endswith("data.pkl") else data)


def test_checkpoints_from_before_the_module_moved_are_loaded(readers, tmp_path):
    path, (check, load, *_) = readers
    old, present, earlier = tmp_path / "old.pth", b"recbole_gserec.plugin.checkpoint\n", b"recbole_gserec.checkpoint\n"
    repacked(path, old, lambda data: data.replace(present, earlier))
    with zipfile.ZipFile(old) as file:
        (name,) = (name for name in file.namelist() if name.endswith("data.pkl"))
        assert earlier in file.read(name) and present not in file.read(name)
    check(old)
    assert torch.equal(*(load(str(each))[1].item_embedding.weight for each in (path, old)))


def test_damaged_files_are_refused(readers, tmp_path, trained):
    path, ways = readers
    whole = Path(path).read_bytes()
    files = {
        "empty.pth": b"",
        "text.pth": b"model: GSERec\n",
        "half.pth": whole[: len(whole) // 2],
        "first-bytes.pth": whole[:10],
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert_refused(ways, tmp_path / name, "truncated or not a checkpoint")
    (tmp_path / "last-byte.pth").write_bytes(whole[:-1])
    assert_refused(ways, tmp_path / "last-byte.pth", "damaged: its checksum does not match. Train again, or restore")
    for missing in (tmp_path / "none.pth", tmp_path):
        os.utime(tmp_path / "half.pth", (2e9, 2e9))
        assert_refused(ways, missing, f"no such checkpoint. In {tmp_path} there is half.pth, ")
    torch.save({"state_dict": {}}, tmp_path / "weights.pth")
    assert_refused(ways, tmp_path / "weights.pth", "not a RecBole checkpoint")
    torch.save([1, 2], tmp_path / "list.pth")
    assert_refused(ways, tmp_path / "list.pth", "not a RecBole checkpoint")


def test_a_flipped_bit_is_refused_wherever_it_is(readers, tmp_path):
    path, ways = readers
    whole, generator = Path(path).read_bytes(), random.Random(0)
    for number in range(200):
        data = bytearray(whole)
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        (tmp_path / "changed.pth").write_bytes(data)
        # All ways are by the first; a few show it.
        assert_refused(ways if number < 3 else ways[:1], tmp_path / "changed.pth", "damaged: its checksum does not")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(readers, tmp_path, value):
    path, ways = readers
    state = torch.load(path, weights_only=True)
    state["config"] = CheckpointConfig(state["config"])
    weights = state["state_dict"]["user_embedding.weight"]
    weights[3, 4] = value
    stored.save_tensors(state, tmp_path / "bad.pth")
    assert_refused(ways, tmp_path / "bad.pth", "'user_embedding.weight' has NaN or infinite values .1.: ")
    weights[3, 4] = 0.0
    # What some of RecBole's models keep beside their weights.
    for kept in (sp.csr_matrix([[0.0, value]]), np.array([1.0, value]), torch.tensor([value])):
        others = {"kept": PortableMatrix(kept) if sp.issparse(kept) else kept}
        others = {"kept": PortableArray(kept)} if isinstance(kept, np.ndarray) else others
        stored.save_tensors({**state, "other_parameter": others}, tmp_path / "bad.pth")
        assert_refused(ways[:1], tmp_path / "bad.pth", "'kept' has NaN or infinite values .1.: ")
    # A mask that is added to scores, and what is no number by its kind.
    others = {
        "mask": torch.tensor([0.0, -torch.inf]),
        "count": torch.tensor([3]),
        "none": None,
        "empty": torch.zeros(0),
    }
    stored.save_tensors({**state, "other_parameter": others}, tmp_path / "good.pth")
    check_checkpoint(tmp_path / "good.pth")


def test_a_checkpoint_of_an_earlier_version_is_read(trained, tmp_path):
    """It has no checksum of its own, but those of its parts."""
    trainer, _, loaders = trained(epochs=1)
    expected = trainer.evaluate(loaders[2])
    state = torch.load(trainer.saved_model_file, weights_only=True)
    state["config"] = CheckpointConfig(state["config"])
    torch.save(state, tmp_path / "old.pth")
    assert trainer.evaluate(loaders[2], model_file=str(tmp_path / "old.pth")) == expected
    trainer.resume_checkpoint(str(tmp_path / "old.pth"))
    assert load_data_and_model(str(tmp_path / "old.pth"))[0]["model"] == "GSERec"
    data = bytearray((tmp_path / "old.pth").read_bytes())
    weights = state["state_dict"]["item_embedding.weight"].numpy().tobytes()
    data[data.index(weights) + len(weights) // 2] ^= 1
    (tmp_path / "old.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match="old.pth: damaged: 'old/data/.*' in it does not match its checksum"):
        check_checkpoint(tmp_path / "old.pth")


def test_weights_for_a_second_stage_are_compared_too(trained, make_config):
    """RecBole's models read those themselves, and its trainers write them in a way of their own."""
    settings = {"latent_dimension": 8, "train_neg_sample_args": None, "critic_layers": [8]}
    trainer, _, _ = trained("RaCT", **settings, train_stage="actor_pretrain", pretrain_epochs=1, save_step=1)
    path = str(Path(trainer.saved_model_file).with_name("RaCT-toy-1.pth"))
    state = torch.load(path, weights_only=True)
    assert state["config"]["train_stage"] == "actor_pretrain"
    trainer.model.load_state_dict(state["state_dict"])
    assert make_config("RaCT", pre_model_path=path)["pre_model_path"] == path
    torch.save({"state_dict": state["state_dict"]}, f"{path}-weights-alone.pth")
    make_config("RaCT", pre_model_path=f"{path}-weights-alone.pth")
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes(data)
    with pytest.raises(CheckpointError, match="RaCT-toy-1.pth: damaged: its checksum does not match"):
        make_config("RaCT", pre_model_path=path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_what_could_run_code_is_refused_and_does_not_run(readers, marker, tmp_path):
    path, ways = readers
    state = torch.load(path, weights_only=True)
    files = {}
    for protocol in (2, 4):
        for part in ("config", "state_dict", "optimizer", "extra"):
            files[f"{part}-{protocol}.pth"] = ({**state, part: Hostile(marker)}, protocol)
    files["bare.pth"] = (Hostile(marker), 2)
    files["recbole.pth"] = (state, 4)  # As RecBole writes its own.
    for name, (value, protocol) in files.items():
        torch.save(value, tmp_path / name, pickle_protocol=protocol)
        assert_refused(ways, tmp_path / name, "could run code")
    assert not marker.exists()
    # Without a zip archive around it.
    for name, data in {"raw.pth": pickle.dumps(Hostile(marker)), "raw2.pth": pickle.dumps(Hostile(marker), 2)}.items():
        (tmp_path / name).write_bytes(data)
        assert_refused(ways, tmp_path / name, "truncated or not a checkpoint|could run code")
    torch.save({**state, "config": Hostile(marker)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_refused(ways, tmp_path / "old.pth", "truncated or not a checkpoint|could run code")
    assert not marker.exists()
    pickle.loads(pickle.dumps(Hostile(marker))).close()
    assert marker.exists(), "the pickle must be one that would have done it"


def test_a_config_cannot_choose_caches_to_unpickle(trained, marker, tmp_path):
    trainer, config, loaders = trained(epochs=0)
    expected = trainer.evaluate(loaders[2], load_best_model=False)
    cache = tmp_path / "cache.pth"
    cache.write_bytes(pickle.dumps(Hostile(marker)))
    for name in CACHES:
        config[name] = str(cache)
    trainer._save_checkpoint(1, verbose=False)
    # The default names, which RecBole looks for without being told.
    for name in ("toy-CodedSearchDataset.pth", "toy-for-GSERec-dataloader.pth"):
        (tmp_path / "saved" / name).write_bytes(pickle.dumps(Hostile(marker)))
    loaded = load_data_and_model(trainer.saved_model_file)
    assert not marker.exists()
    again = get_trainer(loaded[0]["MODEL_TYPE"], loaded[0]["model"])(*loaded[:2])
    assert again.evaluate(loaded[5], load_best_model=False) == expected


def plain_config(config):
    """The plain data that stands for a config in a checkpoint."""
    _, (plain,) = CheckpointConfig(config).__reduce__()
    return plain


@pytest.fixture
def write_plain(trained, tmp_path):
    """Writes a checkpoint whose config is the given plain data."""
    trainer, config, _ = trained(epochs=0)
    state = torch.load(trainer.saved_model_file, weights_only=True)

    class Plain:
        def __init__(self, plain):
            self.plain = plain

        def __reduce__(self):
            return restore_config, (self.plain,)

    def write(change):
        plain = plain_config(config)
        plain = change(plain) or plain
        torch.save({**state, "config": Plain(plain)}, tmp_path / "plain.pth")
        return tmp_path / "plain.pth"

    return write


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.pop("final_config_dict") and None,
        lambda plain: plain.update(final_config_dict=[1]),
        lambda plain: plain.update(model="a.b/c"),
        lambda plain: plain.update(model=None),
        lambda plain: plain.update(model=5),
        lambda plain: plain.update(dataset="../../toy"),
        lambda plain: plain.update(dataset="/toy"),
        lambda plain: plain.update(dataset=None),
        lambda plain: plain["final_config_dict"].update(model="../x"),
        lambda plain: plain["final_config_dict"].update(MODEL_TYPE={"__enum__": ["ModelType", "NONE"]}),
        lambda plain: plain["final_config_dict"].update(MODEL_TYPE={"__enum__": ["os", "x"]}),
        lambda plain: plain["final_config_dict"].update(MODEL_TYPE={"__enum__": [1]}),
        lambda plain: plain["final_config_dict"].update(device={"__device__": "toaster"}),
        lambda plain: [1, 2],
    ],
)
def test_damaged_settings_are_refused(write_plain, change):
    path = write_plain(change)
    for read in (check_checkpoint, load_data_and_model):
        with pytest.raises(CheckpointError, match="damaged|truncated|not a checkpoint") as raised:
            read(str(path))
        assert "\n" not in str(raised.value)
        assert str(path) in str(raised.value)


def test_a_setting_that_recbole_would_evaluate_is_refused(write_plain, marker):
    """RecBole's KD_DAGFM passes its setting ``teacher`` to ``eval``."""

    def change(plain):
        plain["model"] = "KD_DAGFM"
        plain["final_config_dict"].update(
            model="KD_DAGFM",
            MODEL_TYPE={"__enum__": ["ModelType", "CONTEXT"]},
            teacher=f"open({str(marker)!r}, 'w')",
            phase="teacher_training",
            type="outer",
            depth=1,
            alpha=0.1,
            beta=1.0,
            embedding_size=4,
            t_depth=1,
        )

    with pytest.raises(CheckpointError, match="teacher"):
        load_data_and_model(str(write_plain(change)))
    assert not marker.exists()


def test_changed_bytes_never_do_worse_than_being_refused(readers, marker, tmp_path):
    path, _ = readers
    rng = random.Random(0)
    outcomes = {True: 0, False: 0}
    for _ in range(80):

        def change(data):
            data = bytearray(data)
            for _ in range(rng.randint(1, 3)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            return bytes(data)

        repacked(path, tmp_path / "changed.pth", change)
        try:
            check_checkpoint(tmp_path / "changed.pth")
            outcomes[True] += 1
        except CheckpointError:
            outcomes[False] += 1
    assert outcomes[False] > 20


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_stock_checkpoints_would_not_load_safely(trained):
    """What RecBole itself would have saved: the reason for writing it differently."""
    trainer, config, _ = trained(epochs=0)
    stream = io.BytesIO()
    torch.save({"config": config, "state_dict": trainer.model.state_dict()}, stream, pickle_protocol=4)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(io.BytesIO(stream.getvalue()), weights_only=True)


def test_trainers_of_recbole_save_like_ours(trained):
    trainer, _, loaders = trained("BPR", mlp_hidden_size=None)
    assert type(trainer) is Trainer
    assert torch.load(trainer.saved_model_file, weights_only=True)["config"]["model"] == "BPR"
    assert trainer.evaluate(loaders[2]) == trainer.evaluate(loaders[2], model_file=trainer.saved_model_file)


def test_a_login_in_the_address_of_a_server_is_in_no_checkpoint_and_no_log(random_dataset, make_config):
    address = "http://me:pa@zzw0rd@host:1/v1"
    config = make_config("GSERec", llm_base_url=address)
    assert "http://…@host:1/v1" in str(config) and "zzw0rd" not in str(config)
    assert "zzw0rd" not in repr(CheckpointConfig(config).__reduce__())
    assert config["llm_base_url"] == address
