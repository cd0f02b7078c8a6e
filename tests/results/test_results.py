import json
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.metrics import MRR, NDCG, Hit

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.results.load import choose_runs, load_runs, ranks_frame, runs_frame
from recbole_gserec.results.metrics import DEFAULT_METRICS, Metric, chosen_metrics, main_metric, parse_metric
from tests.runs.stored_runs import plain_metrics, random_ranks, store_run, write_ranks

RANKS = np.array([1, 3, 7, 11], dtype=np.int32)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("hit@1", [1, 0, 0, 0]),
        ("HR@5", [1, 1, 0, 0]),
        ("hit@10", [1, 1, 1, 0]),
        ("NDCG@5", [1, Fraction(1, 2), 0, 0]),  # 1 / log2(1 + 1), 1 / log2(3 + 1)
        ("ndcg@10", [1, Fraction(1, 2), Fraction(1, 3), 0]),  # and 1 / log2(7 + 1)
        ("MRR@10", [1, Fraction(1, 3), Fraction(1, 7), 0]),
    ],
)
def test_values_of_users_are_those_worked_by_hand(name, values):
    np.testing.assert_allclose(parse_metric(name).of_ranks(RANKS), [float(value) for value in values], rtol=1e-15)


@pytest.mark.parametrize(("metric", "kind"), [(Hit, "hit"), (NDCG, "ndcg"), (MRR, "mrr")])
def test_means_are_those_of_recbole(metric, kind):
    ranks = random_ranks(1, skill=2)
    hits = torch.zeros(len(ranks), 11, dtype=torch.int)
    hits[:, -1] = 1  # Targets of each user.
    shown = ranks <= 10
    hits[np.flatnonzero(shown), ranks[shown] - 1] = 1
    collected = DataStruct()
    collected.set("rec.topk", hits)
    theirs = metric({"topk": [1, 5, 10], "metric_decimal_place": 12}).calculate_metric(collected)
    for depth in (1, 5, 10):
        assert Metric(kind, depth).of_ranks(ranks).mean() == pytest.approx(theirs[f"{kind}@{depth}"], abs=1e-11)


def test_metrics_are_chosen_by_either_name():
    assert chosen_metrics(["HR@10", "Hit@10", "ndcg@20"]) == (Metric("hit", 10), Metric("ndcg", 20))
    assert chosen_metrics(None) == DEFAULT_METRICS
    assert [metric.label for metric in DEFAULT_METRICS] == ["HR@1", "HR@5", "HR@10", "NDCG@5", "NDCG@10"]
    assert main_metric(DEFAULT_METRICS).name == "ndcg@10"
    assert main_metric(chosen_metrics(["HR@1", "NDCG@3", "HR@5"])).name == "ndcg@3"
    assert main_metric(chosen_metrics(["HR@1", "HR@5"])).name == "hit@5"
    for name in ("recall@10", "hit", "hit@0", "ndcg@"):
        with pytest.raises(SettingError, match="unknown metric"):
            parse_metric(name)


def test_runs_are_read_whatever_state_they_are_in(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 2020, RANKS)
    store_run(tmp_path, "toys", "GSERec", 2021, error="MemoryError:\n  too much")
    unfinished = tmp_path / "runs" / "toys" / "SASRec" / "2020-aaaaaaaaaa"
    unfinished.mkdir(parents=True)
    (unfinished / "log.txt").write_text("epoch 0")
    first, failed, started = load_runs(tmp_path)
    assert (first.state, first.problem, first.seed, first.key) == ("finished", None, 2020, f"{2020:010x}")
    assert first.ranks.ranks.tolist() == RANKS.tolist()
    assert first.ranks.users.to_pylist() == ["u0", "u1", "u2", "u3"]
    assert (failed.state, failed.problem) == ("failed", "MemoryError: too much")
    assert (started.state, started.problem) == ("unfinished", "there is no run.json")


def test_frames(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 2020, RANKS)
    store_run(tmp_path, "toys", "SASRec", 2020)
    runs = load_runs(tmp_path)
    frame = runs_frame(runs).set_index("model")
    assert frame.loc["GSERec", "hit@10"] == 0.75
    assert frame.loc["SASRec", "problem"] == "ValueError: boom"
    ranks = ranks_frame(runs)
    assert ranks.columns.tolist() == ["dataset", "model", "seed", "user", "item", "rank"]
    assert ranks["rank"].tolist() == RANKS.tolist()
    assert ranks_frame(runs[1:]).empty


def test_ids_that_look_like_numbers_or_nothing_stay_what_they_are(tmp_path):
    users = ["10", "9", "NA", "010"]
    store_run(tmp_path, "toys", "GSERec", 1, RANKS, users=users)
    (run,) = load_runs(tmp_path)
    by_user = dict(zip(run.ranks.users.to_pylist(), run.ranks.ranks.tolist(), strict=True))
    assert by_user == dict(zip(users, RANKS.tolist(), strict=True))


def test_the_order_of_rows_changes_nothing(tmp_path):
    ranks = random_ranks(3)
    store_run(tmp_path, "toys", "GSERec", 1, ranks)
    store_run(tmp_path, "toys", "SASRec", 1, ranks, order=np.random.default_rng(0).permutation(len(ranks)))
    one, other = load_runs(tmp_path)
    assert one.ranks.ranks.tolist() == other.ranks.ranks.tolist()
    # All runs share one copy of the ids.
    assert one.ranks.users is other.ranks.users


def damage_json(folder):
    path = folder / "run.json"
    path.write_text(path.read_text()[:-20])


def damage_parquet(folder):
    path = folder / "ranks.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def ranks_of(*rows):
    def write(folder):
        part, user, item, rank = zip(*rows, strict=True)
        pq.write_table(pa.table({"part": part, "user": user, "item": item, "rank": rank}), folder / "ranks.parquet")

    return write


def changed(**changes):
    def write(folder):
        record = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**record, **changes}))

    return write


def without(*names):
    def write(folder):
        record = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({name: record[name] for name in record if name not in names}))

    return write


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (damage_json, "truncated, or not JSON"),
        (lambda folder: (folder / "run.json").write_text("[1]"), "not a JSON object"),
        (lambda folder: (folder / "run.json").write_bytes(b"\xff\xfe{}"), "truncated, or not JSON"),
        (changed(format=2), "is of format 2, and this version reads format 1"),
        (changed(status="done"), "has the status 'done'"),
        (changed(started="yesterday"), "'started' is 'yesterday'"),
        (changed(seed=True), "seed is True"),
        (changed(seed=7), "has the seed 7, which is not that of its folder"),
        (changed(model="SASRec"), "has the model 'SASRec', which is not that of its folder"),
        (changed(epochs={"best": 1, "seconds": [None], "cpu_seconds": [1.0]}), "the seconds in its epochs"),
        (changed(epochs={"best": 1, "seconds": [1.0]}), "the cpu_seconds in its epochs"),
        (changed(epochs={"seconds": []}), "the best epoch is None"),
        (changed(wall_seconds=float("nan")), "wall_seconds is nan"),
        (without("candidates"), "has no candidates"),
        (without("dataset_digest"), "has no dataset_digest"),
        (damage_parquet, "truncated, or not a Parquet file"),
        (lambda folder: (folder / "ranks.parquet").unlink(), "the file is missing"),
        (lambda folder: write_ranks(folder / "ranks.parquet", [1, None, 7, 11]), "a rank is missing"),
        (ranks_of(("test", "u0", "i0", 1.0), ("test", "u1", "i1", float("nan"))), "are double and not whole numbers"),
        (ranks_of(("test", "u0", "i0", 0)), "ranks from 0 to 0"),
        (ranks_of(("test", "u0", "i0", 1), ("test", "u0", "i1", 2)), "several test targets"),
        (ranks_of(("valid", "u0", "i0", 1)), "no test targets"),
        (lambda folder: pq.write_table(pa.table({"part": ["test"]}), folder / "ranks.parquet"), "ranks.parquet"),
        (lambda folder: write_ranks(folder / "ranks.parquet", [1, 3, 7, 9]), "hit@10 = 0.75, but the ranks beside it"),
        (changed(test={"ndcg@10": None}), "ndcg@10 = None, but the ranks beside it"),
    ],
)
def test_a_damaged_run_is_reported_in_a_line_and_keeps_no_other_from_being_read(tmp_path, damage, problem):
    damage(store_run(tmp_path, "toys", "GSERec", 2020, RANKS))
    store_run(tmp_path, "toys", "SASRec", 2020, RANKS)
    damaged, other = load_runs(tmp_path)
    assert damaged.state == "damaged"
    assert problem in damaged.problem
    assert "\n" not in damaged.problem
    # The same report, wherever the folder lies.
    assert str(tmp_path) not in damaged.problem
    assert damaged.problem.startswith("runs/toys/GSERec/2020-")
    assert other.state == "finished"


def test_stored_means_may_be_of_other_metrics_and_digits(tmp_path):
    test = {**plain_metrics(RANKS, decimals=2), "averagepopularity@10": 3.5}
    store_run(tmp_path, "toys", "GSERec", 1, RANKS, test=test, settings={"metric_decimal_place": 2})
    assert load_runs(tmp_path)[0].state == "finished"


def test_a_folder_without_runs_is_refused(tmp_path):
    (tmp_path / "runs" / "toys").mkdir(parents=True)
    with pytest.raises(DataError, match="has no runs"):
        load_runs(tmp_path)


def times(day):
    return f"2026-11-{day:02d}T10:00:00+00:00"


def chosen(tmp_path):
    return choose_runs(load_runs(tmp_path))["toys", "GSERec"]


@pytest.mark.parametrize(
    "newer", [{"given": {"epochs": 50}}, {"dataset_digest": "later files"}, {"derived": {"toys.code": "later codes"}}]
)
def test_runs_of_other_settings_or_data_are_set_aside(tmp_path, newer):
    for seed in (1, 2, 3):
        store_run(tmp_path, "toys", "GSERec", seed, RANKS, key="aaaaaaaaaa", started=times(9))
    for seed in (1, 2):
        store_run(tmp_path, "toys", "GSERec", seed, RANKS, key="0000000000", started=times(10), **newer)
    cell = chosen(tmp_path)
    assert [(run.seed, run.key) for run in cell.runs] == [(1, "0000000000"), (2, "0000000000")]
    assert sorted(run.seed for run in cell.set_aside) == [1, 2, 3]


def test_the_seed_is_no_setting(tmp_path):
    for seed in (1, 2):
        store_run(tmp_path, "toys", "GSERec", seed, RANKS, given={"seed": seed, "epochs": 3})
    assert len(chosen(tmp_path).finished) == 2


def test_times_of_other_zones_are_compared_as_times(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 1, RANKS, key="a", given={"x": 1}, started="2026-11-09T23:00:00-05:00")
    store_run(tmp_path, "toys", "GSERec", 1, RANKS, key="b", given={"x": 2}, started="2026-11-10T03:00:00")
    assert [run.key for run in chosen(tmp_path).runs] == ["a"]


def test_a_run_without_a_record_shows_where_no_other_stands(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 1, RANKS)
    for seed in (1, 2):
        (tmp_path / "runs" / "toys" / "GSERec" / f"{seed}-ffffffffff").mkdir()
    cell = chosen(tmp_path)
    assert [(run.seed, run.state) for run in cell.runs] == [(1, "finished"), (2, "unfinished")]
    assert [run.seed for run in cell.set_aside] == [1]


def test_per_user_values_are_means_over_seeds(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 1, [1, 3, 11])
    store_run(tmp_path, "toys", "GSERec", 2, [3, 3, 1])
    cell = chosen(tmp_path)
    expected = [Fraction(3, 4), Fraction(1, 2), Fraction(1, 2)]
    assert cell.per_user(parse_metric("ndcg@10"), [1, 2]).tolist() == [float(value) for value in expected]
    assert cell.per_user(parse_metric("ndcg@10"), [2]).tolist() == [0.5, 0.5, 1.0]
    np.testing.assert_allclose(cell.means(parse_metric("hit@1")), [1 / 3, 1 / 3])
