"""Table 3: which runs are made, and what is made of them."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recbole_gserec.analyze import ablation as module
from recbole_gserec.analyze.ablation import (
    FULL,
    VARIANTS,
    AblationRequest,
    analyze_ablation,
    chosen_variants,
    variant_code_settings,
)
from recbole_gserec.analyze.groups import Grouping
from recbole_gserec.errors import DataError, GSERecError, SettingError
from recbole_gserec.results.metrics import parse_metric
from recbole_gserec.runs.plan import plan_entries
from recbole_gserec.runs.run_store import Run, Spec
from recbole_gserec.settings.offline import PreprocessSettings
from tests.analyze.grouped_runs import make_data, store, training_searches
from tests.runs.stored_runs import random_ranks, store_run

LABELS = ["GSERec", "w/o L_RQ-CL", "w/o U-C Graph", "w/o L_U-CL", "w/o L_His-CL", "w/o MCA"]
RQ_CL, _, U_CL, *_ = VARIANTS


@pytest.fixture
def data(tmp_path):
    folder = make_data(tmp_path / "dataset")
    write_code_record(folder)
    return folder


def write_code_record(data, **changes):
    settings = {**PreprocessSettings().model_dump(), **changes}
    record = {"settings": settings, "summarizer": {"name": "template", "settings": {}}}
    (data / "toy" / "toy.code.json").write_text(json.dumps(record))


@pytest.fixture
def trained(monkeypatch, tmp_path, data):
    """Stands for the training: a run for each seed, or a failure if ``fails`` has the label's index."""

    class Trained:
        def __init__(self):
            self.requests, self.ranks, self.fails, self.titles = [], {}, (), []

    calls = Trained()

    def plan(request, output):
        index = len(calls.requests)
        calls.requests.append(request)
        runs = [Run("toy", "digest", "GSERec", seed, {"index": index}) for seed in request.seeds]
        return [Spec(run, run.folder(output), data, {}) for run in runs]

    def make_runs(specs, output, make_pool, *, title_of):
        calls.titles = [title_of(spec) for spec in specs]
        for spec in specs:
            index, seed, key = spec.run.requested["index"], spec.run.seed, spec.run.key
            if index in calls.fails:
                store_run(output, "toy", "GSERec", seed, key=key)
                continue
            ranks = random_ranks(100 * index + seed, n=40, skill=4 - 0.5 * index)
            calls.ranks[index, seed] = store(output, data, "GSERec", seed, ranks, key=key)

    monkeypatch.setattr(module, "plan_runs", plan)
    monkeypatch.setattr(module, "make_runs", make_runs)
    return calls


def request_of(tmp_path, data, **changes):
    arguments = {"settings": {"epochs": 3}, "grouping": Grouping("searches", None, 2), **changes}
    return AblationRequest("toy", [1, 2], data, tmp_path / "abl", **arguments)


def test_each_variant_takes_out_one_part(tmp_path, data, trained):
    analyze_ablation(request_of(tmp_path, data))
    settings = [request.settings for request in trained.requests]
    assert settings[0] == {"epochs": 3}
    assert settings[2:] == [
        {"epochs": 3, "use_user_code_graph": False},
        {"epochs": 3, "lambda_u_cl": 0.0},
        {"epochs": 3, "lambda_his_cl": 0.0},
        {"epochs": 3, "use_code_fusion": False},
    ]
    prefix = data / "toy" / "toy"
    path = settings[1].pop("code_path")
    assert settings[1] == {"epochs": 3, "lambda_rq_cl": 0.0, "preprocess_store": f"{prefix}.preprocess.sqlite3"}
    assert path.startswith(f"{tmp_path}/abl/codes/toy-") and path.endswith(".code")
    for request in trained.requests:
        # What the benchmark would refuse, it refuses here.
        assert [entry.model for entry in plan_entries(request)] == ["GSERec"]
    # Made together, so that a pool can make several at once.
    assert trained.titles == [f"{label} on toy, seed {seed}" for seed in (1, 2) for label in LABELS]


def test_table_and_tests(tmp_path, data, trained):
    page, unfinished = analyze_ablation(request_of(tmp_path, data))
    assert unfinished == 0
    table = pd.read_csv(page.with_suffix(".csv")).set_index(["model", "metric"])
    assert list(table.index.unique("model")) == LABELS

    def ndcg5(index, seed):
        return np.where(trained.ranks[index, seed] <= 5, 1 / np.log2(trained.ranks[index, seed] + 1), 0)

    for index, label in enumerate(LABELS):
        means = [ndcg5(index, seed).mean() for seed in (1, 2)]
        row = table.loc[label, "ndcg@5"]
        assert [row["mean"], row["deviation"]] == pytest.approx([np.mean(means), np.std(means, ddof=1)])
    tests = pd.read_csv(page.parent / "significance.csv")
    own = tests[tests["metric"] == "ndcg@5"].set_index("model")
    full, other = ((ndcg5(index, 1) + ndcg5(index, 2)) / 2 for index in (0, 5))
    assert own.loc["w/o MCA", "t_p"] == pytest.approx(stats.ttest_rel(full, other).pvalue)
    assert own.loc["w/o MCA", "difference"] == pytest.approx((full - other).mean())
    groups = pd.read_csv(page.parent / "groups.csv")
    chosen = training_searches() <= np.quantile(training_searches(), 0.5, method="inverted_cdf")
    row = groups[(groups["model"] == "w/o MCA") & (groups["fewest"] == 0) & groups["most"].notna()].iloc[0]
    assert row["users"] == chosen.sum()
    assert row["difference"] == pytest.approx((full - other)[chosen].mean())
    text = page.read_text()
    # There are two seeds: what decides counts them.
    stars = tests[tests["two_way_p_holm"] < 0.05]
    assert len(stars) and text.count(r"\*") - 1 == len(stars) == tests["beyond_chance"].sum()
    assert (page.parent / "groups.png").is_file() and r"w/o L\_RQ-CL" in text


def test_a_variant_that_fails_is_reported(tmp_path, data, trained):
    trained.fails = (2,)
    page, unfinished = analyze_ablation(request_of(tmp_path, data))
    text = page.read_text()
    assert unfinished == 2 and "w/o U-C Graph, seed 1: failed (ValueError: boom)." in text
    assert "| w/o U-C Graph " in text and pd.read_csv(page.with_suffix(".csv"))["mean"].isna().sum() == 5


def test_without_the_full_model_there_is_nothing_to_compare(tmp_path, data, trained):
    trained.fails = (0,)
    with pytest.raises(GSERecError, match="the full model has no finished run.*boom"):
        analyze_ablation(request_of(tmp_path, data))


def test_some_variants_alone(tmp_path, data, trained):
    analyze_ablation(request_of(tmp_path, data, variants=chosen_variants(["mca", "u-cl"])))
    assert [dict(request.settings) for request in trained.requests[1:]] == [
        {"epochs": 3, "lambda_u_cl": 0.0},
        {"epochs": 3, "use_code_fusion": False},
    ]
    with pytest.raises(SettingError, match="--without is 'x'; it must be one of rq-cl, graph, u-cl, his-cl, mca"):
        chosen_variants(["x"])


def test_controls_are_trained_if_they_are_named(tmp_path, data, trained):
    analyze_ablation(request_of(tmp_path, data, variants=chosen_variants(["links", "codes", "graph"])))
    assert [dict(request.settings) for request in trained.requests[1:]] == [
        {"epochs": 3, "use_user_code_graph": False},
        {"epochs": 3, "code_users": "permuted"},
        {"epochs": 3, "n_graph_layers": 0, "use_code_fusion": False, "lambda_u_cl": 0.0, "lambda_his_cl": 0.0},
    ]
    # One setting in common leaves a difference.
    analyze_ablation(
        request_of(tmp_path / "2", data, variants=chosen_variants(["links"]), settings={"n_graph_layers": 0})
    )


def test_settings_that_leave_nothing_to_take_out(tmp_path, data, trained):
    with pytest.raises(SettingError, match="lambda_u_cl is 0, so the full model is the same as 'w/o L_U-CL'"):
        analyze_ablation(request_of(tmp_path, data, settings={"lambda_u_cl": 0}))
    with pytest.raises(SettingError, match="code_path is set"):
        analyze_ablation(request_of(tmp_path, data, settings={"code_path": "x.code"}))
    assert not trained.requests


def test_the_folder_of_a_benchmark_is_refused(tmp_path, data, trained):
    store(tmp_path / "abl", data, "SASRec", 1)
    with pytest.raises(SettingError, match="has runs of SASRec; an ablation needs its own folder"):
        analyze_ablation(request_of(tmp_path, data))


def test_the_folder_of_a_benchmark_of_the_model_alone_is_refused(tmp_path, data, trained):
    store(tmp_path / "abl", data, "GSERec", 1)
    (tmp_path / "abl" / "report").mkdir()
    with pytest.raises(SettingError, match="has the report of a benchmark; an ablation needs its own folder"):
        analyze_ablation(request_of(tmp_path, data))
    assert not trained.requests


def test_codes_of_which_too_little_is_known_are_reported_before_the_training(tmp_path, data, trained):
    (data / "toy" / "toy.code.json").unlink()
    with pytest.raises(DataError, match="it is not known how the codes were made"):
        analyze_ablation(request_of(tmp_path, data))
    assert not trained.requests
    # Codes that are not there yet are made when the full model is planned.
    (data / "toy" / "toy.code").unlink()
    with pytest.raises(DataError, match="it is not known how the codes were made"):
        analyze_ablation(request_of(tmp_path, data))
    assert len(trained.requests) == 1


def test_codes_differ_in_one_setting_from_the_datasets_own(tmp_path, data):
    write_code_record(data, lambda_rq_cl=0.1, n_codebooks=3, encoder="flag:x", rq_hidden_sizes=[16])
    settings = variant_code_settings(RQ_CL, "toy", data, tmp_path)
    path = settings.pop("code_path")
    assert settings == {
        "preprocess_store": str(data / "toy" / "toy.preprocess.sqlite3"),
        "lambda_rq_cl": 0.0,
        "n_codebooks": 3,
        "encoder": "flag:x",
        "rq_hidden_sizes": [16],
    }
    write_code_record(data, n_codebooks=5)
    assert variant_code_settings(RQ_CL, "toy", data, tmp_path)["code_path"] != path


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda path: path.unlink(), "file not found: it is not known how the codes were made"),
        (lambda path: path.write_text("{"), "damaged"),
        (lambda path: path.write_text('{"settings": 1}'), "damaged"),
        (lambda path: write_code_record(path.parents[1], lambda_rq_cl=0), "made with lambda_rq_cl=0.0"),
        (lambda path: write_code_record(path.parents[1], prompt_words=3), "another version, with the setting 'prompt_"),
    ],
)
def test_codes_of_which_too_little_is_known(tmp_path, data, write, problem):
    write(data / "toy" / "toy.code.json")
    with pytest.raises(DataError, match=problem):
        variant_code_settings(RQ_CL, "toy", data, tmp_path)


def test_variants_are_those_of_the_documentation():
    assert [FULL.label, *(variant.label for variant in VARIANTS)] == LABELS
    assert parse_metric("NDCG@5") == AblationRequest("toy", [1], None, None).group_metric
    assert U_CL.settings == {"lambda_u_cl": 0.0} and RQ_CL.has_own_codes and not U_CL.has_own_codes
