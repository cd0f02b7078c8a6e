"""One run: RecBole's numbers, and a record, ranks and candidates that agree with them."""

import hashlib
import json
import math
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_gserec.errors import DataError
from recbole_gserec.plugin.resume import ResumableTraining
from recbole_gserec.runs.prepare import dataset_digest, derived_digests
from recbole_gserec.runs.record import candidates_digest
from recbole_gserec.runs.run_processes import Job, run_child
from recbole_gserec.runs.run_store import INTERRUPTED, Run, Spec, read_run
from recbole_gserec.runs.train import TimedEpochs, train, training_identity, with_timing
from recbole_gserec.runs.worker import make_run
from recbole_gserec.settings.config import make_config, without_arguments

SMALL = {
    "epochs": 3,
    "train_batch_size": 256,
    "eval_candidate_seed": 5,
    "MAX_ITEM_LIST_LENGTH": 10,
    "metrics": ["Hit", "NDCG"],
    "topk": [1, 5, 10],
    "valid_metric": "NDCG@5",
}
OWN = {
    "LightGCN": {"embedding_size": 8},
    "SASRec": {"hidden_size": 8, "inner_size": 8},
    "GSERec": {"embedding_size": 8, "inner_size": 8, "mlp_hidden_size": [8]},
}
HERE = {"use_gpu": False, "gpu_id": "", "all_items_users": 30}
SEED = 3


def make_spec(folder, data_path, model, **changes) -> Spec:
    requested = {**SMALL, **OWN[model]}
    folder.mkdir(parents=True, exist_ok=True)
    config = make_config(model, "toy", requested, {**HERE, "data_path": str(data_path)}, folder / "settings.yaml")
    identity = {"dataset_digest": dataset_digest(config), "derived": derived_digests(config), "requested": requested}
    return Spec(Run(**{"dataset": "toy", "model": model, "seed": SEED, **identity, **changes}), folder, data_path, HERE)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder, spec and record of one run of each of three models; that of GSERec was made in a process of its own."""
    from tests.conftest import random_files, write_dataset

    root = tmp_path_factory.mktemp("runs")
    data_path = write_dataset(root / "dataset", "toy", **random_files())
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for model in OWN:
            spec = make_spec(root / model, data_path, model)
            if model == "GSERec":
                assert run_child(Job(spec, threads=1)) == "finished"
                made[model] = spec, read_run(spec.folder)
            else:
                made[model] = spec, json.loads(json.dumps(train(spec)))
    return made


@pytest.fixture(params=list(OWN))
def run(request, runs):
    return runs[request.param]


def ranks_of(spec, part):
    frame = pd.read_parquet(spec.folder / "ranks.parquet")
    return frame[frame["part"] == part].drop(columns="part").reset_index(drop=True)


def metrics_of(ranks):
    """Hit and NDCG of single targets, written down from their definitions."""
    result = {}
    for depth in (1, 5, 10):
        hits = [rank <= depth for rank in ranks]
        result[f"hit@{depth}"] = sum(hits) / len(ranks)
        result[f"ndcg@{depth}"] = sum(hit / math.log2(rank + 1) for hit, rank in zip(hits, ranks, strict=True)) / len(
            ranks
        )
    return result


# ---- RecBole's numbers ----------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_run_recbole(run, tmp_path, monkeypatch):
    from recbole.quick_start import run_recbole

    spec, record = run
    monkeypatch.chdir(tmp_path)
    requested = {**spec.run.requested, **HERE, "seed": SEED, "data_path": str(spec.data_path), "show_progress": False}
    with without_arguments():
        result = run_recbole(spec.run.model, "toy", config_dict=requested)
    assert record["test"] == result["test_result"]
    assert record["valid"] == result["best_valid_result"]
    assert max(record["epochs"]["valid_score"]) == result["best_valid_score"]


def test_another_seed_gives_other_numbers(runs, tmp_path):
    spec, record = runs["LightGCN"]
    other = make_spec(tmp_path / "other", spec.data_path, "LightGCN", seed=SEED + 1)
    assert train(other)["epochs"]["train_loss"] != record["epochs"]["train_loss"]


# ---- ranks and candidates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["valid", "test"])
def test_ranks_give_the_metrics(run, part):
    spec, record = run
    ranks = ranks_of(spec, part)
    # RecBole rounds to four places.
    assert record[part] == pytest.approx(metrics_of(ranks["rank"].tolist()), abs=0.5001e-4)


def test_some_targets_are_also_ranked_among_all_items(runs):
    chosen = []
    for spec, record in runs.values():
        among_all, by_lists = ranks_of(spec, "test among all items"), ranks_of(spec, "test").set_index("user")
        assert record["all_items"]["users"] == len(among_all) == 30
        assert by_lists.loc[among_all["user"], "item"].tolist() == among_all["item"].tolist()
        # The 99 candidates are among all items.
        assert (among_all["rank"].to_numpy() >= by_lists.loc[among_all["user"], "rank"].to_numpy()).all()
        assert (among_all["rank"].to_numpy() > by_lists.loc[among_all["user"], "rank"].to_numpy()).any()
        chosen.append(sorted(among_all["user"]))
    assert chosen[0] == chosen[1] == chosen[2]


def test_ranks_are_of_the_last_two_interactions_of_every_user(run, random_rows):
    histories = defaultdict(list)
    for user, item, _ in random_rows["inter"]:
        histories[user].append(item)
    for part, index in (("test", -1), ("valid", -2)):
        ranks = ranks_of(run[0], part)
        assert dict(zip(ranks["user"], ranks["item"], strict=True)) == {
            u: items[index] for u, items in histories.items()
        }
        assert len(ranks) == len(histories)


def test_ranks_are_those_of_the_stored_weights(runs):
    from recbole.quick_start import load_data_and_model

    spec, _ = runs["SASRec"]
    config, model, dataset, _, valid, test = load_data_and_model(str(spec.folder / "checkpoint.pth"))
    model.eval()
    for part, loader in (("valid", valid), ("test", test)):
        rows = loader._dataset.inter_feat
        with torch.no_grad():
            scores = model.full_sort_predict(rows.to(config["device"])).view(len(rows), -1).numpy()
        users = dataset.field2id_token["user_id"][rows["user_id"].numpy()]
        expected = {}
        for row, user in enumerate(users):
            candidates = scores[row][loader.candidates[row].numpy()]
            expected[user] = 1 + sum(candidates[1:] >= candidates[0])
        ranks = ranks_of(spec, part)
        assert dict(zip(ranks["user"], ranks["rank"], strict=True)) == expected


def test_columns_of_the_ranks(run):
    import pyarrow.parquet as pq

    schema = pq.read_schema(run[0].folder / "ranks.parquet")
    types = ["dictionary<values=string, indices=int8, ordered=0>", "string", "string", "int32"]
    assert schema.names == ["part", "user", "item", "rank"]
    assert [str(kind).replace("int32, ordered", "int8, ordered") for kind in schema.types] == types


def test_all_models_rank_the_same_candidates(runs):
    digests = [record["candidates"] for _, record in runs.values()]
    assert digests[0] == digests[1] == digests[2]
    assert digests[0]["mode"] == "uni99" and digests[0]["valid"] != digests[0]["test"]


def test_the_digest_is_of_the_candidates_in_original_ids(runs, prepare, random_dataset):
    _, dataset, (_, valid, test) = prepare("SASRec", **SMALL)
    items, users = dataset.field2id_token["item_id"], dataset.field2id_token["user_id"]
    for part, loader in (("valid", valid), ("test", test)):
        lines = {}
        for row, user in enumerate(loader._dataset.inter_feat["user_id"].tolist()):
            lines[users[user]] = "\t".join([users[user], *(items[item] for item in loader.candidates[row].tolist())])
        text = "".join(lines[user] + "\n" for user in sorted(lines))
        digest = hashlib.sha256(text.encode()).hexdigest()
        assert runs["GSERec"][1]["candidates"][part] == digest
    _, _, (_, _, other) = prepare("SASRec", **{**SMALL, "eval_candidate_seed": 6})
    assert candidates_digest(other) != candidates_digest(test)
    _, _, (_, _, full) = prepare("SASRec", **{**SMALL, "eval_args": {"mode": "full"}})
    assert candidates_digest(full) is None


# ---- the record -----------------------------------------------------------------------------------------------------


def test_what_the_record_tells(run):
    spec, record = run
    checkpoint = torch.load(spec.folder / "checkpoint.pth", weights_only=True)
    epochs = record["epochs"]
    assert record["status"] == "finished" and record["error"] is None
    assert (record["model"], record["dataset"], record["seed"]) == (spec.run.model, "toy", SEED)
    assert record["given"] == spec.run.requested
    assert {name: record["settings"][name] for name in spec.run.requested} == spec.run.requested
    assert record["settings"]["seed"] == SEED and record["settings"]["device"] == "cpu"
    assert epochs["trained"] == 3 and epochs["best"] == checkpoint["epoch"]
    names = ("seconds", "cpu_seconds", "validation_seconds", "train_loss", "valid_score")
    assert [len(epochs[name]) for name in names] == [3, 3, 3, 3, 3]
    assert all(seconds > 0 for name in names[:3] for seconds in epochs[name])
    assert record["wall_seconds"] > sum(epochs["seconds"]) + sum(epochs["validation_seconds"]) + record["test_seconds"]
    # What the optimiser keeps moments of.
    assert record["parameters"] == sum(state["exp_avg"].numel() for state in checkpoint["optimizer"]["state"].values())
    assert 2**20 < record["peak_memory_bytes"] < record["machine"]["memory_bytes"]
    assert record["peak_gpu_memory_bytes"] is None and record["device"] == "cpu"
    assert record["threads"] == 1


def test_samples_are_the_rows_that_are_trained_on(runs, random_rows):
    n_interactions, n_users = len(random_rows["inter"]), len({row[0] for row in random_rows["inter"]})
    # Two are held out of each user, and a sequential model needs one to start from.
    assert runs["LightGCN"][1]["samples_per_epoch"] == n_interactions - 2 * n_users
    assert runs["SASRec"][1]["samples_per_epoch"] == n_interactions - 3 * n_users


def test_a_process_leaves_nothing_but_what_belongs_to_the_run(runs):
    names = {path.name for path in runs["GSERec"][0].folder.iterdir()}
    assert names == {
        *("run.json", "ranks.parquet", "checkpoint.pth", "log.txt"),
        *("spec.json", "settings.yaml", ".lock", "log_tensorboard"),
    }
    log = (runs["GSERec"][0].folder / "log.txt").read_text()
    assert "epoch 2 training" in log and "test result" in log and "\x1b" not in log


def test_a_dataset_that_has_changed_is_refused(runs, tmp_path):
    spec = make_spec(tmp_path / "run", runs["SASRec"][0].data_path, "SASRec", dataset_digest="other")
    with pytest.raises(DataError, match="files changed since the run was planned"):
        train(spec)
    spec = make_spec(tmp_path / "run", runs["GSERec"][0].data_path, "GSERec", derived={"toy.code": "other"})
    with pytest.raises(DataError, match="files changed since the run was planned"):
        train(spec)


# ---- epochs ---------------------------------------------------------------------------------------------------------


class FakeTrainer:
    """Has RecBole's names for what :class:`TimedEpochs` looks at."""

    epochs = 100

    def __init__(self, scores, bigger=True):
        self.scores, self.valid_metric_bigger = iter(scores), bigger

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        return (epoch_idx, np.float32(0.5))

    def _valid_epoch(self, valid_data, show_progress=False):
        return next(self.scores), {}


@pytest.mark.parametrize(
    ("scores", "bigger", "best"),
    [([0.1, 0.3, 0.2], True, 1), ([0.3, 0.1, 0.3, 0.2], True, 2), ([0.3, 0.1, 0.2], False, 1)],
)
def test_the_best_epoch(scores, bigger, best):
    trainer = with_timing(FakeTrainer)(scores, bigger=bigger)
    for epoch in range(len(scores)):
        assert trainer._train_epoch(None, epoch, show_progress=False) == (epoch, 0.5)
        assert trainer._valid_epoch(None) == (scores[epoch], {})
    record = trainer.epoch_record()
    assert (record["trained"], record["best"], record["valid_score"]) == (len(scores), best, scores)
    assert record["train_loss"][1] == [1, 0.5]


def test_validation_after_every_second_epoch():
    trainer = with_timing(FakeTrainer)([0.1, 0.3])
    for epoch in range(4):
        trainer._train_epoch(None, epoch)
        if epoch % 2:
            trainer._valid_epoch(None)
    record = trainer.epoch_record()
    assert (record["trained"], record["best"], record["valid_score"]) == (4, 3, [0.1, 0.3])


def test_without_validation_the_last_epoch_is_kept():
    trainer = with_timing(FakeTrainer)([])
    for epoch in range(2):
        trainer._train_epoch(None, epoch)
        # Such as by a trainer that has two tasks.
        trainer._train_epoch(None, epoch)
    record = trainer.epoch_record()
    assert (record["trained"], record["best"], len(record["seconds"])) == (2, 1, 2)


def test_a_timed_trainer_is_of_its_class():
    assert issubclass(with_timing(FakeTrainer), FakeTrainer) and issubclass(with_timing(FakeTrainer), TimedEpochs)


# ---- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visible", "here", "gpu_id"), [(None, {}, "0"), ("3", {}, "3"), ("", {}, ""), ("3", {"gpu_id": "1"}, "1")]
)
def test_recbole_is_told_of_the_gpus_of_the_process(random_dataset, tmp_path, monkeypatch, visible, here, gpu_id):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    config = make_config("LightGCN", "toy", {}, {**here, "data_path": str(random_dataset)}, tmp_path / "s.yaml")
    assert config["gpu_id"] == gpu_id


def test_texts_of_settings_are_not_evaluated(random_dataset, tmp_path, monkeypatch):
    requested = {"wandb_project": "__import__('os').mkdir('made')", "his_cl": "rec_only", "learning_rate": 1e-05}
    monkeypatch.chdir(tmp_path)
    config = make_config("GSERec", "toy", requested, {"data_path": str(random_dataset)}, tmp_path / "s.yaml")
    assert {name: config[name] for name in requested} == requested
    assert not (tmp_path / "made").exists()


def test_a_run_that_was_killed_goes_on(runs, tmp_path, monkeypatch):
    """In the middle of its training, with the numbers of one that was not."""
    spec, whole = runs["SASRec"]
    again = Spec(spec.run, tmp_path / "again", spec.data_path, spec.machine)
    again.folder.mkdir()
    again.write()
    fit = ResumableTraining.fit

    def stopped(self, *args, **options):
        def stop(epoch, score):
            if epoch == 1:
                raise KeyboardInterrupt

        self.save_every_s = 0
        return fit(self, *args, **{**options, "callback_fn": stop})

    monkeypatch.setattr("recbole_gserec.runs.worker.write_to_log", lambda path: path.touch())
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ResumableTraining, "fit", stopped)
        assert make_run(again.folder / "spec.json") == INTERRUPTED
    (again.folder / "log.txt").write_text("before\n")
    assert read_run(again.folder) is None and (again.folder / "training.pth").is_file()
    assert make_run(again.folder / "spec.json") == 0
    record = read_run(again.folder)
    assert record["resumed_epochs"] == 2 and whole["resumed_epochs"] == 0
    for part in ("valid", "test"):
        assert record[part] == whole[part]
        assert ranks_of(again, part).equals(ranks_of(spec, part))
    for name in ("trained", "best", "train_loss", "valid_score"):
        assert record["epochs"][name] == whole["epochs"][name]
    assert record["wall_seconds"] > sum(record["epochs"]["seconds"])
    assert not (again.folder / "training.pth").exists()
    assert (again.folder / "log.txt").read_text().startswith("before")


def test_a_run_does_not_go_on_under_another_version(runs, monkeypatch):
    spec, _ = runs["SASRec"]
    config = make_config(
        "SASRec", "toy", spec.run.requested, {**HERE, "data_path": str(spec.data_path)}, spec.folder / "s"
    )
    before = training_identity(spec.run, config)
    assert before == training_identity(spec.run, config) and before["run"] == spec.run.key
    monkeypatch.setattr("recbole_gserec.__version__", "9.9")
    assert training_identity(spec.run, config) != before
