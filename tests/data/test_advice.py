"""The advice on codes that do not fit: followed to the letter, it has to end the error."""

import json
import re
import shlex

import pytest

from recbole_gserec.cli.preprocess import parse_settings
from recbole_gserec.data.checks import advice_to_make_again, preprocess_command
from recbole_gserec.errors import DataError
from recbole_gserec.files.stored import write_json
from recbole_gserec.preprocess.run import preprocess_dataset

TINY = {
    "n_codebooks": 2,
    "codebook_size": 4,
    "code_dim": 4,
    "rq_hidden_sizes": [8],
    "rq_epochs": 2,
    "rq_warmup_epochs": 0,
    "encoder_dim": 8,
}


def follow(message):
    """Do what the end of an error says."""
    command = re.search(r"(?:Make the codes again|Make it): (gserec preprocess .*)$", message)[1]
    words = shlex.split(command)
    assert words[:3] == ["gserec", "preprocess", "--dataset"]
    dataset, rest = words[3], words[4:]
    settings = {"show_progress": False, "use_gpu": False}
    if rest[:1] == ["--data-path"]:
        settings["data_path"], rest = rest[1], rest[2:]
    preprocess_dataset(dataset, settings | parse_settings(rest))


def test_nothing_given_needs_nothing_said(random_dataset, make_config):
    config = make_config(embedding_size=8, seed=3, eval_args={"mode": "full"}, preprocess_missing_codes=False)
    assert preprocess_command(config) == "gserec preprocess --dataset toy"
    assert advice_to_make_again(config) == "Make the codes again: gserec preprocess --dataset toy"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"user_inter_num_interval": "[6,inf)"}, "'--user_inter_num_interval=[6,inf)'"),
        ({"short_users": "keep"}, "--short_users=keep"),
        ({"val_interval": {"timestamp": "[3,inf)"}}, """'--val_interval={"timestamp": "[3,inf)"}'"""),
        ({"filter_inter_by_user_or_item": False}, "--filter_inter_by_user_or_item=false"),
        ({"rm_dup_inter": None}, "--rm_dup_inter=null"),
        ({"encoding": "gbk"}, "--encoding=gbk"),
        ({"seq_separator": "|"}, """'--seq_separator="|"'"""),
        ({"eval_args": {"split": {"RS": [8, 1, 1]}, "mode": "full"}}, """'--eval_args={"split": {"RS": [8, 1, 1]}}'"""),
        ({"codebook_size": 4, "rq_hidden_sizes": [8]}, "--codebook_size=4 '--rq_hidden_sizes=[8]'"),
    ],
)
def test_what_decides_the_codes_is_said(random_dataset, make_config, settings, words):
    config = make_config(**settings)
    assert preprocess_command(config) == f"gserec preprocess --dataset toy {words}"
    _, *requested = shlex.split(words.replace("'--", "x '--", 1) if words.startswith("'") else f"x {words}")
    read = parse_settings(requested)
    for name, value in settings.items():
        if name != "eval_args":
            assert read[name] == value


def test_another_folder_is_said(random_dataset, make_config, tmp_path, monkeypatch):
    elsewhere = tmp_path / "else where"
    random_dataset.rename(elsewhere)
    config = make_config(data_path=str(elsewhere))
    assert preprocess_command(config) == f"gserec preprocess --dataset toy --data-path '{elsewhere}'"
    monkeypatch.chdir(tmp_path)
    assert preprocess_command(make_config(data_path="else where")).endswith("--data-path 'else where'")


@pytest.mark.parametrize(
    "settings",
    [
        {"user_inter_num_interval": "[6,inf)"},
        {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}},
        {"codebook_size": 6},
    ],
)
def test_following_the_advice_on_stale_codes(random_dataset, prepare, tmp_path, settings):
    elsewhere = tmp_path / "elsewhere"
    random_dataset.rename(elsewhere)
    for path in elsewhere.glob("toy/toy.code*"):
        path.unlink()
    prepare(data_path=str(elsewhere), **TINY)
    requested = {"data_path": str(elsewhere), **TINY, **settings}
    with pytest.raises(DataError, match="Make the codes again") as error:
        prepare(**requested)
    follow(str(error.value))
    prepare(**requested)


def test_following_the_advice_on_missing_codes(random_dataset, prepare):
    (random_dataset / "toy" / "toy.code").unlink()
    requested = {**TINY, "user_inter_num_interval": "[6,inf)", "preprocess_missing_codes": False}
    with pytest.raises(DataError, match="toy.code: file not found. Make it:") as error:
        prepare(**requested)
    follow(str(error.value))
    prepare(**requested)


@pytest.mark.parametrize("length", [0, 10, -7])
def test_a_truncated_file_is_to_be_made_again(random_dataset, prepare, length):
    path = random_dataset / "toy" / "toy.code"
    path.unlink()
    prepare(**TINY)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError) as error:
        prepare()
    again = "Make the codes again: gserec preprocess --dataset toy"
    assert str(error.value) == f"{path}: not the codes described in toy.code.json. {again}"


@pytest.mark.parametrize("part", ["files", "settings"])
@pytest.mark.parametrize("value", [[1], ["inter"], None, 3])
def test_a_record_with_something_else_in_it(random_dataset, prepare, part, value):
    (random_dataset / "toy" / "toy.code").unlink()
    prepare(**TINY)
    record = random_dataset / "toy" / "toy.code.json"
    made = json.loads(record.read_text())
    made["fingerprint"][part] = value
    # One that is whole, but not what a record is.
    write_json(record, {name: content for name, content in made.items() if name != "checksum"})
    with pytest.raises(DataError, match="damaged: it does not say what the codes were made from. Make the codes"):
        prepare()
