"""What is wrong with a run is told before its settings are, in one line, with the way out."""

import ast
import logging

import pytest
from recbole.config import Config

from recbole_gserec.errors import DataError, GSERecError, SettingError
from recbole_gserec.settings.config import without_arguments
from recbole_gserec.settings.run_checks import begin_run, check_run, check_writable

ITEMS = "item_id:token\ttitle:token_seq\tgenre:token\ni0\tred shoe\ta\n"


@pytest.fixture
def with_items(random_dataset):
    """The random dataset, with a column ``genre`` in ``.item``."""
    (random_dataset / "toy" / "toy.item").write_text(ITEMS)
    return random_dataset


def refusal(config) -> str:
    with pytest.raises(GSERecError) as raised:
        check_run(config)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("model", ["GSERec", "NRHUB", "SimGCL", "BPR", "SASRec", "FM", "Pop"])
def test_a_run_that_can_be_made_passes(random_dataset, make_config, model):
    check_run(make_config(model))


@pytest.mark.parametrize("model", ["GSERec", "BPR", "SASRec", "FM"])
def test_settings_of_other_models_name_nothing_that_has_to_be_there(random_dataset, make_config, model):
    others = {"selected_features": ["genre"], "item_attribute": "genre", "train_stage": "pretrain"}
    check_run(make_config(model, **others, pretrain_epochs=3, save_step=10))


@pytest.mark.parametrize("model", ["GSERec", "BPR", "SASRec"])
def test_a_missing_dataset_is_reported_with_its_place_and_a_near_name(random_dataset, make_config, model):
    assert refusal(make_config(model, "toyy")) == f"{random_dataset}/toyy: no such dataset. Did you mean 'toy'?"
    assert "Put its files there" in refusal(make_config(model, "elephants"))
    nowhere = refusal(make_config(model, data_path="nowhere"))
    assert nowhere.startswith(f"{random_dataset.parent}/nowhere: no such folder, so there is no dataset 'toy'")


def test_a_folder_without_interactions(random_dataset, make_config):
    (random_dataset / "empty").mkdir()
    assert "empty/empty.inter: file not found. Put its files there" in refusal(make_config("BPR", "empty"))
    (random_dataset / "empty" / "other.inter").write_text("x")
    assert "There is other.inter: the files of a dataset are named like" in refusal(make_config("BPR", "empty"))
    parts = refusal(make_config("BPR", benchmark_filename=["train", "valid", "test"]))
    assert "toy/toy.train.inter: file not found" in parts


def test_datasets_that_are_made_or_downloaded_pass(random_dataset, make_config):
    for dataset in ("ml-100k-search", "ml-1m", "ml-100k"):
        check_run(make_config("BPR", dataset))


@pytest.mark.parametrize("model", ["GSERec", "NRHUB", "BPR", "SASRec"])
@pytest.mark.parametrize("left_out", ["user_id", "item_id", "timestamp"])
def test_columns_that_are_not_loaded(random_dataset, make_config, model, left_out):
    columns = [name for name in ("user_id", "item_id", "timestamp") if name != left_out]
    load_col = {**make_config(model)["load_col"], "inter": columns}
    message = refusal(make_config(model, load_col=load_col))
    assert f"{model} reads the column '{left_out}' of .inter" in message
    assert "'inter': ['user_id', 'item_id', 'timestamp']" in message.partition("--load_col=")[2]


def test_the_columns_that_a_message_names_are_enough(with_items, make_config):
    requested = {"load_col": {"inter": ["user_id", "item_id"]}, "selected_features": ["genre"]}
    for _ in range(2):
        reported = refusal(make_config("FDSA", **requested))
        requested["load_col"] = ast.literal_eval(reported.partition("--load_col=")[2].strip('"'))
    assert requested["load_col"] == {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "genre"]}
    check_run(make_config("FDSA", **requested))


def test_unloaded_and_unknown_columns(random_dataset, make_config):
    unloaded = make_config("BPR", load_col=None, unload_col={"inter": ["timestamp"]})
    assert "reads the column 'timestamp' of .inter (TIME_FIELD)" in refusal(unloaded)
    assert (
        "no column 'when', which BPR reads (TIME_FIELD). It has user_id, item_id, timestamp: set TIME_FIELD"
        in refusal(make_config("BPR", TIME_FIELD="when"))
    )
    assert "load_col is 'inter'; it must list columns by file" in refusal(make_config("BPR", load_col="inter"))


def test_order_is_read_only_where_it_is_asked_for(random_dataset, make_config):
    at_random = {"eval_args": {"order": "RO", "split": {"RS": [8, 1, 1]}}}
    check_run(make_config("BPR", load_col={"inter": ["user_id", "item_id"]}, **at_random))


@pytest.mark.parametrize(
    ("model", "setting"),
    [("FDSA", "selected_features"), ("GRU4RecF", "selected_features"), ("SASRecF", "selected_features")]
    + [("S3Rec", "item_attribute")],
)
def test_models_of_item_features_name_the_setting(with_items, make_config, model, setting):
    message = refusal(make_config(model))
    assert f"toy.item: no column 'class', which {model} reads ({setting})" in message
    assert f"It has item_id, title, genre: set {setting} to one of its columns, and load it: --load_col=" in message
    chosen = "genre" if setting == "item_attribute" else ["genre"]
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "genre"]}
    check_run(make_config(model, **{setting: chosen}, load_col=columns))


@pytest.mark.parametrize("model", "CFKG CKE KGAT KGCN KGIN KGNNLS KTUP MCCLK MKR RippleNet".split())
def test_models_of_knowledge_graphs_name_the_file(random_dataset, make_config, model):
    message = refusal(make_config(model))
    assert f"toy.kg: file not found; {model} reads it (a knowledge graph)" in message


@pytest.mark.parametrize("model", ["GRU4RecKG", "KSR"])
def test_models_of_further_files_name_them(random_dataset, make_config, model):
    assert f"toy.ent: file not found; {model} reads it (additional_feat_suffix)" in refusal(make_config(model))


@pytest.mark.parametrize("model", ["RaCT", "S3Rec"])
def test_a_pretraining_that_would_leave_nothing(with_items, make_config, model):
    requested = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "genre"]}}
    requested |= {"item_attribute": "genre", "pretrain_epochs": 3}
    assert "pretrain_epochs is 3, and" in refusal(make_config(model, **requested))
    check_run(make_config(model, **requested, save_step=3))


def test_folders_that_cannot_be_written_to(random_dataset, make_config, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    reported = refusal(make_config("BPR", checkpoint_dir="file/deep/saved"))
    assert reported.startswith(f"{tmp_path}/file/deep/saved: cannot be created, because {tmp_path}/file is a file; set")
    check_writable(tmp_path / "new" / "folder", "")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(SettingError, match="saved: no permission to write there; set checkpoint_dir to another"):
        check_run(make_config("BPR"))


def test_a_dataset_of_another_place_is_checked_there(random_dataset, make_config, tmp_path):
    (tmp_path / "elsewhere" / "toy").mkdir(parents=True)
    with pytest.raises(DataError, match="elsewhere/toy/toy.inter: file not found"):
        check_run(make_config("BPR", data_path=str(tmp_path / "elsewhere")))


@pytest.mark.parametrize(
    ("requested", "reported"),
    [
        ({"gpu_id": 3}, "gpu_id=3: PyTorch finds no such GPU, so this run uses the CPU"),
        ({"gpu_id": "0,1", "use_gpu": True}, "gpu_id=0,1, use_gpu=True: PyTorch finds no such GPU"),
        (
            {"enable_amp": True},
            "enable_amp=True: PyTorch finds no such GPU, so this run uses the CPU, in bfloat16",
        ),
        ({"use_gpu": False}, None),
        ({}, None),
    ],
)
def test_a_gpu_that_is_not_there_is_reported_once(random_dataset, caplog, monkeypatch, requested, reported):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("recbole.utils.init_logger", lambda config: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with without_arguments():
        config = Config("BPR", "toy", config_dict={"data_path": str(random_dataset), **requested})
    with caplog.at_level(logging.WARNING):
        begin_run(config)
    found = [record.getMessage() for record in caplog.records if "GPU" in record.getMessage()]
    assert len(found) == (reported is not None)
    assert reported is None or found[0].startswith(reported)
    assert config["use_gpu"] is False


LAST_OF_EACH = {
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"},
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
}


def test_users_who_have_all_items_are_reported(write_files, tmp_path, prepare):
    items = [f"i{index}" for index in range(5)]
    inter = [("all", item, time) for time, item in enumerate(items)]
    inter += [(f"u{first}", item, time) for first in range(3) for time, item in enumerate(items[first : first + 3])]
    write_files(tmp_path / "dataset", "toy", inter=inter)
    with pytest.raises(SettingError, match=r"^1 user interacted with all 5 items \(such as 'all'\)") as raised:
        prepare("BPR", **LAST_OF_EACH)
    assert '--user_inter_num_interval="[0,5)"' in str(raised.value)
    prepare("BPR", **LAST_OF_EACH, user_inter_num_interval="[0,5)")


@pytest.mark.parametrize("model", ["BPR", "SimGCL", "LightGCN"])
def test_a_single_item_leaves_no_negative(write_files, tmp_path, prepare, model):
    inter = [(f"u{user}", "i", time) for user in range(3) for time in range(4)]
    write_files(tmp_path / "dataset", "toy", inter=inter)
    with pytest.raises(SettingError, match=r"^3 users interacted with all 1 item \(such as 'u0'\)"):
        prepare(model, **LAST_OF_EACH)


@pytest.mark.parametrize(
    ("requested", "device"), [({"use_gpu": False}, "cpu"), ({"use_gpu": True}, "cuda"), ({}, "cuda")]
)
def test_no_gpu_is_used_where_none_is_wanted(random_dataset, monkeypatch, requested, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with without_arguments():
        config = Config("BPR", "toy", config_dict={"data_path": str(random_dataset), **requested})
    assert config["device"].type == device
