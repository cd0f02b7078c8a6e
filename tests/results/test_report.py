import csv
import io
import math
import re
import shutil
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from recbole_gserec import report as report_files
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.figures import save_figure
from recbole_gserec.results import report, result_figure
from recbole_gserec.results.costs import markdown as costs_markdown
from recbole_gserec.results.metrics import parse_metric
from recbole_gserec.results.report import make_report, write_report
from tests.runs.stored_runs import MIB, random_ranks, store_run

FILES = """
    costs.csv costs.md failed.md figure.pdf figure.png report.md significance.csv significance.md table.csv table.md
    table.tex table_wide.csv
""".split()
MODELS = {"SASRec": 1.5, "UniSAR": 2.0, "GSERec": 3.0}


@pytest.fixture
def no_figure(monkeypatch):
    """Empty files in the place of the figure, which takes longer than all else."""
    monkeypatch.setattr(report, "draw", lambda table, cells: None)
    monkeypatch.setattr(report_files, "save_figure", lambda figure, png, pdf: None)


def store_all(output, datasets=("books", "toys"), seeds=(1, 2), backwards=False):
    """Runs of all models, stored in the one or the other order."""
    runs = [(dataset, model, seed) for dataset in datasets for model in MODELS for seed in seeds]
    for dataset, model, seed in runs[::-1] if backwards else runs:
        ranks = random_ranks(seed + 10 * len(model) + len(dataset), 150, MODELS[model])
        order = np.random.default_rng(seed).permutation(150) if backwards else None
        store_run(output, dataset, model, seed, ranks, order=order)
    store_run(output, datasets[0], "KAR", seeds[0], error="ValueError: boom")


def test_everything_is_written(tmp_path, no_figure):
    store_all(tmp_path)
    page = write_report(tmp_path)
    assert page == tmp_path / "report" / "report.md"
    assert sorted(path.name for path in page.parent.iterdir()) == FILES
    text = page.read_text()
    for part in ("table", "significance", "costs"):
        own = (page.parent / f"{part}.md").read_text().split("\n", 2)[2]
        assert own.strip() in text
    assert "ValueError: boom" in text
    assert "![Results with intervals over users](figure.png)" in text


def test_the_same_runs_give_the_same_bytes(tmp_path):
    store_all(tmp_path / "one", datasets=("toys",))
    store_all(tmp_path / "other", datasets=("toys",), backwards=True)
    one, other = (write_report(tmp_path / name).parent for name in ("one", "other"))
    first = {name: (one / name).read_bytes() for name in FILES}
    assert {name: (other / name).read_bytes() for name in FILES} == first


def test_a_cell_and_a_p_value_are_those_of_plain_numpy(tmp_path, no_figure):
    store_all(tmp_path, datasets=("toys",))
    folder = write_report(tmp_path).parent
    values = {}
    for model in MODELS:
        for seed in (1, 2):
            table = pd.read_parquet(tmp_path / "runs" / "toys" / model / f"{seed}-{seed:010x}" / "ranks.parquet")
            test = table[table["part"] == "test"].set_index("user")["rank"].astype(float)
            values[model, seed] = (1 / np.log2(test + 1)).where(test <= 10, 0)
    with open(folder / "table.csv", newline="") as file:
        rows = {(row["model"], row["metric"]): row for row in csv.DictReader(file)}
    for model in MODELS:
        means = [values[model, seed].mean() for seed in (1, 2)]
        row = rows[model, "ndcg@10"]
        assert float(row["mean"]) == pytest.approx(np.mean(means), rel=1e-9)
        assert float(row["deviation"]) == pytest.approx(np.std(means, ddof=1), rel=1e-8)
    with open(folder / "significance.csv", newline="") as file:
        tests = {(row["model"], row["metric"]): row for row in csv.DictReader(file)}
    ours, theirs = ((values[model, 1] + values[model, 2]) / 2 for model in ("GSERec", "SASRec"))
    d = (ours - theirs).to_numpy()
    t = d.mean() / (d.std(ddof=1) / math.sqrt(len(d)))
    row = tests["SASRec", "ndcg@10"]
    assert float(row["t_p"]) == pytest.approx(2 * stats.t.sf(abs(t), len(d) - 1), rel=1e-8)
    assert float(row["difference"]) == pytest.approx(d.mean(), rel=1e-8)


def test_the_table_is_printed(tmp_path, no_figure):
    store_all(tmp_path, datasets=("toys",))
    console = Console(file=io.StringIO(), width=120)
    write_report(tmp_path, console=console)
    shown = console.file.getvalue()
    assert "NDCG@10" in shown and "GSERec" in shown and "failed" in shown


def test_damaged_runs_are_reported_with_the_others(tmp_path, no_figure):
    store_all(tmp_path, datasets=("toys",))
    for path in tmp_path.glob("runs/toys/UniSAR/*/ranks.parquet"):
        path.write_bytes(path.read_bytes()[:100])
    folder = write_report(tmp_path).parent
    assert "UniSAR on toys: seeds 1, 2 damaged" not in (folder / "table.md").read_text()  # Each has its own reason.
    assert "UniSAR on toys: seed 1 damaged (runs/toys/UniSAR/" in (folder / "table.md").read_text()
    failed = (folder / "failed.md").read_text()
    assert "### UniSAR on toys, seed 1: damaged" in failed
    assert "truncated, or not a Parquet file of ranks" in failed
    assert "GSERec against the others" in (folder / "significance.md").read_text()


def test_failures_are_reported_with_their_traceback(tmp_path, no_figure):
    store_all(tmp_path, datasets=("toys",))
    failed = (write_report(tmp_path).parent / "failed.md").read_text()
    assert "### KAR on toys, seed 1: failed\n\n    ValueError: boom\n\nIn `runs/toys/KAR/1-0000000001`." in failed
    assert "    Traceback (most recent call last):\n      File 'x.py'" in failed
    shutil.rmtree(tmp_path / "runs" / "toys" / "KAR")
    write_report(tmp_path)
    assert (tmp_path / "report" / "failed.md").read_text() == "# Runs that did not finish\n\nAll runs finished.\n"


def test_only_what_is_asked_for_is_reported(tmp_path):
    store_all(tmp_path)
    made = make_report(tmp_path, datasets=["toys"], models=["GSERec", "SASRec", "NRHUB"], metrics=["HR@3", "MRR@7"])
    assert made.table.datasets == ("toys",)
    assert [row.model for row in made.table.rows] == ["SASRec", "NRHUB", "GSERec"]
    assert [metric.name for metric in made.table.metrics] == ["hit@3", "mrr@7"]
    assert {each.model for each in made.comparisons} == {"SASRec", "NRHUB"}
    assert make_report(tmp_path, datasets=["toys", "books"]).table.datasets == ("toys", "books")


def test_runs_are_chosen_by_their_keys(tmp_path):
    store_all(tmp_path, datasets=("toys",))
    older = store_run(tmp_path, "toys", "GSERec", 1, random_ranks(1), key="aaaaaaaaaa", given={}, started="2026-01-01")
    made = make_report(tmp_path, keys=["aaaaaaaaaa"])
    assert [run.folder for run in made.runs] == [older.relative_to(tmp_path).as_posix()]
    # By default the newest settings count.
    assert make_report(tmp_path).cells["toys", "GSERec"].finished.keys() == {1, 2}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"reference": "GSERek"},
            SettingError,
            "the reference 'GSERek' is not among the models. Did you mean 'GSERec'?",
        ),
        ({"metrics": ["recall@10"]}, SettingError, "unknown metric 'recall@10'"),
        ({"datasets": ["cds"]}, DataError, "has no runs of these models on these datasets"),
        ({"models": ["BPR"]}, DataError, "has no runs of these models on these datasets"),
    ],
)
def test_wrong_wishes_are_reported(tmp_path, options, error, message):
    store_all(tmp_path, datasets=("toys",))
    with pytest.raises(error) as raised:
        write_report(tmp_path, **options)
    assert message in str(raised.value)
    assert not (tmp_path / "report").exists()


def test_nothing_finished_is_a_report_too(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 1)
    folder = write_report(tmp_path).parent
    assert "There is nothing to compare." in (folder / "significance.md").read_text()
    assert "toys: no finished run, seed 1." in (folder / "table.md").read_text()


def test_settings_are_reported_once_for_all_and_then_by_model(tmp_path, no_figure):
    common = {"epochs": 100, "topk": [1, 5, 10]}
    store_run(tmp_path, "toys", "GSERec", 1, [1, 3], given={**common, "lambda_u_cl": 0.1})
    store_run(tmp_path, "toys", "SASRec", 1, [1, 3], given=common)
    page = write_report(tmp_path).read_text()
    assert "`toys`, all models: `epochs: 100`, `topk: [1, 5, 10]`\n- `GSERec`: `lambda_u_cl: 0.1`\n" in page
    assert "Runs were made with commit aaaaaaaaaaaa, python 3.11.7, recbole 1.2.0." in page


def costs(folder, **options):
    return make_report(folder, **options).costs.set_index("model")


def test_costs_worked_by_hand(tmp_path):
    epochs = (
        {"best": 1, "seconds": [3.0, 1.0, 2.0], "cpu_seconds": [2.5, 0.5, 1.5]},
        {"best": 4, "seconds": [5.0, 6.0], "cpu_seconds": [4.0, 4.5]},
    )
    for seed, own in enumerate(epochs):
        store_run(
            tmp_path,
            "toys",
            "GSERec",
            seed,
            [1, 3],
            epochs=own,
            wall_seconds=(10.0, 20.0)[seed],
            peak_memory_bytes=(100, 300)[seed] * MIB,
            peak_gpu_memory_bytes=(None, 50 * MIB)[seed],
            samples_per_epoch=600,
            flops=7.0,
        )
    row = costs(tmp_path).loc["GSERec"]
    assert row["seconds_per_epoch"] == 3.0  # Of 1, 2, 3, 5 and 6.
    assert row["cpu_seconds_per_epoch"] == 2.5  # Of .5, 1.5, 2.5, 4 and 4.5.
    assert row["epochs_to_best"] == 3.5  # The second and the fifth.
    assert (row["total_seconds"], row["samples_per_second"]) == (15.0, 200.0)
    assert (row["peak_memory_mib"], row["peak_gpu_memory_mib"]) == (300.0, 50.0)
    assert (row["parameters"], row["flops"], row["n_runs"]) == (12345, 7.0, 2)
    assert (row["device"], row["threads"]) == ("cpu", 1)


def test_times_of_another_machine_are_marked(tmp_path):
    big = {"cpu": "Big CPU", "cores": 64, "memory_bytes": 1 << 38}
    for model in ("SASRec", "GSERec"):
        store_run(tmp_path, "toys", model, 1, [1, 3])
    store_run(tmp_path, "toys", "UniSAR", 1, [1, 3], machine=big)
    store_run(tmp_path, "toys", "JSR", 1, [1, 3], threads=8)
    # Of runs on both machines only those on the usual one count.
    store_run(tmp_path, "toys", "USER", 1, [1, 3], wall_seconds=7.0)
    store_run(tmp_path, "toys", "USER", 2, [1, 3], wall_seconds=99.0, machine=big)
    store_run(tmp_path, "toys", "KAR", 1)
    frame = costs(tmp_path)
    assert frame["comparable"].to_dict() == {
        "SASRec": True,
        "KAR": None,
        "JSR": False,
        "USER": True,
        "UniSAR": False,
        "GSERec": True,
    }
    assert (frame.loc["USER", "total_seconds"], frame.loc["USER", "n_runs"]) == (7.0, 1)
    page = costs_markdown(frame.reset_index())
    assert "| JSR<sup>a</sup> " in page and "| UniSAR<sup>b</sup> " in page and "| GSERec " in page
    assert "<sup>b</sup> Times are not comparable with the others: made with cpu, 1 thread, Big CPU, 64 cores" in page
    assert "Made with cpu, 1 thread, Any CPU, 2 cores, 24 GiB." in page
    # A model without a finished run has its row.
    assert "| KAR " in page


def test_runs_at_the_same_time_are_counted(tmp_path):
    # 10 s from 0, 4 and 8 s on, and one after all.
    for model, second in {"SASRec": 0, "UniSAR": 4, "GSERec": 8, "JSR": 30}.items():
        started = f"2026-11-01T00:00:{second:02d}+00:00"
        store_run(tmp_path, "toys", model, 1, [1, 3], started=started, wall_seconds=10.0)
    assert costs(tmp_path)["at_once"].to_dict() == {"JSR": 1, "SASRec": 3, "UniSAR": 3, "GSERec": 3}
    # Those that are not reported were there all the same.
    assert costs(tmp_path, models=["SASRec"])["at_once"].tolist() == [3]


def test_one_run_after_the_other_is_not_at_the_same_time(tmp_path):
    # The first ends at 5.9 s, and the second starts right then, which is told as 5 s.
    store_run(tmp_path, "toys", "SASRec", 1, [1, 3], started="2026-11-01T00:00:00", wall_seconds=5.9)
    store_run(tmp_path, "toys", "GSERec", 1, [1, 3], started="2026-11-01T00:00:05", wall_seconds=5.0)
    assert costs(tmp_path)["at_once"].tolist() == [1, 1]


def test_the_interval_of_the_figure_is_that_of_a_mean(tmp_path):
    store_run(tmp_path, "toys", "GSERec", 1, [1, 3, 11, 1])
    cell = make_report(tmp_path).cells["toys", "GSERec"]
    mean, half = result_figure.mean_and_half_interval(cell, parse_metric("ndcg@10"))
    values = [1, 0.5, 0, 1]
    assert mean == pytest.approx(2.5 / 4)
    assert half == pytest.approx(stats.norm.ppf(0.975) * np.std(values, ddof=1) / 2, rel=1e-6)


def test_the_interval_of_the_figure_counts_seeds(tmp_path):
    # All users alike: each has 1 by one seed and 1/2 by the other.
    store_run(tmp_path, "toys", "GSERec", 1, [1, 1, 1, 1])
    store_run(tmp_path, "toys", "GSERec", 2, [3, 3, 3, 3])
    cell = make_report(tmp_path).cells["toys", "GSERec"]
    mean, half = result_figure.mean_and_half_interval(cell, parse_metric("ndcg@10"))
    low, high = stats.t.interval(0.95, df=1, loc=0.75, scale=stats.sem([1, 0.5]))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_the_figure_has_a_panel_for_each_dataset_and_a_row_for_each_model(tmp_path):
    store_all(tmp_path)
    made = make_report(tmp_path)
    before, figures = dict(matplotlib.rcParams), plt.get_fignums()
    drawn = result_figure.draw(made.table, made.cells)
    assert drawn.get_size_inches()[0] == pytest.approx(3.3)
    first, second = drawn.axes
    assert [panel.get_title() for panel in drawn.axes] == ["books", "toys"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["SASRec", "KAR", "UniSAR", "GSERec"]
    assert [text.get_text() for text in first.texts] == ["failed"]
    assert [text.get_text() for text in second.texts] == ["–"]
    assert first.get_xlabel() == "NDCG@10"
    # From above in the order of the table.
    assert first.get_ylim()[0] > first.get_ylim()[1]
    save_figure(drawn, tmp_path / "f.png", tmp_path / "f.pdf")
    assert (dict(matplotlib.rcParams), plt.get_fignums()) == (before, figures)
    assert b"CreationDate" not in (tmp_path / "f.pdf").read_bytes()
    assert b"/Type3" not in (tmp_path / "f.pdf").read_bytes()


def test_a_dollar_in_a_name_is_no_formula(tmp_path):
    store_run(tmp_path, "a$b$", "GSERec", 1, [1, 3])
    store_run(tmp_path, "a$\\frac$", "GSERec", 1, [1, 3])
    made = make_report(tmp_path)
    drawn = result_figure.draw(made.table, made.cells)
    drawn.draw_without_rendering()
    assert drawn.axes[1].get_title() == r"a\$b\$"


def test_the_python_of_the_documentation_runs(tmp_path, no_figure, monkeypatch):
    store_all(tmp_path / "benchmark", datasets=("toys",))
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {})
    assert "NDCG@20" in Path("benchmark/report/report.md").read_text()


def test_what_was_asked_for_holds_for_later_reports(tmp_path, caplog):
    store_all(tmp_path, datasets=("toys",))
    first = write_report(tmp_path, reference="KAR", metrics=["HR@3"])
    asked = [path.read_bytes() for path in (first, first.with_name("significance.csv"))]
    with caplog.at_level("INFO"):
        write_report(tmp_path)
    assert [path.read_bytes() for path in (first, first.with_name("significance.csv"))] == asked
    assert "As in the last report: reference KAR, metrics ['HR@3']. For the defaults, delete" in caplog.text
    # Among others than these it cannot be, and it is not forgotten.
    write_report(tmp_path, models=["GSERec", "SASRec"])
    assert "KAR is not among these models" in caplog.text
    write_report(tmp_path)
    assert first.read_bytes() == asked[0]
    write_report(tmp_path, reference="SASRec")
    assert first.read_bytes() != asked[0]
    (first.parent / "options.json").unlink()
    write_report(tmp_path)
    assert not (first.parent / "options.json").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"reference": 3, "metrics": "HR@3"}', "\x00"])
def test_damaged_options_are_none(tmp_path, text):
    store_all(tmp_path, datasets=("toys",))
    page = write_report(tmp_path)
    before = page.read_bytes()
    (page.parent / "options.json").write_text(text)
    assert write_report(tmp_path).read_bytes() == before
