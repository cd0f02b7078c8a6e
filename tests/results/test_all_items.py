"""Both rankings of the same targets in a report, of stored toy runs."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from recbole_gserec.results import report
from recbole_gserec.results.report import write_report
from tests.runs.stored_runs import random_ranks, store_run

SKILLS = {"LightGCN": (1.2, 2.0), "SASRec": (2.5, 1.5), "GSERec": (3.0, 3.0)}


@pytest.fixture(autouse=True)
def no_figure(monkeypatch):
    """No figure, which takes longer than all else."""
    monkeypatch.setattr(report, "write_figure", lambda *_: None)
    monkeypatch.setattr(report, "draw", lambda *_: None)


def gains(ranks):
    return np.array([1 / np.log2(rank + 1) if rank <= 10 else 0.0 for rank in ranks])


def store(output, n_among_all=lambda model, seed: 40):
    """Runs with ranks of 150 users by lists, and of the last ones among all items; returns both."""
    stored = {}
    for model, (by_lists, by_all) in SKILLS.items():
        for seed in (1, 2):
            ranks = random_ranks(seed + 10 * len(model), 150, by_lists)
            size = n_among_all(model, seed)
            users = range(150 - size, 150)
            among_all = dict(zip(users, random_ranks(seed + len(model), size, by_all).tolist(), strict=True))
            store_run(output, "toys", model, seed, ranks, among_all=among_all)
            stored[model, seed] = ranks, among_all
    return stored


def test_both_rankings_are_those_of_plain_numpy(tmp_path):
    stored = store(tmp_path)
    page = write_report(tmp_path)
    frame = pd.read_csv(page.parent / "all_items.csv").set_index("model")
    means = {}
    for model in SKILLS:
        lists = np.mean([gains(stored[model, seed][0][-40:]).mean() for seed in (1, 2)])
        among_all = np.mean([gains(stored[model, seed][1].values()).mean() for seed in (1, 2)])
        means[model] = lists, among_all
        row = frame.loc[model]
        assert (row["mean_lists"], row["mean_all"]) == (pytest.approx(lists), pytest.approx(among_all))
        assert row["low_all"] < among_all < row["high_all"] and row["low_lists"] < lists < row["high_lists"]
        assert (row["n_users"], row["seeds"]) == (40, "1 2")
    agreeing = [np.sign((means[a][0] - means[b][0]) * (means[a][1] - means[b][1])) for a, b in combinations(SKILLS, 2)]
    assert frame["kendall_tau"].unique().tolist() == [pytest.approx(np.mean(agreeing))]
    assert -1 < np.mean(agreeing) < 1
    for index, side in enumerate(("lists", "all")):
        order = sorted(means, key=lambda model: -means[model][index])  # noqa: B023
        assert [int(frame.loc[model, f"position_{side}"]) for model in order] == [1, 2, 3]
    text = page.read_text()
    assert "## Among all items" in text and "### toys, NDCG@10, 40 users" in text
    assert f"Kendall's tau of the two orders: {np.mean(agreeing):.2f}." in text


def test_users_that_all_runs_have_count(tmp_path):
    stored = store(tmp_path, lambda model, seed: 40 if model == "SASRec" else 60 + seed)
    frame = pd.read_csv(write_report(tmp_path).parent / "all_items.csv").set_index("model")
    assert frame["n_users"].tolist() == [40] * 3
    own = [gains(list(stored["GSERec", seed][1].values())[-40:]).mean() for seed in (1, 2)]
    assert frame.loc["GSERec", "mean_all"] == pytest.approx(np.mean(own))


def test_runs_without_such_ranks_are_left_out_and_files_of_earlier_reports_removed(tmp_path):
    store(tmp_path, lambda model, seed: 0 if model == "SASRec" or seed == 2 else 40)
    page = write_report(tmp_path)
    frame = pd.read_csv(page.parent / "all_items.csv").set_index("model")
    assert (sorted(frame.index), frame["seeds"].tolist()) == (["GSERec", "LightGCN"], [1, 1])
    write_report(tmp_path, models=["SASRec"])
    assert "Among all items" not in page.read_text()
    assert not list(page.parent.glob("all_items.*"))
