"""Scores by value of each setting, recomputed from the trials."""

import json

import numpy as np
import pandas as pd
import pytest

from recbole_gserec.analyze.sensitivity import sensitivity_frame, write_sensitivity
from recbole_gserec.analyze.settings_tried import Tried, TriedSettings, read_benchmark, read_sweep
from recbole_gserec.errors import DataError
from recbole_gserec.figures import format_short
from recbole_gserec.results.metrics import parse_metric
from recbole_gserec.tune.sweep import TrialRecord
from tests.runs.stored_runs import random_ranks, store_run

GRID = [(u, h) for u in (0.1, 0.01, 1) for h in ("both", "rec_only")]


def sweep_of(folder, scores, scheduler="fifo", bigger=True, **changes):
    """A sweep of the grid; None stands for a trial that failed."""
    space = {"lambda_u_cl": {"values": [0.1, 0.01, 1]}, "his_cl": {"values": ["both", "rec_only"]}}
    sweep = {"model": "GSERec", "dataset": "toy", "space": space, "scheduler": scheduler, **changes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(sweep))
    for position, ((u, h), score) in enumerate(zip(GRID, scores, strict=True)):
        record = TrialRecord(f"t{position}", {"lambda_u_cl": u, "his_cl": h}, "finished" if score else "failed", bigger)
        record.best_score = score
        (folder / "trials" / record.trial).mkdir(parents=True)
        record.write(folder / "trials" / record.trial)
    return folder


def rows_of(frame, setting):
    return frame[frame["setting"] == setting].set_index("value")


def test_others_held_at_the_best_and_the_mean_beside(tmp_path):
    # In the order of the grid; the best is (0.01, rec_only).
    frame = sensitivity_frame(read_sweep(sweep_of(tmp_path, [0.1, 0.2, 0.3, 0.6, 0.5, 0.4])))
    u = rows_of(frame, "lambda_u_cl")
    assert u.index.tolist() == ["0.01", "0.1", "1"]
    assert u["held"].tolist() == [0.6, 0.2, 0.4]
    assert u["mean"].tolist() == pytest.approx([0.45, 0.15, 0.45])
    assert u["lowest"].tolist() == [0.3, 0.1, 0.4] and u["highest"].tolist() == [0.6, 0.2, 0.5]
    assert u["trials"].tolist() == [2, 2, 2] and u["is_best"].tolist() == [True, False, False]
    h = rows_of(frame, "his_cl")
    assert h["held"].to_dict() == {"both": 0.3, "rec_only": 0.6}
    assert h["mean"].to_dict() == pytest.approx({"both": 0.3, "rec_only": 0.4})


def test_a_smaller_score_can_be_better(tmp_path):
    frame = sensitivity_frame(read_sweep(sweep_of(tmp_path, [0.1, 0.2, 0.3, 0.6, 0.5, 0.4], bigger=False)))
    assert rows_of(frame, "lambda_u_cl")["held"].to_dict() == {"0.1": 0.1, "0.01": 0.3, "1": 0.5}


def test_no_held_score_where_the_grid_has_none(tmp_path):
    frame = sensitivity_frame(read_sweep(sweep_of(tmp_path, [0.1, None, 0.3, 0.6, 0.5, 0.4])))
    u = rows_of(frame, "lambda_u_cl")
    assert np.isnan(u.loc["0.1", "held"]) and u.loc["0.1", "mean"] == 0.1 and u.loc["0.1", "trials"] == 1
    page = write_sensitivity(read_sweep(tmp_path), tmp_path / "out").read_text()
    assert "1 of 6 trials have no score." in page and "| 0.1         |      – | 0.1000 |" in page


def test_what_a_reader_must_know_of_the_trials(tmp_path):
    folder = sweep_of(tmp_path, [0.1, 0.2, 0.3, 0.6, 0.5, 0.4], scheduler="pbt")
    record = TrialRecord.read(folder / "trials" / "t0")
    record.status = "stopped"
    record.write(folder / "trials" / "t0")
    (folder / "winner.json").write_text('{"metric": "NDCG@5"}')
    tried = read_sweep(folder)
    assert tried.metric == "NDCG@5 (validation)" and tried.title == "GSERec on toy"
    assert "1 of 6 trials were stopped early" in tried.remarks[0] and "population" in tried.remarks[1]


def test_a_range_is_put_into_bins():
    values = np.random.default_rng(0).random(60)
    trials = tuple(Tried(str(n), {"rate": float(v)}, float(v)) for n, v in enumerate(values))
    frame = sensitivity_frame(TriedSettings("", "score", True, ("rate",), trials))
    assert frame["trials"].tolist() == [10] * 6
    ordered = np.sort(values).reshape(6, 10)
    assert frame["mean"].to_numpy() == pytest.approx(ordered.mean(1))
    assert frame["value"].tolist() == [f"{low:.3g} to {high:.3g}" for low, high in ordered[:, [0, -1]]]
    assert frame["held"].iloc[-1] == pytest.approx(values.max()) and frame["is_best"].tolist() == [False] * 5 + [True]


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 1}'])
def test_a_damaged_sweep(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(DataError, match=r"sweep\.json: damaged"):
        read_sweep(tmp_path)


def test_no_sweep_and_no_score(tmp_path):
    with pytest.raises(DataError, match="there is no sweep here"):
        read_sweep(tmp_path)
    with pytest.raises(DataError, match="no trial has a score"):
        read_sweep(sweep_of(tmp_path, [None] * 6))


def test_runs_of_several_settings_are_averaged_over_seeds(tmp_path):
    ranks = {}
    for weight in (0.1, 1.0):
        for seed in (1, 2):
            ranks[weight, seed] = random_ranks(seed + int(10 * weight), n=30)
            key = f"{weight}{seed}".replace(".", "x")
            given = {"epochs": 5, "lambda_u_cl": weight, "seed": seed}
            store_run(tmp_path, "toy", "GSERec", seed, ranks[weight, seed].tolist(), key=key, given=given)
    # A run on other candidates is not one of them.
    other = {"given": {"epochs": 5, "lambda_u_cl": 7.0}, "candidates": {"test": "x", "mode": "uni99"}}
    store_run(tmp_path, "toy", "GSERec", 0, random_ranks(9, n=30).tolist(), key="other", **other)
    tried = read_benchmark(tmp_path, "GSERec", None, parse_metric("HR@10"))
    assert tried.names == ("lambda_u_cl",) and tried.metric == "HR@10 (test)"
    assert tried.remarks == ("1 runs on other data or candidates than the newest are left out.",)
    frame = rows_of(sensitivity_frame(tried), "lambda_u_cl")
    for weight, value in ((0.1, "0.1"), (1.0, "1")):
        expected = np.mean([(ranks[weight, seed] <= 10).mean() for seed in (1, 2)])
        assert frame.loc[value, "mean"] == pytest.approx(expected)


def test_of_runs_with_the_same_settings_and_seed_the_newest_counts(tmp_path):
    """Codes may have been made anew between them; times of two zones are compared as times."""
    for weight in (0.1, 1.0):
        given = {"epochs": 5, "lambda_u_cl": weight}
        changes = {"given": given, "derived": {"toy.code": "old"}, "started": "2026-11-01T09:00:00+09:00"}
        store_run(tmp_path, "toy", "GSERec", 1, [1, 1], key=f"old{int(weight)}", **changes)
    changes |= {"derived": {"toy.code": "new"}, "started": "2026-11-01T01:00:00+00:00"}
    store_run(tmp_path, "toy", "GSERec", 1, [1, 50], key="new", **changes)
    tried = read_benchmark(tmp_path, "GSERec", None, parse_metric("HR@10"))
    assert {trial.settings["lambda_u_cl"]: trial.score for trial in tried.trials} == {0.1: 1.0, 1.0: 0.5}
    assert len(tried.remarks) == 1 and tried.remarks[0].startswith("1 runs are left out")


def test_runs_that_say_nothing_of_settings(tmp_path):
    for seed in (1, 2):
        store_run(tmp_path, "toy", "GSERec", seed, [1, 2], given={"epochs": 5})
    with pytest.raises(DataError, match="all runs of GSERec have the same settings"):
        read_benchmark(tmp_path, "GSERec", None, parse_metric("HR@10"))
    with pytest.raises(DataError, match="no finished runs of SASRec"):
        read_benchmark(tmp_path, "SASRec", None, parse_metric("HR@10"))
    store_run(tmp_path, "shop", "GSERec", 1, [1, 2])
    with pytest.raises(DataError, match="Name one of them with --dataset"):
        read_benchmark(tmp_path, "GSERec", None, parse_metric("HR@10"))


def test_the_same_sweep_gives_the_same_bytes(tmp_path):
    tried = read_sweep(sweep_of(tmp_path / "sweep", [0.1, 0.2, 0.3, 0.6, 0.5, 0.4]))
    for name in ("one", "other"):
        write_sensitivity(tried, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["sensitivity.csv", "sensitivity.md", "sensitivity.pdf", "sensitivity.png"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert len(pd.read_csv(tmp_path / "one" / "sensitivity.csv")) == 5


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.0001, "1e-4"), (2.5e-5, "2.5e-5"), (0.1, "0.1"), (20, "20")])
def test_short_numbers(value, text):
    assert format_short(value) == text
