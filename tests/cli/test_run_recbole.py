"""The command ``run_recbole``, called as the console script calls it."""

import logging
import math
import sys

import pytest

from recbole_gserec.cli import run_recbole
from recbole_gserec.cli.run_recbole import main, run
from recbole_gserec.errors import SettingError

SMALL = ["--epochs=1", "--embedding_size=8", "--train_batch_size=256", "--show_progress=False", "--state=ERROR"]
METRICS = ["hit@1", "hit@5", "hit@10", "ndcg@1", "ndcg@5", "ndcg@10"]


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Sets the command line, in a folder that has the random dataset under ``dataset``; returns the arguments."""
    monkeypatch.chdir(tmp_path)

    def given(*arguments):
        monkeypatch.setattr("sys.argv", ["run_recbole", *arguments])
        return list(arguments)

    return given


@pytest.fixture
def started(monkeypatch):
    """What RecBole is started with, instead of starting it."""
    calls = []
    monkeypatch.setattr("recbole.quick_start.run", lambda *args, **kwargs: calls.append((args, kwargs)))
    return calls


def failure(capsys, command, *arguments):
    """The line a wrong command ends with."""
    command(*arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    shown = capsys.readouterr().err.splitlines()
    errors = [line for line in shown if line.startswith("error:")]
    assert len(errors) == 1 and shown[-1] == errors[0]
    assert not any("Traceback" in line for line in shown)
    return errors[0]


# ---- training and evaluating ----------------------------------------------------------------------------------------


def test_the_command_trains_evaluates_and_prints_metrics(random_dataset, command, capsys):
    arguments = command("--model=GSERec", "--dataset=toy", "--inner_size=8", "--mlp_hidden_size=[8]", *SMALL)
    result = run(arguments)
    shown = capsys.readouterr().out
    for part in ("best_valid_result", "test_result"):
        assert list(result[part]) == METRICS
        assert all(math.isfinite(value) for value in result[part].values())
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if "│" in line]
    assert "GSERec on toy" in shown
    assert rows == [
        [metric, *(f"{result[part][metric]:.4f}" for part in ("best_valid_result", "test_result"))]
        for metric in METRICS
    ]
    assert run(arguments) == result


def test_recboles_models_run_too(random_dataset, command, capsys):
    command("-m", "BPR", "-d", "toy", *SMALL)
    main()
    assert "BPR on toy" in capsys.readouterr().out


# ---- what is run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "model", "dataset"),
    [
        ([], "BPR", "ml-100k"),
        (["--model=GSERec"], "GSERec", "ml-100k-search"),
        (["-m", "GSERec"], "GSERec", "ml-100k-search"),
        (["--model=SASRec"], "SASRec", "ml-100k"),
        (["--model=SASRec", "--dataset=toy"], "SASRec", "toy"),
        (["--model", "GSERec", "-d", "toy", "--epochs=5"], "GSERec", "toy"),
    ],
)
def test_defaults(command, started, arguments, model, dataset):
    assert run(command(*arguments)) is None
    ((given, options),) = started
    assert given == (model, dataset)
    assert options["config_file_list"] is None
    assert (options["nproc"], options["world_size"], options["group_offset"]) == (1, -1, 0)


def test_model_and_dataset_of_config_files(command, started, tmp_path):
    (tmp_path / "a.yaml").write_text("model: SASRec\ndataset: one\nepochs: 3\n")
    (tmp_path / "b.yaml").write_text("dataset: two\n")
    run(command("--config_files=a.yaml b.yaml"))
    run(command("--config_files", "a.yaml", "--dataset=three", "--model=GSERec"))
    (tmp_path / "a.yaml").write_text("model: GSERec\n")
    run(command("--config_files=a.yaml"))
    assert [given for given, _ in started] == [("SASRec", "two"), ("GSERec", "three"), ("GSERec", "ml-100k-search")]
    files = [options["config_file_list"] for _, options in started]
    assert files == [["a.yaml", "b.yaml"], ["a.yaml"], ["a.yaml"]]


def test_settings_of_config_files_reach_recbole(random_dataset, command, tmp_path, monkeypatch):
    configs = []
    (tmp_path / "a.yaml").write_text("model: BPR\ndataset: toy\nembedding_size: 8\nlearning_rate: 0.5\n")

    def build(model, dataset, config_file_list, **_):
        from recbole.config import Config

        configs.append(Config(model, dataset, config_file_list))

    monkeypatch.setattr("recbole.quick_start.run", build)
    run(command("--config_files=a.yaml", "--learning_rate=0.25", "--topk=[1, 5]"))
    values = [configs[0][name] for name in ("model", "dataset", "embedding_size", "learning_rate", "topk")]
    assert values == ["BPR", "toy", 8, 0.25, [1, 5]]


def test_options_of_distributed_training(command, started):
    arguments = ["--nproc=2", "--world_size=4", "--ip=1.2.3.4", "--port=99", "--group_offset=2", "--gpu_id=0,1"]
    run(command("--model=BPR", "--dataset=toy", *arguments))
    ((_, options),) = started
    del options["config_file_list"]
    assert options == {"nproc": 2, "world_size": 4, "ip": "1.2.3.4", "port": "99", "group_offset": 2}


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning_rat=0.1"], "unknown setting 'learning_rat'. Did you mean 'learning_rate'?"),
        (["--epochs", "5"], "argument '--epochs': write settings as --name=value"),
        (["epochs=5"], "argument 'epochs=5': write settings as --name=value"),
        (["--=5"], "argument '--=5': write settings as --name=value"),
        (["--checkpoint_dir=a=b"], "argument '--checkpoint_dir=a=b': RecBole cannot read a value that contains '='"),
        (["--embedding_size=large"], "embedding_size is 'large'; it must be a whole number of at least 1"),
        (["--his_cl=none"], "his_cl"),
        (["--config_files=none.yaml"], "none.yaml: file not found. Check the path"),
        (["--config_files=."], ".: cannot be read (Is a directory). Give a YAML file with settings."),
        (["--valid_metric=NDCG@7"], "valid_metric is 'NDCG@7', which is not computed"),
        (
            ["--metrics=['Hat']", "--valid_metric=Hat@5"],
            "metrics has 'Hat', which is not a known metric. Did you mean 'Hit'?",
        ),
        (["--epochs=1", "--epochs=2"], "duplicate"),
        (["--mode=full"], "unknown setting 'mode'"),
        (["--data=x"], "unknown setting 'data'"),
        (["--topk=0"], "topk is 0; it must be a whole number of at least 1"),
        (["--metrics=Hitt"], "metrics has 'Hitt', which is not a known metric. Did you mean 'Hit'?"),
        (["--eval_args={'mode': 'uni0'}"], "eval_args has the mode 'uni0'; it must be 'full' or"),
        (["--eval_args={'mod': 'full'}"], "eval_args has an unknown key 'mod'. Did you mean 'mode'?"),
        (["--seed=abc"], "seed is 'abc'; it must be a whole number from 0 to"),
        (["--seed=-1"], "seed is -1; it must be a whole number from 0 to"),
        (["--eval_batch_size=0"], "eval_batch_size is 0; it must be a whole number of at least 1"),
        (["--worker=-1"], "worker is -1; it must be a whole number of at least 0"),
        (["--clip_grad_norm=5"], "clip_grad_norm is 5; it must be None or a dict such as"),
        (["--encoding=latin9x"], "encoding is 'latin9x'; it must be the name of an encoding"),
        (["--mlp_hidden_size=[-5]"], "mlp_hidden_size is [-5]; it must be a list of whole numbers of at least 1"),
        (["--codebook_size=abc"], "codebook_size is 'abc'; it must be a whole number of at least 1"),
        (["--additional_feat_suffix=['search','query']"], "additional_feat_suffix is ['search', 'query']; GSERec also"),
        (["--additional_feat_suffix=['search','code']"], "; GSERec also reads 'query'"),
        (["--learner=foo"], "learner is 'foo'; it must be 'adam' or"),
        (["--use_gpu=maybe"], "use_gpu is 'maybe'; it must be True or False"),
        (["--nproc=0"], "argument --nproc: the value must be a whole number of at least 1"),
        (["--nproc=two"], "argument --nproc: invalid int value: 'two'"),
        (["--world_size=0"], "argument --world_size: the value must be a whole number of at least 1, or -1"),
        (["--group_offset=-1"], "argument --group_offset: the value must be a whole number of at least 0"),
        (["--config_files="], "argument --config_files: no value given"),
        (["--port"], "argument --port: expected one argument"),
        (["-dataset=toy"], "argument '-dataset=toy': long names need two dashes. Did you mean '--dataset=toy'?"),
        (["-learning_rate=1"], "argument '-learning_rate=1': long names need two dashes"),
        (["--modle", "GSERec"], "argument '--modle': write settings as --name=value. Did you mean '--model'?"),
        (["--device=cuda"], "unknown setting 'device'. Set gpu_id to choose a GPU (--gpu_id=0), or use_gpu"),
        (["--checkpoint_dir=2024"], "checkpoint_dir is 2024; it must be a text"),
        (["--load_col={'inter': ['user_id', 'item_id']}"], "reads the column 'timestamp' of .inter (TIME_FIELD)"),
    ],
)
def test_wrong_arguments_end_with_one_line(random_dataset, command, capsys, arguments, message):
    line = failure(capsys, command, "--model=GSERec", "--dataset=toy", "--state=ERROR", *arguments)
    assert message in line


@pytest.mark.parametrize(
    ("argument", "flag"),
    [("--modle=GSERec", "model"), ("--datset=toy", "dataset"), ("--config_file=a.yaml", "config_files")],
)
def test_a_mistyped_flag_starts_nothing(command, capsys, started, argument, flag):
    name = argument[2:].partition("=")[0]
    for model in ([], ["--model=BPR"], ["--model=GSERec"]):
        line = failure(capsys, command, argument, *model)
        assert line == f"error: unknown setting '{name}'. Did you mean '{flag}'?"
    assert started == []


def test_settings_that_look_like_flags_are_none(command, started):
    run(command("--model=BPR", "--gpu_id=0", "--data_path=x", "--MODEL_TYPE=GENERAL", "--own_setting=1"))
    assert len(started) == 1


@pytest.mark.parametrize("flag", ["--model", "-m", "--dataset", "-d"])
def test_a_flag_without_value_starts_nothing(command, capsys, started, flag):
    arguments = [f"{flag}="] if flag.startswith("--") else [flag, ""]
    long = {"-m": "--model", "-d": "--dataset"}.get(flag, flag)
    assert failure(capsys, command, *arguments) == f"error: argument {long}: no value given"
    assert started == []


def test_what_fails_in_a_library_that_recboles_reader_calls(write_files, random_rows, tmp_path, command, capsys):
    """Plain data is read by RecBole alone: its errors come from pandas and codecs."""
    write_files(tmp_path / "dataset", "plain", inter=random_rows["inter"])
    path = tmp_path / "dataset" / "plain" / "plain.inter"
    text, shown = path.read_text(), ["--model=BPR", "--dataset=plain", "--state=ERROR"]
    load = "--load_col={'inter': ['user_id', 'item_id', 'timestamp']}"
    for content in (
        text.encode("utf-16"),
        text.replace("u1\t", '"u1\t', 1).encode(),
        text.encode("utf-8-sig"),
        (text + "u0\ti1\tnoon\n").encode(),
    ):
        path.write_bytes(content)
        failure(capsys, command, *shown, load)


def test_a_defect_of_ours_below_recboles_reader_is_not_hidden(random_dataset, command, monkeypatch):
    def broken(*_, **__):
        raise KeyError("a defect")

    monkeypatch.setattr("recbole_gserec.data.dataset.build_event_log", broken)
    command("--model=GSERec", "--dataset=toy", "--state=ERROR")
    with pytest.raises(KeyError, match="a defect"):
        main()


def test_a_missing_dataset_is_named(random_dataset, command, capsys):
    for model in ("GSERec", "BPR"):
        line = failure(capsys, command, f"--model={model}", "--dataset=nowhere", "--state=ERROR")
        assert "nowhere: no such dataset" in line
        assert "gserec convert" in line


def test_an_unknown_model_is_named(command, capsys):
    line = failure(capsys, command, "--model=gserec")
    assert line == "error: there is no model 'gserec'. Did you mean 'GSERec'?"


def test_a_dataset_without_searches_is_refused(write_files, random_rows, tmp_path, command, capsys):
    write_files(tmp_path / "dataset", "plain", inter=random_rows["inter"])
    line = failure(capsys, command, "--model=GSERec", "--dataset=plain", "--state=ERROR")
    assert "plain.search" in line


@pytest.mark.parametrize("text", ["just text\n", "- a\n- b\n", "a: [1\n", "7\n", ""])
def test_a_config_file_that_is_none(random_dataset, command, capsys, tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    assert "a.yaml" in failure(capsys, command, "--config_files=a.yaml")


def test_a_config_file_that_is_no_text(random_dataset, command, capsys, tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00model")
    assert "a.yaml" in failure(capsys, command, "--config_files=a.yaml")


def test_defects_are_not_hidden(command, monkeypatch):
    def broken(*_, **__):
        raise TypeError("a defect")

    monkeypatch.setattr("recbole.quick_start.run", broken)
    command("--model=BPR")
    with pytest.raises(TypeError, match="a defect"):
        main()


def test_interruption_is_not_an_error(command, monkeypatch, capfd):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole.quick_start.run", interrupted)
    command("--model=BPR")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capfd.readouterr().err.startswith("interrupted; training did not finish. Repeat the command to start again")


def test_messages_are_one_line(command, monkeypatch, capsys):
    def fail(*_, **__):
        raise SettingError("first\n  second\tthird")

    monkeypatch.setattr("recbole.quick_start.run", fail)
    assert failure(capsys, command, "--model=BPR") == "error: first second third"


def test_help(command, capsys):
    command("--help")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for option in ("--model", "-m", "--dataset", "-d", "--config_files", "--nproc", "--learning_rate=0.001"):
        assert option in shown
    assert "ml-100k-search for search-aware models" in shown


def test_defaults_named_are_those_used():
    assert (run_recbole.RECBOLE_MODEL, run_recbole.RECBOLE_DATASET) == ("BPR", "ml-100k")


@pytest.mark.parametrize(
    ("model", "argument", "message"),
    [
        ("SASRec", "--epochs=abc", "epochs is 'abc'; it must be a whole number of at least 0"),
        ("BPR", "--train_batch_size=0", "train_batch_size is 0; it must be a whole number of at least 1"),
        ("BPR", "--learning_rate=fast", "learning_rate is 'fast'; it must be a number of at least 0"),
        ("Pop", "--use_gpu=maybe", "use_gpu is 'maybe'; it must be True or False"),
        ("SASRec", "--n_layers=two", "n_layers is 'two'; it must be a number"),
        ("FM", "--embedding_size=large", "embedding_size is 'large'; it must be a"),
        ("SASRec", "--hidden_size=65", "The hidden size (65) is not a multiple of the number of attention heads (2)"),
        (
            "SASRec",
            "--hidden_act=foo",
            "a RecBole model fails on this data or with these settings: KeyError: ",
        ),
        ("NeuMF", "--mlp_hidden_size=12", "fails on this data or with these settings: TypeError: "),
        ("NCL", "--epochs=1", "this needs the library 'faiss', which is not installed: pip install faiss-cpu"),
    ],
)
def test_recboles_models_tell_in_one_line(random_dataset, command, capsys, model, argument, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert message in failure(capsys, command, f"--model={model}", "--dataset=toy", "--state=ERROR", argument)


def test_a_missing_dataset_is_reported_before_any_setting(random_dataset, command, capsys, tmp_path):
    line = failure(capsys, command, "--model=BPR", "--dataset=toyy")
    assert line == f"error: {tmp_path}/dataset/toyy: no such dataset. Did you mean 'toy'?"


def test_the_traceback_of_recboles_model_is_in_the_log_file(random_dataset, command, capsys, tmp_path, monkeypatch):
    # RecBole adds its own where there are none.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    failure(capsys, command, "--model=SASRec", "--dataset=toy", "--hidden_act=foo")
    (log,) = (tmp_path / "log" / "SASRec").glob("*.log")
    assert "Traceback" in log.read_text() and "KeyError: 'foo'" in log.read_text()
