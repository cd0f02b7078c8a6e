"""The commands ``gserec analyze``."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from recbole_gserec.analyze.groups import Grouping
from recbole_gserec.cli.main import app
from recbole_gserec.errors import CheckpointError, DataError, SettingError
from tests.analyze.grouped_runs import make_data, store


def run(*arguments):
    return CliRunner().invoke(app, ["analyze", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.mark.parametrize("name", ["groups", "ablation", "sensitivity", "tsne", "stats", "user", "report"])
def test_help(name):
    result = run(name, "--help")
    assert result.exit_code == 0 and f"analyze {name}" in result.output


def test_help_loads_nothing_heavy():
    # What the package itself loads on import is not the command's doing.
    code = "import recbole_gserec, sys; before = set(sys.modules); import recbole_gserec.cli.analyze; " + (
        "print(sorted(m for m in ('sklearn.manifold', 'matplotlib.figure', 'recbole_gserec.results.load') "
        "if m in set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]", done.stderr


def test_groups_from_the_command_line(tmp_path):
    data = make_data(tmp_path / "dataset")
    for model in ("GSERec", "SASRec", "GRU4Rec"):
        store(tmp_path / "out", data, model, 1)
    options = ["--runs", tmp_path / "out", "--data-path", data, "-b", "SASRec", "--groups", "0,1-", "--metric", "HR@10"]
    result = run("groups", *options)
    assert result.exit_code == 0, result.output
    page = tmp_path / "out" / "analyze" / "groups" / "groups.md"
    assert result.output.endswith(f"{page}\n") and "GRU4Rec" not in page.read_text()
    assert isinstance(run("groups", *options, "--metric", "AUC").exception, SettingError)
    assert isinstance(run("groups", "--runs", tmp_path / "none").exception, DataError)
    result = run("report", "--runs", tmp_path / "out")
    assert result.exit_code == 0 and "GSERec by group of users" in (page.parents[1] / "report.html").read_text()


def test_what_an_ablation_is_asked_for(tmp_path, monkeypatch):
    from recbole_gserec import analyze
    from recbole_gserec.analyze import ablation

    asked = []

    def analyze_ablation(request, make_pool):
        asked.append((request, make_pool()))
        (tmp_path / "page.md").write_text("# x")
        return ablation.AblationResult(tmp_path / "page.md", 3)

    monkeypatch.setattr(analyze, "analyze_ablation", analyze_ablation)
    result = run("ablation", "-d", "toy", "--without", "mca,graph", "--seeds", "1,2", "--epochs=3", "--quantiles", 2)
    assert result.exit_code == 1 and "unfinished runs: 3" in result.output
    ((request, pool),) = asked
    assert (request.dataset, request.seeds, request.settings) == ("toy", [1, 2], {"epochs": 3})
    assert [variant.name for variant in request.variants] == ["graph", "mca"]
    assert request.grouping == Grouping("searches", None, 2) and type(pool).__name__ == "LocalPool"
    assert isinstance(run("ablation", "-d", "toy", "--seeds", "x").exception, SettingError)
    assert isinstance(run("ablation", "-d", "toy", "epochs").exception, SettingError)


def test_where_an_ablation_trains(tmp_path, monkeypatch):
    from recbole_gserec import analyze, runs
    from recbole_gserec.analyze import ablation

    pools = []
    (tmp_path / "page.md").write_text("# x")

    def analyze_ablation(request, make_pool):
        pools.append(make_pool())
        return ablation.AblationResult(tmp_path / "page.md", 0)

    monkeypatch.setattr(analyze, "analyze_ablation", analyze_ablation)
    monkeypatch.setattr(runs, "RayPool", lambda *given: given)
    for options in (["--workers", 2], ["--address", "host:1", "--gpus-per-run", 0.5], ["--cpus-per-run", 3]):
        assert run("ablation", "-d", "toy", *options).exit_code == 0
    assert pools[:2] == [(2, None, None, None), (None, "host:1", None, 0.5)]
    assert type(pools[2]).__name__ == "LocalPool" and pools[2].threads == 3
    assert isinstance(run("ablation", "-d", "toy", "--workers", 2, "--gpu_id=1").exception, SettingError)
    # Known before anything is trained.
    assert isinstance(run("ablation", "-d", "toy", "--by", "clicks").exception, SettingError)
    assert len(pools) == 3


def test_bad_input_of_the_others(tmp_path):
    assert isinstance(run("sensitivity").exception, SettingError)
    assert isinstance(run("sensitivity", "--sweep", tmp_path, "--runs", tmp_path).exception, SettingError)
    assert isinstance(run("sensitivity", "--sweep", tmp_path).exception, DataError)
    for name in (["tsne"], ["user", "u1"]):
        assert isinstance(run(*name, "--checkpoint", tmp_path / "none.pth").exception, CheckpointError)
