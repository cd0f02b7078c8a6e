"""The command ``gserec benchmark``."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from recbole_gserec import results, runs
from recbole_gserec.cli.benchmark import _next_steps, benchmark
from recbole_gserec.cli.options import CONTEXT_SETTINGS
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.runs.plan import read_preset
from recbole_gserec.runs.runner import LocalPool, Outcome

app = typer.Typer()
app.command(context_settings=CONTEXT_SETTINGS)(benchmark)
TOY = ["--dataset", "toy", "--model", "SASRec"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def refusal(*arguments) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, SettingError | DataError), result.output
    return str(result.exception)


@pytest.fixture
def called(monkeypatch, tmp_path):
    """Replaces training and reporting; keeps what they were called with. ``outcome`` is how the training ends."""
    monkeypatch.chdir(tmp_path)

    class Called:
        outcome = Outcome(2, 0, 0, frozenset({"k1"}))
        trained, reported = [], []

    calls = Called()
    calls.trained, calls.reported = [], []

    def run_benchmark(request, output, make_pool, *, retry_failed):
        calls.trained.append((request, output, make_pool, retry_failed))
        return calls.outcome

    def write_report(output, *, reference, models, datasets, keys, beside, console):
        calls.reported.append((output, reference, models, datasets, keys))
        calls.beside = beside
        return output / "report" / "report.md"

    monkeypatch.setattr(runs, "run_benchmark", run_benchmark)
    monkeypatch.setattr(results, "write_report", write_report)
    return calls


def test_defaults(called):
    result = run(*TOY)
    assert (result.exit_code, result.output) == (0, "benchmark/report/report.md\n")
    ((request, output, make_pool, retry_failed),) = called.trained
    assert (request.datasets, request.models, request.seeds) == (["toy"], ["SASRec"], [2020])
    assert (request.data_path, output, retry_failed) == (Path("dataset"), Path("benchmark"), True)
    assert (request.settings, request.settings_of("SASRec", "toy"), request.protocol) == ({}, {}, "table2")
    assert make_pool() == LocalPool(threads=None, visible_gpus=None)
    assert called.reported == [(Path("benchmark"), None, ["SASRec"], ["toy"], {"k1"})]


def test_options(called, tmp_path):
    (tmp_path / "all.yaml").write_text("epochs: 3\nlearning_rate: 0.5\n")
    (tmp_path / "own.yaml").write_text("GSERec: {lambda_u_cl: 0.5}\n")
    options = ["--dataset", "a", "-d", "b,a", "-m", "SASRec,GSERec", "--seeds", "3,1, 2", "--output", "o"]
    options += ["--data-path", "data", "--cpus-per-run", 3, "--gpus-per-run", 0, "--reference", "SASRec"]
    options += ["--no-retry-failed", "--config-files", "all.yaml", "--model-settings", "own.yaml"]
    result = run(*options, "--learning_rate=0.25", "--topk=[1, 5]")
    assert result.exit_code == 0, result.output
    ((request, output, make_pool, retry_failed),) = called.trained
    assert (request.datasets, request.models, request.seeds) == (["a", "b"], ["SASRec", "GSERec"], [3, 1, 2])
    assert (request.data_path, output, retry_failed) == (Path("data"), Path("o"), False)
    assert request.settings == {"epochs": 3, "learning_rate": 0.25, "topk": [1, 5]}
    assert request.settings_of("GSERec", "a") == {"lambda_u_cl": 0.5} and request.settings_of("SASRec", "a") == {}
    assert make_pool() == LocalPool(threads=3, visible_gpus="")
    assert called.reported == [(Path("o"), "SASRec", ["SASRec", "GSERec"], ["a", "b"], {"k1"})]


def test_the_preset_names_the_models(called):
    assert run("--preset", "table2", "-d", "toy", "-m", "BPR").exit_code == 0
    models = [*read_preset("table2").models, "BPR"]
    assert called.trained[0][0].models == models and called.reported[0][2] == models


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--workers", 4], (4, None, None, None)),
        (["--address", "auto"], (None, "auto", None, None)),
        (["--workers", 2, "--address", "a:1", "--cpus-per-run", 2, "--gpus-per-run", 0.5], (2, "a:1", 2, 0.5)),
    ],
)
def test_several_at_once_are_made_on_ray(called, monkeypatch, options, arguments):

    monkeypatch.setattr(runs, "RayPool", lambda *given: given)
    assert run(*TOY, *options).exit_code == 0
    assert called.trained[0][2]() == arguments


def test_one_worker_needs_no_ray(called):
    assert run(*TOY, "--workers", 1).exit_code == 0
    assert isinstance(called.trained[0][2](), LocalPool)


def test_a_report_alone(called):
    assert run("--report-only").exit_code == 0
    result = run("--report-only", *TOY, "--output", "o", "--reference", "BPR", "--epochs=3")
    assert result.exit_code == 0 and "--report-only ignores settings and seeds" in result.output
    assert "--report-only ignores settings and seeds" in run("--report-only", "--seeds", "1").output
    assert called.trained == []
    assert called.reported == [
        (Path("benchmark"), None, None, None, None),
        (Path("o"), "BPR", ["SASRec"], ["toy"], None),
        (Path("benchmark"), None, None, None, None),
    ]


def test_the_results_of_another_folder_beside_these(called, tmp_path):
    (tmp_path / "other").mkdir()
    assert run("--report-only", "--beside", "other").exit_code == 0
    assert called.beside == Path("other")
    assert run(*TOY).exit_code == 0 and called.beside is None
    refused = run(*TOY, "--beside", "missing")
    assert refused.exit_code == 1 and "missing/runs: has no runs" in str(refused.exception)


def test_one_objective(called, tmp_path):
    assert run("-d", "toy", "-m", "SASRec,LightGCN,GSERec", "--objective", "gBCE").exit_code == 0
    request = called.trained[0][0]
    losses = {model: request.settings_of(model, "toy").get("loss_type") for model in request.models}
    assert losses == {"SASRec": "gBCE", "LightGCN": None, "GSERec": "gBCE"}
    assert "--report-only ignores settings and seeds" in run("--report-only", "--objective", "BCE").output
    (tmp_path / "own.yaml").write_text("GSERec: {loss_type: BCE}\n")
    own = ["-m", "GSERec", "--model-settings", "own.yaml"]
    assert "loss_type is given for GSERec" in refusal(*TOY, *own, "--objective", "gBCE")
    assert "loss_type is given for all models" in refusal(*TOY, "--objective", "CE", "--loss_type=CE")
    assert len(called.trained) == 1


@pytest.mark.parametrize(
    ("outcome", "reported"),
    [
        (Outcome(1, 2, 0, frozenset()), "failed runs: 2; the report gives the reasons"),
        (Outcome(1, 0, 3, frozenset()), "unfinished runs: 3; another process is working on them"),
    ],
)
def test_an_incomplete_comparison_is_reported_and_shown_by_the_exit_status(called, outcome, reported):
    called.outcome = outcome
    result = run(*TOY)
    assert result.exit_code == 1 and reported in result.output
    assert len(called.reported) == 1


@pytest.mark.parametrize(
    ("models", "reference", "compared"),
    [
        (["SASRec", "GSERec"], None, ""),
        (["SASRec", "NRHUB"], None, " --model SASRec"),
        (["SASRec", "GSERec"], "SASRec", " --model SASRec"),
    ],
)
def test_the_next_step_names_a_model_that_is_there(models, reference, compared):
    told = _next_steps(Path("out"), models, reference)
    assert told == f"gserec recommend --checkpoint FILE; gserec analyze groups --runs out{compared}"
    assert "analyze" not in _next_steps(Path("out"), models[:1], None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*TOY, "--seeds", "a"], "--seeds 'a' is not a list of whole numbers"),
        ([*TOY, "--preset", "table3"], "there is no preset 'table3'"),
        ([*TOY, "--preset", "paper"], "there is no preset 'paper'"),
        ([*TOY, "--reference", "GSERec"], "--reference 'GSERec' is not one of the models"),
        ([*TOY, "--workers", "2", "--gpu_id=1"], "gpu_id: Ray assigns the GPUs"),
        ([*TOY, "epochs=3"], "'epochs=3' is not understood"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_trained(called, arguments, message):
    assert message in refusal(*arguments)
    assert called.trained == [] and called.reported == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "SASRec"], "no datasets given: give --dataset"),
        (["-d", "toy"], "no models given: give --model"),
        ([*TOY, "-m", "GSERek"], "there is no model 'GSERek'. Did you mean 'GSERec'?"),
        ([*TOY, "--seeds", ","], "no seeds given"),
        ([*TOY, "--epoch=3"], "unknown setting 'epoch'. Did you mean 'epochs'?"),
        ([*TOY, "--seed=3"], "use --seeds"),
    ],
)
def test_wrong_requests_are_refused(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_help():
    result = run("--help")
    assert result.exit_code == 0
    for option in (
        "--dataset",
        "--preset",
        "--report-only",
        "--retry-failed",
        "--objective",
        "--beside",
        "--model-settings",
    ):
        assert option in result.output


def test_a_whole_benchmark(random_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["-d", "toy", "-m", "LightGCN", "--output", "o", "--cpus-per-run", 1, "--epochs=1", "--embedding_size=8"]
    result = run(*options)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "o/report/report.md"
    (folder,) = (tmp_path / "o" / "runs" / "toy" / "LightGCN").iterdir()
    made = (folder / "run.json").stat().st_mtime_ns
    page = (tmp_path / "o" / "report" / "report.md").read_text()
    assert "LightGCN" in page and "toy" in page
    assert run("--report-only", "--output", "o").exit_code == 0
    assert (folder / "run.json").stat().st_mtime_ns == made
    assert (tmp_path / "o" / "report" / "report.md").read_text() == page
