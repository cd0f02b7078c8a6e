import errno
import sys
import types

import pytest
from typer.testing import CliRunner

from recbole_gserec import preprocess
from recbole_gserec.cli import main as main_of_gserec
from recbole_gserec.cli.main import app, main
from recbole_gserec.cli.preprocess import parse_settings
from recbole_gserec.cli.user_errors import is_the_users
from recbole_gserec.errors import DataError, SettingError, one_line


@pytest.fixture
def stage(monkeypatch):
    """Replaces the offline stage; keeps what it was called with, and raises what ``error`` is set to."""
    called = types.SimpleNamespace(calls=[], error=None)

    def preprocess_dataset(*arguments):
        called.calls.append(arguments)
        if called.error:
            raise called.error
        return "data/d/d.code"

    monkeypatch.setitem(vars(preprocess), "preprocess_dataset", preprocess_dataset)
    return called


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gserec", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize("arguments", [["--help"], ["preprocess", "--help"], ["convert", "--help"]])
def test_help(arguments):
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    expected = {"--help": "preprocess", "preprocess": "--summarizer", "convert": "ml-100k"}[arguments[0]]
    assert expected in result.output


def test_without_arguments_help_is_shown():
    assert "preprocess" in CliRunner().invoke(app, []).output


def test_options_and_settings_reach_the_stage(stage, tmp_path):
    config_file = tmp_path / "settings.yaml"
    config_file.write_text("rq_epochs: 70\n")
    arguments = ["--dataset", "d", "--encoder", "tfidf", "--config-file", str(config_file), "--data-path", "data"]
    result = CliRunner().invoke(app, ["preprocess", *arguments, "--rq_epochs=60", "--rq_hidden_sizes=[8, 4]"])
    assert result.exit_code == 0
    assert result.output == "data/d/d.code\n"
    settings = {"encoder": "tfidf", "data_path": "data", "rq_epochs": 60, "rq_hidden_sizes": [8, 4]}
    assert stage.calls == [("d", settings)]


def test_a_preset_of_a_model_is_no_preset_of_the_stage(stage):
    result = CliRunner().invoke(app, ["preprocess", "-d", "d", "--preset", "gserec-best"])
    assert str(result.exception) == (
        "the preset 'gserec-best' has no settings of the offline stage; it is for run_recbole --model=GSERec "
        "--preset=gserec-best"
    )
    assert stage.calls == []


def test_options_not_given_leave_the_defaults(stage):
    assert CliRunner().invoke(app, ["preprocess", "-d", "d"]).exit_code == 0
    assert stage.calls == [("d", {})]


def test_the_next_command_reads_the_codes_that_were_made(stage, caplog):
    places = ["--data-path", "my data", "--code_path=two.code", "--preprocess_store=s.sqlite3"]
    with caplog.at_level("INFO"):
        CliRunner().invoke(app, ["preprocess", "-d", "d", *places, "--rq_epochs=60"])
    (line,) = [record.getMessage() for record in caplog.records if "Next: " in record.getMessage()]
    command = "run_recbole --model=GSERec --dataset=d"
    assert line == f"Next: {command} --data_path='my data' --code_path=two.code --preprocess_store=s.sqlite3"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--rq_epochs=60", 60),
        ("--rq_sinkhorn=False", False),
        ("--lambda_rq_cl=0.001", 0.001),
        ("--user_inter_num_interval=[3,inf)", "[3,inf)"),
        ("--rq_epochs=", None),
        ("--note=a=b", "a=b"),
    ],
)
def test_settings_are_yaml(argument, value):
    assert list(parse_settings([argument]).values()) == [value]


@pytest.mark.parametrize("argument", ["rq_epochs=60", "--rq_epochs", "60", "-x=1", "--=1"])
def test_arguments_of_another_form_are_refused(argument):
    with pytest.raises(SettingError, match="Give settings as --name=value|long names need two dashes"):
        parse_settings([argument])


def test_error_is_one_line_and_status_2(stage, monkeypatch, capsys):
    stage.error = DataError("d.search", "column [bold] is missing", "Add it.", line=1)
    assert run_main(monkeypatch, "preprocess", "--dataset", "d") == 2
    assert capsys.readouterr().err == "error: d.search, line 1: column [bold] is missing. Add it.\n"


def test_interruption_is_a_line_and_status_130(stage, monkeypatch, capfd):
    stage.error = KeyboardInterrupt()
    assert run_main(monkeypatch, "preprocess", "--dataset", "d") == 130
    printed = capfd.readouterr().err
    assert printed == "interrupted; finished summaries, vectors and epochs are kept. Repeat the command to resume\n"


def test_what_an_interrupted_command_has_kept_is_reported_of_commands_that_there_are(monkeypatch):
    for command in main_of_gserec._KEPT:
        assert run_main(monkeypatch, *command.split(), "--help") == 0
    monkeypatch.setattr(sys, "argv", ["gserec", "analyze", "ablation", "--dataset=toy"])
    assert main_of_gserec._kept() == main_of_gserec._KEPT["analyze ablation"]
    monkeypatch.setattr(sys, "argv", ["gserec", "analyze", "stats", "--dataset=tune"])
    assert main_of_gserec._kept() not in main_of_gserec._KEPT.values()


def test_defect_is_not_hidden(stage, monkeypatch):
    stage.error = ZeroDivisionError()
    monkeypatch.setattr(sys, "argv", ["gserec", "preprocess", "--dataset", "d"])
    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preprocess"], "Missing option '--dataset'"),
        (["nonsense"], "No such command 'nonsense'"),
        (["convert", "nonsense"], "No such command 'nonsense'"),
        (["preprocess", "--dataset"], "'--dataset' requires an argument"),
        (["preprocess", "--dataset", "d", "--ray-workers", "two"], "Invalid value for '--ray-workers'"),
        (["preprocess", "--dataset", "d", "--config-file", "absent.yaml"], "'absent.yaml' does not exist"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, message, stage, monkeypatch, capsys):
    assert run_main(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1 and message in shown.err
    assert shown.out == ""
    assert stage.calls == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "no settings in it. Write them as 'name: value', one per line."),
        ("just text\n", "no settings in it. Write them"),
        ("", "no settings in it. Write them"),
        ("[" * 3000, "not a file of settings (nested more than 50 deep)"),
        ("a: 1\nb: [1\n", "not YAML (expected ',' or ']'"),
    ],
)
def test_a_config_file_that_is_none(text, message, stage, monkeypatch, capsys, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    assert run_main(monkeypatch, "preprocess", "--dataset", "d", "--config-file", str(file)) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {file}") and shown.count("\n") == 1 and message in shown
    assert stage.calls == []


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--help"], 0), (["preprocess", "--help"], 0), (["convert", "ml-100k", "--help"], 0), ([], 2), (["convert"], 2)],
)
def test_status_of_help(arguments, status, monkeypatch, capsys):
    assert run_main(monkeypatch, *arguments) == status
    shown = capsys.readouterr()
    assert "Usage" in shown.out + shown.err and "error:" not in shown.err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            "a/b: No space left on device. Free some space there, then",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/a/b"),
            "/a/b: Permission denied. Choose",
        ),
        (OSError("neither a number\nnor a file"), "neither a number nor a file\n"),
    ],
)
def test_errors_of_the_operating_system(error, message):
    assert is_the_users(error) and f"{one_line(error)}\n".startswith(message)


def test_unknown_setting_is_named_with_the_nearest(monkeypatch, capsys, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "d.inter").touch()
    arguments = ["preprocess", "--dataset", "d", "--data-path", str(tmp_path), "--rq_epoch=3"]
    assert run_main(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err == "error: unknown setting 'rq_epoch'. Did you mean 'rq_epochs'?\n"
