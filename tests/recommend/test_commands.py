"""``gserec recommend`` and ``gserec export`` as they are called, and the files they write."""

import csv
import io
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recbole_gserec.cli.main import main
from recbole_gserec.errors import GSERecError
from recbole_gserec.files.writing import sha256_of_file
from recbole_gserec.plugin.checkpoint import CheckpointConfig
from recbole_gserec.recommend.exported_vectors import export_vectors
from recbole_gserec.recommend.recommender import Recommender
from recbole_gserec.recommend.trained import load_trained
from tests.conftest import HEADERS, random_files, write_dataset
from tests.recommend.stored_models import Plain, assert_same, store_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    data = write_dataset(tmp_path_factory.mktemp("commands") / "dataset", "toy", **random_files())
    return store_model(data)


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    """Calls gserec in an empty folder; returns status, output and what it tells."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["gserec", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capfd.readouterr()
        return ended.value.code, captured.out, captured.err

    return call


def test_all_formats_hold_the_same(run, checkpoint, tmp_path):
    for suffix in ("parquet", "csv", "jsonl"):
        status, output, _ = run("recommend", "--checkpoint", checkpoint, "--k", 4, "--out", f"best.{suffix}")
        assert (status, output) == (0, f"best.{suffix}: 164 recommendations\n")
    table = pq.read_table(tmp_path / "best.parquet")
    assert table.schema.names == ["user", "rank", "item", "score"]
    assert table.schema.types == [pa.string(), pa.int32(), pa.string(), pa.float32()]
    rows = table.to_pylist()
    with open(tmp_path / "best.csv", newline="", encoding="utf-8") as file:
        as_csv = list(csv.DictReader(file))
    as_json = [json.loads(line) for line in (tmp_path / "best.jsonl").read_text().splitlines()]
    assert len(rows) == len(as_csv) == len(as_json) == 41 * 4
    for row, one, other in zip(rows, as_csv, as_json, strict=True):
        assert (row["user"], row["rank"], row["item"]) == (one["user"], int(one["rank"]), one["item"])
        assert np.float32(one["score"]) == np.float32(row["score"])
        assert {**other, "score": np.float32(other["score"])} == {**row, "score": np.float32(row["score"])}
    plain = Plain(checkpoint, random_files())
    assert_same([(row["item"], row["score"]) for row in rows if row["user"] == "u5"], plain.best("u5", 4))


def test_the_same_command_writes_the_same_bytes(run, checkpoint, tmp_path):
    digests = set()
    for folder in ("one", "two"):
        run("recommend", "-c", checkpoint, "--out", f"{folder}/best.parquet", "--batch-size", 8)
        digests.add(
            (
                sha256_of_file(tmp_path / folder / "best.parquet"),
                sha256_of_file(tmp_path / folder / "best.parquet.json"),
            )
        )
    assert len(digests) == 1


def test_what_made_a_file_stands_beside_it(run, checkpoint, tmp_path):
    run("recommend", "-c", checkpoint, "--user", "u1", "--out", "best.csv", "--include-seen")
    made = json.loads((tmp_path / "best.csv.json").read_text())
    assert made["rows"] == 10
    assert (made["model"], made["dataset"], made["checkpoint_sha256"]) == ("GSERec", "toy", sha256_of_file(checkpoint))
    assert made["dataset_files"]["inter"] == sha256_of_file(checkpoint.parent / "dataset" / "toy" / "toy.inter")
    assert made["options"] == {"k": 10, "users": 1, "exclude_seen": False, "all_items": False, "new_events": {}}


def test_without_a_file_it_is_printed(run, checkpoint, tmp_path):
    (tmp_path / "users.txt").write_text("u3\n\nu2\n")
    status, output, _ = run("recommend", "-c", checkpoint, "--user", "u9", "--users", "users.txt", "-k", 2)
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(output)))
    assert [(row["user"], row["rank"]) for row in rows] == [(u, r) for u in ("u9", "u3", "u2") for r in "12"]


@pytest.fixture(scope="module")
def with_head(tmp_path_factory):
    data = write_dataset(tmp_path_factory.mktemp("head") / "dataset", "toy", **random_files())
    return store_model(data, lambda_next_item=0.5)


def test_the_recall_of_a_retrieval_is_reported_and_stored(run, with_head, tmp_path, caplog):
    options = ["recommend", "-c", with_head, "-k", 5, "--retrieve", 12]
    assert run(*options, "--out", "best.csv")[0] == 0
    made = json.loads((tmp_path / "best.csv.json").read_text())
    assert made["options"]["retrieve"] == 12
    recommender = Recommender(load_trained(with_head))
    expected = recommender.retrieval_recall(recommender.choose().users, 5, 12).mean()
    assert 0 < expected < 1
    assert made["retrieval_recall"] == {"exact": False, "recall": pytest.approx(expected), "users": 41, "seed": 0}
    told = f"{expected:.2%} of the best 5 of all items are among the 12 retrieved (mean of 41 users)"
    assert told in caplog.text
    caplog.clear()
    assert run(*options, "--recall-users", 0, "--out", "other.csv")[0] == 0
    assert "retrieved" not in caplog.text
    assert "retrieval_recall" not in json.loads((tmp_path / "other.csv.json").read_text())
    assert (tmp_path / "best.csv").read_bytes() == (tmp_path / "other.csv").read_bytes()
    status, output, _ = run(*options, "--recall-users", 9)
    assert (status, output.encode()) == (0, (tmp_path / "best.csv").read_bytes())
    assert "(mean of 9 users)" in caplog.text


def test_all_items_retrieved_need_no_sample(run, with_head, tmp_path, monkeypatch):
    monkeypatch.setattr(Recommender, "retrieval_recall", lambda *_: pytest.fail("measured"))
    run("recommend", "-c", with_head, "--retrieve", 1000, "--out", "all.csv")
    run("recommend", "-c", with_head, "--out", "exact.csv")
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "exact.csv").read_bytes()
    assert json.loads((tmp_path / "all.csv.json").read_text())["retrieval_recall"] == {"exact": True}
    assert "retrieve" not in (tmp_path / "exact.csv.json").read_text()


def test_new_events_from_files(run, checkpoint, tmp_path, caplog):
    (tmp_path / "new.inter").write_text(f"{HEADERS['inter']}\nnew one\ti3\t100\nnew one\tnothing\t101\n")
    (tmp_path / "new.search").write_text(f"{HEADERS['search']}\nnew one\tother\t90\ti4\n")
    (tmp_path / "new.query").write_text(f"{HEADERS['query']}\nother\tw1 w2\n")
    files = ["--new-interactions", "new.inter", "--new-searches", "new.search", "--new-queries", "new.query"]
    status, output, _ = run("recommend", "-c", checkpoint, "--user", "new one", "-k", 3, *files)
    assert status == 0
    assert [line.split(",")[:2] for line in output.splitlines()[1:]] == [["new one", rank] for rank in "123"]
    assert "1 new interactions are with items that the model does not know: left out" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--user", "nobody"], "user 'nobody' is neither in the dataset 'toy'"),
        (["--out", "best.txt"], "best.txt: recommendations are written as .parquet, .csv, .jsonl"),
        (["--k", "0"], ("greater than or equal to 1", "0 is not in the range x>=1")),
        (["--users", "empty.txt"], "empty.txt: names no user"),
        (["--users", "none.txt"], "none.txt"),
        (["--data-path", "nowhere"], "nowhere/toy: no such dataset"),
        (["--new-queries", "empty.txt"], "new queries need new searches"),
        (["--retrieve", "50"], "this GSERec was trained without the next-item head to retrieve items by. Train with"),
        (["--retrieve", "5"], "retrieve is 5, but 10 items are recommended"),
    ],
)
def test_bad_input_is_reported_in_one_line(run, checkpoint, tmp_path, arguments, problem):
    (tmp_path / "empty.txt").write_text("\n")
    status, output, printed = run("recommend", "--checkpoint", checkpoint, *arguments)
    assert (status, output) == (2, "")
    line = printed.splitlines()[-1]
    assert line.startswith("error: ")
    # The wording of some is that of the version of Typer.
    assert any(words in line for words in ((problem,) if isinstance(problem, str) else problem))


@pytest.mark.parametrize("command", ["recommend", "export"])
def test_a_bad_checkpoint_is_reported_in_one_line(run, tmp_path, command):
    (tmp_path / "bad.pth").write_bytes(b"PK")
    out = ["--out", "vectors"] if command == "export" else []
    for name, problem in (("bad.pth", "truncated or not a checkpoint"), ("none.pth", "no such checkpoint")):
        status, _, printed = run(command, "--checkpoint", name, *out)
        assert (status, len(printed.splitlines())) == (2, 1)
        assert printed.startswith(f"error: {name}: {problem}")


@pytest.mark.parametrize("command", ["recommend", "export"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_reported_in_one_line(run, checkpoint, tmp_path, command, value):
    state = torch.load(checkpoint, weights_only=True)
    state["config"] = CheckpointConfig(state["config"])
    state["state_dict"]["item_embedding.weight"][7, 2] = value
    torch.save(state, tmp_path / "bad.pth")
    out = ["--out", "vectors"] if command == "export" else []
    status, output, printed = run(command, "--checkpoint", "bad.pth", *out)
    assert (status, output) == (2, "")
    assert printed == (
        "error: bad.pth: 'item_embedding.weight' has NaN or infinite values (1): the training diverged. Train again "
        "with a smaller learning_rate, or use the checkpoint of another training\n"
    )


def test_scores_that_overflow_are_reported_in_one_line(run, tmp_path):
    """Of weights that are numbers, if barely so."""
    data = write_dataset(tmp_path / "dataset", "toy", **random_files())
    path = store_model(data, "LightGCN")
    state = torch.load(path, weights_only=True)
    state["config"] = CheckpointConfig(state["config"])
    for weights in state["state_dict"].values():
        weights.copy_(torch.where(weights < 0, -3e38, 3e38))
    torch.save(state, path)
    status, _, printed = run("recommend", "--checkpoint", path, "--out", "best.csv")
    assert (status, printed.splitlines()[-1:]) == (
        2,
        [
            f"error: {path}: for user 'u0' the scores of all items are NaN or infinite: the training diverged. Train "
            "again with a smaller learning_rate"
        ],
    )
    assert not (tmp_path / "best.csv").exists()


def test_vectors_that_are_no_numbers_are_not_exported(checkpoint):
    trained = load_trained(checkpoint)
    with torch.no_grad():
        trained.model.item_embedding.weight[3] = torch.nan
    with pytest.raises(GSERecError, match=r"'items' \(.*\) has NaN or infinite values: the training diverged"):
        export_vectors(trained)


def test_a_failed_command_leaves_no_file(run, checkpoint, tmp_path, monkeypatch):
    from recbole_gserec.models.gserec import GSERec

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(GSERec, "score", fail)
    assert run("recommend", "-c", checkpoint, "--out", "best.parquet")[0] == 2
    assert list(tmp_path.iterdir()) == []


# ---- export ---------------------------------------------------------------------------------------------------------


def test_both_formats_hold_the_vectors(run, checkpoint, tmp_path):
    expected = export_vectors(load_trained(checkpoint)).tables
    for file_format in ("parquet", "npy"):
        status, output, _ = run("export", "-c", checkpoint, "--out", file_format, "--format", file_format)
        assert status == 0
        assert "GSERec does not score by dot products" in output
    for table in expected:
        read = pq.read_table(tmp_path / "parquet" / f"{table.name}.parquet")
        assert read.schema.names == [*table.ids, "vector"]
        size = table.values.shape[1]
        assert read.schema.field("vector").type == pa.list_(pa.float32(), size)
        np.testing.assert_array_equal(
            read["vector"].combine_chunks().flatten().to_numpy().reshape(-1, size), table.values
        )
        np.testing.assert_array_equal(np.load(tmp_path / "npy" / f"{table.name}.npy"), table.values)
        with open(tmp_path / "npy" / f"{table.name}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for name, values in table.ids.items():
            assert read[name].to_pylist() == values.tolist()
            assert [row[name] for row in rows] == [str(value) for value in values]
    names = {table.name for table in expected}
    assert names == {
        "items",
        "users_initial",
        *(f"{kind}_{side}" for kind in ("users", "codes") for side in ("search", "recommendation")),
    }
    made = json.loads((tmp_path / "parquet" / "export.json").read_text())
    assert set(made["tables"]) == names
    assert made["score"] is None
    assert made["tables"]["codes_search"]["rows"] == len(next(t for t in expected if t.name == "codes_search").values)


def test_an_export_repeats(run, checkpoint, tmp_path):
    for folder in ("one", "two"):
        run("export", "-c", checkpoint, "--out", folder)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert [sha256_of_file(tmp_path / "one" / name) for name in files] == [
        sha256_of_file(tmp_path / "two" / name) for name in files
    ]


def test_a_folder_with_something_in_it_is_refused(run, checkpoint, tmp_path):
    (tmp_path / "vectors").mkdir()
    (tmp_path / "vectors" / "mine").write_text("")
    status, _, printed = run("export", "-c", checkpoint, "--out", "vectors")
    assert (status, printed) == (
        2,
        "error: vectors: exists and is not an empty folder. Name another, or delete it.\n",
    )
    status, _, printed = run("export", "-c", checkpoint, "--out", "new", "--format", "hdf5")
    assert (status, printed) == (2, "error: --format is 'hdf5'; it must be parquet or npy\n")


# ---- export --trec --------------------------------------------------------------------------------------------------


def read_trec(folder, part):
    """Targets of each user, and (item, score) of each ranking, in the order of the file."""
    targets, rankings = {}, {}
    for line in (folder / f"{part}.qrels").read_text().splitlines():
        user, zero, item, relevance = line.split(" ")
        assert (zero, relevance) == ("0", "1")
        targets.setdefault(user, set()).add(item)
    for line in (folder / f"{part}.run").read_text().splitlines():
        user, q0, item, rank, score, tag = line.split(" ")
        assert q0 == "Q0"
        rankings.setdefault(user, []).append((item, np.float32(score)))
        assert int(rank) == len(rankings[user])
    return targets, rankings, tag


@pytest.mark.parametrize("mode", ["uni20", "full"])
@pytest.mark.parametrize("model", ["GSERec", "BPR"])
def test_trec_files_hold_the_rankings_of_the_evaluation(run, tmp_path, model, mode):
    data = write_dataset(tmp_path / "dataset", "toy", **random_files())
    # Some metrics need facts about the training part.
    metrics = ["NDCG", "ItemCoverage", "AveragePopularity"]
    path = store_model(data, model, eval_args={"mode": mode}, metrics=metrics, topk=[5])
    before = {file.relative_to(tmp_path) for file in tmp_path.rglob("*")}
    status, output, _ = run("export", "-c", path, "--out", "trec", "--trec")
    assert status == 0
    made = {file.relative_to(tmp_path) for file in tmp_path.rglob("*")} - before
    names = ("export.json", "valid.qrels", "valid.run", "test.qrels", "test.run")
    assert sorted(map(str, made)) == sorted(["trec", *(f"trec/{name}" for name in names)])
    parts = json.loads((tmp_path / "trec" / "export.json").read_text())["parts"]
    for part in ("valid", "test"):
        targets, rankings, tag = read_trec(tmp_path / "trec", part)
        assert tag == model
        assert set(targets) == set(rankings)
        assert len(targets) == parts[part]["topics"] == 40
        gains = []
        for user, ranking in rankings.items():
            scores = [score for _, score in ranking]
            assert scores == sorted(scores, reverse=True)
            last = max(interaction[2] for interaction in random_files()["inter"] if interaction[0] == user)
            (target,) = targets[user]
            assert part == "valid" or (user, target, last) in random_files()["inter"]
            items = [item for item, _ in ranking]
            assert len(set(items)) == len(items)
            assert len(items) == 21 if mode == "uni20" else len(items) > 100
            rank = items.index(target) + 1
            gains.append(1 / np.log2(rank + 1) if rank <= 5 else 0)
        assert parts[part]["metrics"]["ndcg@5"] == pytest.approx(np.mean(gains), abs=1e-4)
        assert f"trec/{part}.run: 40 rankings; ndcg@5 {parts[part]['metrics']['ndcg@5']:.4f}" in output


def test_options_of_the_other_kind_are_refused(run, checkpoint):
    _, _, printed = run("export", "-c", checkpoint, "--out", "new", "--trec", "--format", "npy")
    assert printed == "error: --format is for vectors; with --trec it has no meaning\n"
    _, _, printed = run("export", "-c", checkpoint, "--out", "new", "--depth", "5")
    assert printed == "error: --depth is for rankings; it needs --trec\n"


def test_checkpoints_of_several_processes_are_read_by_one(tmp_path):
    data = write_dataset(tmp_path / "dataset", "toy", **random_files())
    path = store_model(data, "BPR")
    state = torch.load(path, weights_only=True)
    state["config"].final_config_dict.update(single_spec=False, world_size=2)
    state["config"] = CheckpointConfig(state["config"])
    torch.save(state, path)
    assert len(load_trained(path).dataset) > 0


def test_a_depth_cuts_rankings_and_ties_are_told(run, tmp_path):
    data = write_dataset(tmp_path / "dataset", "toy", **random_files())
    path = store_model(data, "Pop")
    status, _, printed = run("export", "-c", path, "--out", "trec", "--trec", "--depth", "7")
    assert status == 0
    assert "targets have the same score as another candidate: other programs may rank them better" in printed
    _, rankings, _ = read_trec(tmp_path / "trec", "test")
    assert {len(ranking) for ranking in rankings.values()} == {7}


def test_an_id_with_a_space_is_refused_for_trec_files(run, tmp_path):
    rows = random_files()
    rows["inter"] = [("u 5" if user == "u5" else user, item, time) for user, item, time in rows["inter"]]
    rows["search"] = rows["code"] = None
    data = write_dataset(tmp_path / "dataset", "toy", **{name: part for name, part in rows.items() if part})
    path = store_model(data, "BPR")
    status, _, printed = run("export", "-c", path, "--out", "trec", "--trec")
    assert (status, printed.splitlines()[-1]) == (
        2,
        f"error: {data / 'toy'}: the user id 'u 5' has a space, which TREC files cannot hold. Rename it.",
    )
    assert not (tmp_path / "trec").exists()
