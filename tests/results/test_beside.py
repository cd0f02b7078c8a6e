"""Two folders side by side, of stored toy runs."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from recbole_gserec.errors import DataError
from recbole_gserec.results import report
from recbole_gserec.results.report import write_report
from tests.runs.stored_runs import random_ranks, store_run

PAPER = {"LightGCN": 1.2, "SASRec": 2.5, "UniSAR": 2.0, "GSERec": 3.0}
ONE_LOSS = {"LightGCN": 1.2, "SASRec": 1.6, "UniSAR": 2.6, "GSERec": 3.2}


@pytest.fixture(autouse=True)
def no_figure(monkeypatch):
    """No figure, which takes longer than all else."""
    monkeypatch.setattr(report, "write_figure", lambda *_: None)
    monkeypatch.setattr(report, "draw", lambda *_: None)


def store(output, skills, loss=None, seeds=(1, 2), **changes):
    """Runs of models, stored with ranks of some skill; returns the ranks by model and seed."""
    stored = {}
    for model, skill in skills.items():
        for seed in seeds:
            ranks = stored[model, seed] = random_ranks(seed + 10 * len(model), 150, skill)
            settings = {"metric_decimal_place": 4, **({"loss_type": loss} if loss else {})}
            store_run(output, "toys", model, seed, ranks, settings=settings, **changes)
    return stored


def frame_of(one, other):
    page = write_report(one, beside=other)
    return pd.read_csv(page.parent / "beside.csv").set_index("model")


def gains(ranks):
    return np.array([1 / np.log2(rank + 1) if rank <= 10 else 0.0 for rank in ranks])


def test_means_differences_and_orders_are_those_of_plain_numpy(tmp_path):
    one, other = store(tmp_path / "a", PAPER), store(tmp_path / "b", ONE_LOSS, "BCE")
    frame = frame_of(tmp_path / "a", tmp_path / "b")
    values = {
        model: [np.mean([gains(ranks[model, seed]) for seed in (1, 2)], axis=0) for ranks in (one, other)]
        for model in PAPER
    }
    means = {model: [per_user.mean() for per_user in both] for model, both in values.items()}
    for model, (mean_a, mean_b) in means.items():
        row = frame.loc[model]
        assert (row["mean_a"], row["mean_b"]) == (pytest.approx(mean_a), pytest.approx(mean_b))
        assert row["difference"] == pytest.approx(mean_a - mean_b)
        assert row["low_a"] < mean_a < row["high_a"] and row["low_b"] < mean_b < row["high_b"]
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
        for index, side in enumerate("ab"):
            ahead = sum(both[index] > means[model][index] for both in means.values())
            assert row[f"position_{side}"] == 1 + ahead
    signs = [
        np.sign((means[one][0] - means[two][0]) * (means[one][1] - means[two][1]))
        for one, two in combinations(means, 2)
    ]
    assert -1 in signs and 1 in signs
    assert set(frame["kendall_tau"].round(9)) == {round(sum(signs) / len(signs), 9)}
    # LightGCN has the same ranks on both sides.
    assert frame.loc["LightGCN", "p"] == 1 and frame.loc["SASRec", "difference_low"] > 0
    assert (frame["n_users"] == 150).all() and (frame["seeds"] == "1 2").all()


def test_losses_stand_beside_the_means(tmp_path):
    store(tmp_path / "a", PAPER)
    store(tmp_path / "b", ONE_LOSS, "BCE")
    frame = frame_of(tmp_path / "a", tmp_path / "b")
    assert frame[["loss_a", "loss_b"]].T.to_dict("list") == {
        "LightGCN": ["BPR", "BPR"],
        "SASRec": ["own", "BCE"],
        "UniSAR": ["BCE", "BCE"],
        "GSERec": ["BCE", "BCE"],
    }
    page = (tmp_path / "a" / "report" / "report.md").read_text()
    own = (tmp_path / "a" / "report" / "beside.md").read_text().split("\n", 2)[2]
    assert own.strip() in page and "### toys, NDCG@10" in own and f"B is {tmp_path / 'b'}".replace("_", r"\_") in own
    tau = frame["kendall_tau"].iloc[0]
    assert f"Kendall's tau of the two orders: {tau:.2f}." in own


def test_only_common_seeds_count(tmp_path):
    one = store(tmp_path / "a", {"GSERec": 3.0}, seeds=(1, 2, 3))
    store(tmp_path / "a", {"UniSAR": 3.0}, seeds=(1,))
    store(tmp_path / "b", {"GSERec": 2.0}, seeds=(2, 3))
    store(tmp_path / "b", {"UniSAR": 3.0}, seeds=(2,))
    store_run(tmp_path / "b", "toys", "KAR", 1)
    frame = frame_of(tmp_path / "a", tmp_path / "b")
    assert list(frame.index) == ["GSERec"] and frame.loc["GSERec", "seeds"] == "2 3"
    assert frame.loc["GSERec", "mean_a"] == pytest.approx(np.mean([gains(one["GSERec", seed]) for seed in (2, 3)]))
    assert np.isnan(frame.loc["GSERec", "kendall_tau"])
    page = (tmp_path / "a" / "report" / "beside.md").read_text()
    assert "Not compared: UniSAR (both folders need a finished run with a common seed)." in page


def test_one_seed_is_compared_over_users(tmp_path):
    one, other = (store(tmp_path / name, skills, seeds=(1,)) for name, skills in (("a", PAPER), ("b", ONE_LOSS)))
    frame = frame_of(tmp_path / "a", tmp_path / "b")
    differences = gains(one["SASRec", 1]) - gains(other["SASRec", 1])
    half = 1.96 * differences.std(ddof=1) / len(differences) ** 0.5
    low, high = frame.loc["SASRec", ["difference_low", "difference_high"]]
    assert (low, high) == (
        pytest.approx(differences.mean() - half, abs=half / 5),
        pytest.approx(differences.mean() + half, abs=half / 5),
    )


def test_a_model_on_other_candidates_than_the_table_is_left_out(tmp_path):
    own = {"candidates": {"test": "others", "mode": "uni99"}}
    for folder in ("a", "b"):
        store(tmp_path / folder, {"GSERec": 3.0, "SASRec": 2.0})
        store(tmp_path / folder, {"UniSAR": 2.5}, **own)
    assert set(frame_of(tmp_path / "a", tmp_path / "b").index) == {"SASRec", "GSERec"}
    assert "Not compared: UniSAR (not ranked in the table)." in (tmp_path / "a" / "report" / "beside.md").read_text()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"candidates": {"test": "others", "mode": "uni99"}}, "the candidate lists of seed 1 differ"),
        ({"candidates": {"test": None, "mode": "full"}}, "uni99 and full are different evaluations"),
        ({"dataset_digest": "other files"}, "the dataset's files differ"),
        ({"items": [f"j{user}" for user in range(150)]}, "the users or targets of seed 1 differ"),
        ({"users": [f"v{user}" for user in range(150)]}, "the users or targets of seed 1 differ"),
    ],
)
def test_other_data_targets_or_candidates_are_refused(tmp_path, changes, reason):
    store(tmp_path / "a", {"GSERec": 3.0})
    store(tmp_path / "b", {"GSERec": 2.0}, **changes)
    with pytest.raises(DataError) as error:
        write_report(tmp_path / "a", beside=tmp_path / "b")
    assert str(error.value) == (
        f"{tmp_path / 'b'}: GSERec on toys cannot be put beside {tmp_path / 'a'}: {reason}. Both folders need the same "
        "dataset files, split and candidates"
    )
    # The report itself is written.
    names = {path.name for path in (tmp_path / "a" / "report").iterdir()}
    assert "report.md" in names and not names & {"beside.md", "beside.csv"}


def test_a_folder_without_such_runs_is_refused(tmp_path):
    store(tmp_path / "a", {"GSERec": 3.0})
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="has no runs"):
        write_report(tmp_path / "a", beside=tmp_path / "b")
    store(tmp_path / "b", {"SASRec": 3.0})
    with pytest.raises(DataError, match="no model has a finished run with a common seed here and in"):
        write_report(tmp_path / "a", beside=tmp_path / "b")


def test_a_later_report_of_one_folder_has_no_files_of_two(tmp_path):
    store(tmp_path / "a", {"GSERec": 3.0, "SASRec": 2.0})
    page = write_report(tmp_path / "a", beside=tmp_path / "a")
    assert "## Side by side" in page.read_text()
    assert {path.name for path in page.parent.glob("beside.*")} == {"beside.md", "beside.csv"}
    assert "## Side by side" not in write_report(tmp_path / "a").read_text()
    assert not list(page.parent.glob("beside.*"))
