"""Results by group of users, recomputed by hand."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recbole_gserec.analyze.group_results import _relative_intervals, parse_groups
from recbole_gserec.analyze.groups import Grouping, analyze_groups
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.results.metrics import parse_metric
from tests.analyze.grouped_runs import USERS, make_data, store, training_searches

GROUPS = Grouping("searches", parse_groups("0,1-3,4-"))
NDCG = parse_metric("NDCG@5")


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "dataset")


def analyzed(tmp_path, data, **options):
    options = {"grouping": GROUPS, **options}
    page = analyze_groups(tmp_path / "out", options.pop("model", "GSERec"), data_path=data, **options)
    return page.read_text(), pd.read_csv(page.with_suffix(".csv"))


def ndcg(ranks):
    return np.array([1 / np.log2(rank + 1) if rank <= 5 else 0.0 for rank in ranks])


def test_a_groups_improvement_by_hand(tmp_path, data):
    ours = [store(tmp_path / "out", data, "GSERec", seed) for seed in (1, 2)]
    theirs = [store(tmp_path / "out", data, "SASRec", seed) for seed in (1, 2)]
    text, frame = analyzed(tmp_path, data)
    counts = training_searches()
    a, b = (sum(map(ndcg, runs)) / 2 for runs in (ours, theirs))
    members = {"0": counts == 0, "1-3": (counts >= 1) & (counts <= 3), ">3": counts > 3, "all users": counts >= 0}
    assert all(chosen.sum() >= 5 for chosen in members.values())
    for name, chosen in members.items():
        own = frame[frame["group"] == name].set_index("model")
        assert own["users"].tolist() == [chosen.sum()] * 2
        assert own.loc["GSERec", "mean"] == pytest.approx(a[chosen].mean())
        row = own.loc["SASRec"]
        assert row["mean"] == pytest.approx(b[chosen].mean())
        assert row["difference"] == pytest.approx(a[chosen].mean() - b[chosen].mean())
        assert row["relative_percent"] == pytest.approx(100 * (a[chosen].mean() / b[chosen].mean() - 1))
        assert row["t_p"] == pytest.approx(stats.ttest_rel(a[chosen], b[chosen]).pvalue)
        # By other random numbers: ends agree as far as 10,000 resamples do.
        generator = np.random.default_rng(5)
        picks = generator.integers(chosen.sum(), size=(10_000, chosen.sum()))
        above, below = (
            # Of two seeds each resample has both, or one of them twice.
            sum(
                np.stack([ndcg(run[chosen])[picks].mean(1) for run in runs])[
                    generator.integers(2, size=10_000), range(10_000)
                ]
                for _ in range(2)
            )
            / 2
            for runs in (ours, theirs)
        )
        if (below > 0).all():
            ratios = 100 * (above / below - 1)
            ends = np.percentile(ratios, [2.5, 97.5])
            assert [row["relative_low"], row["relative_high"]] == pytest.approx(ends, rel=0.1, abs=3)
            assert f"{row['relative_low']:+.2f} to {row['relative_high']:+.2f} %" in text
    assert sum(chosen.sum() for chosen in members.values()) == 2 * len(USERS)


def test_corrected_p_values_are_for_all_groups_and_models(tmp_path, data):
    for model in ("GSERec", "SASRec", "GRU4Rec"):
        store(tmp_path / "out", data, model, 1)
    _, frame = analyzed(tmp_path, data)
    rows = frame[frame["t_p"].notna() & (frame["group"] != "all users")]
    p = rows["t_p"].to_numpy()
    # Holm by its definition: the k-th smallest of m times m - k + 1, never falling.
    expected, highest = {}, 0.0
    for position, index in enumerate(np.argsort(p, kind="stable")):
        highest = max(highest, min(1.0, p[index] * (len(p) - position)))
        expected[index] = highest
    assert len(p) == 6
    assert rows["t_p_holm"].to_numpy() == pytest.approx([expected[position] for position in range(6)])
    ordered = np.sort(p)
    shares = [min(p * 6 / place for place, p in enumerate(ordered, start=1) if p >= own) for own in rows["t_p"]]
    assert rows["t_p_bh"].to_numpy() == pytest.approx(shares)
    overall = frame[(frame["group"] == "all users") & frame["t_p"].notna()].sort_values("t_p")
    assert overall["t_p_holm"].iloc[0] == pytest.approx(min(1, 2 * overall["t_p"].iloc[0]))


def test_other_candidates_are_refused_as_in_the_benchmark(tmp_path, data):
    store(tmp_path / "out", data, "GSERec", 1)
    store(tmp_path / "out", data, "SASRec", 1)
    store(tmp_path / "out", data, "GRU4Rec", 1, candidates={"test": "others", "mode": "uni99"})
    text, frame = analyzed(tmp_path, data)
    assert "Not compared: GRU4Rec (the candidate lists of seed 1 differ)." in text
    assert set(frame["model"]) == {"GSERec", "SASRec"}
    with pytest.raises(DataError, match="GRU4Rec: not comparable with GSERec: the candidate lists of seed 1 differ"):
        analyzed(tmp_path, data, baselines=["GRU4Rec"])


def test_an_only_baseline_that_is_not_comparable(tmp_path, data):
    store(tmp_path / "out", data, "GSERec", 1)
    store(tmp_path / "out", data, "SASRec", 2)
    with pytest.raises(DataError, match="no model to compare GSERec with"):
        analyzed(tmp_path, data)


def test_files_that_are_not_those_of_the_runs(tmp_path, data):
    for model in ("GSERec", "SASRec"):
        store(tmp_path / "out", data, model, 1, dataset_digest="another")
    with pytest.raises(DataError, match="have changed since the runs were made"):
        analyzed(tmp_path, data)


def test_models_and_datasets_that_there_are_not(tmp_path, data):
    store(tmp_path / "out", data, "GSERec", 1)
    store(tmp_path / "out", data, "SASRec", 1)
    with pytest.raises(SettingError, match="has no finished run of --model .*: did you mean 'GSERec'"):
        analyzed(tmp_path, data, model="GSERek")
    with pytest.raises(SettingError, match="no finished run of --baseline 'UniSAR'"):
        analyzed(tmp_path, data, baselines=["UniSAR"])
    with pytest.raises(SettingError, match="--baseline is 'GSERec', which is the model itself"):
        analyzed(tmp_path, data, baselines=["GSERec"])
    with pytest.raises(SettingError, match="no finished run of GSERec on --dataset 'shop'"):
        analyzed(tmp_path, data, datasets=["shop"])


def test_a_group_without_users_and_users_without_a_group(tmp_path, data):
    for model in ("GSERec", "SASRec"):
        store(tmp_path / "out", data, model, 1)
    text, frame = analyzed(tmp_path, data, grouping=Grouping("searches", parse_groups("1-3,900-")))
    counts = training_searches()
    outside = ((counts < 1) | (counts > 3)).sum()
    assert f"{outside} users are in none of the groups" in text
    empty = frame[frame["group"] == ">899"]
    assert empty["users"].tolist() == [0, 0] and empty["mean"].isna().all() and empty["difference"].isna().all()


def test_no_interval_where_the_other_model_can_have_nothing(tmp_path, data):
    ranks = np.full(40, 50)
    ranks[0] = 1
    store(tmp_path / "out", data, "GSERec", 1)
    store(tmp_path / "out", data, "SASRec", 1, ranks)
    _, frame = analyzed(tmp_path, data, grouping=Grouping("searches", parse_groups("0-")))
    row = frame[(frame["group"] == "all users") & (frame["model"] == "SASRec")].iloc[0]
    # One user of 40 is missing from e^-1 of the resamples.
    assert np.isnan(row["relative_low"]) and np.isfinite(row["low"]) and np.isfinite(row["relative_percent"])


@pytest.mark.parametrize(
    ("n_unbounded", "n_nothing", "expected"),
    [
        (0, 0, (25, 975)),
        (20, 0, (25, 975)),
        # Nothing in both may be any improvement, the worst one too.
        (0, 20, (5, 975)),
        (10, 10, (15, 975)),
        (30, 0, None),
        (0, 30, None),
    ],
)
def test_the_interval_of_a_ratio_has_bounds_if_few_resamples_have_none(monkeypatch, n_unbounded, n_nothing, expected):
    """Of 1,001 resamples, some give the other model nothing."""
    n_known = 1001 - n_unbounded - n_nothing
    ours = np.concatenate([1 + np.arange(n_known) / 100, np.ones(n_unbounded), np.zeros(n_nothing)])
    theirs = np.concatenate([np.ones(n_known), np.zeros(n_unbounded + n_nothing)])
    order = np.random.default_rng(2).permutation(1001)
    means = np.stack([ours, theirs], axis=1)[order]
    sides = means[:, :1], means[:, 1:]
    monkeypatch.setattr("recbole_gserec.analyze.group_results.crossed_means", lambda pairs: sides)
    cell = SimpleNamespace(finished={1: None}, per_seed=lambda metric, seeds: np.ones((1, 3)))
    found = _relative_intervals(cell, [cell], [NDCG])
    ends = [found["relative_low"][0], found["relative_high"][0]]
    if expected is None:
        assert np.isnan(ends).all()
    else:
        # The percentiles 2.5 and 97.5 of 1,001 are the 26th and the 976th.
        assert ends == pytest.approx(expected)


def test_results_of_different_code_are_reported(tmp_path, data):
    store(tmp_path / "out", data, "GSERec", 1)
    store(tmp_path / "out", data, "SASRec", 1)
    git = {"commit": "b" * 40, "dirty": False}
    # Of a model that is not compared it does not matter.
    store(tmp_path / "out", data, "NARM", 1, git=git, candidates={"test": "others", "mode": "uni99"})
    assert "same code" not in analyzed(tmp_path, data)[0]
    store(tmp_path / "out", data, "GRU4Rec", 1, git=git)
    assert "toy: not all results were made with the same code" in analyzed(tmp_path, data)[0]


def test_another_kind_of_events():
    with pytest.raises(SettingError, match="--by is 'clicks'; it must be searches or interactions"):
        Grouping("clicks")


def test_the_order_of_rows_and_of_runs_changes_nothing(tmp_path, data):
    order = np.random.default_rng(1).permutation(40)
    for folder, permuted in (("one", None), ("other", order)):
        for model in ("GSERec", "SASRec"):
            store(tmp_path / folder, data, model, 1, order=permuted)
        analyze_groups(tmp_path / folder, "GSERec", data_path=data, grouping=GROUPS)
    one, other = (tmp_path / folder / "analyze" / "groups" for folder in ("one", "other"))
    assert {path.name for path in one.iterdir()} == {"groups.csv", "groups.md", "groups.png", "groups.pdf"}
    for path in one.iterdir():
        assert digest(path) == digest(other / path.name), path.name


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_quantiles_by_interactions_and_several_metrics(tmp_path, data):
    for model in ("GSERec", "SASRec"):
        store(tmp_path / "out", data, model, 1)
    metrics = (parse_metric("HR@10"), NDCG)
    text, frame = analyzed(tmp_path, data, grouping=Grouping("interactions", None, 3), metrics=metrics)
    assert "### HR@10: means" in text and "### NDCG@5: means" in text and "training interactions" in text
    groups = frame.drop_duplicates("group").set_index("group")["users"]
    assert len(groups) == 4 and groups.drop("all users").between(11, 16).all() and groups["all users"] == 40
