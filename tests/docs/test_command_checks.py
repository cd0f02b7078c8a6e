"""The checks of commands that are not run find what a reader would trip over."""

from __future__ import annotations

import shlex

import pytest

from recbole_gserec.errors import SettingError
from tests.docs.command_checks import check_command, check_files
from tests.docs.workplace import shorter


@pytest.mark.parametrize(
    "wrong",
    [
        "gserec benchmark --datasets shop",
        "gserec benchmark --dataset shop --model GSERecc",
        "gserec benchmark --dataset shop --preset table3",
        "gserec benchmark --dataset shop --model SASRec --epoch=3",
        "gserec preprocess --dataset shop --preset table2",
        "gserec preprocess --dataset shop --rq_epoch=3",
        "gserec preprocess --preset paper",
        "gserec convert amazon --input raw --min-search 1",
        "gserec convert amazone --input raw",
        "gserec analyse stats --dataset shop",
        "run_recbole --model=GSERec --lambda_ucl=0.1",
        "run_recbole --model=GSERek",
        "make demos",
        "pip install 'recbole-gserec[vlm]'",
        "pip install torch==2.12.0",
        "pip install -c constraint.txt .",
        "vllm bench models/qwen",
        "rm -r dataset",
    ],
)
def test_wrong_commands_are_found(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, LookupError, SettingError)):
        check_command(shlex.split(wrong))


@pytest.mark.parametrize(
    "right",
    [
        "gserec benchmark --dataset shop --preset table2 --config-files tuned/best.yaml --epochs=3",
        "gserec preprocess --dataset shop --preset paper --rq_epochs=3",
        "gserec convert logs ... --search-columns query=title",
        "run_recbole --model=SASRec --n_layers=1",
        "pip install -c constraints.txt -e '.[dev]'",
    ],
)
def test_right_commands_pass(right, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_command(shlex.split(right))


def test_missing_files_are_found():
    check_files("see properties/preset/paper.yaml")
    with pytest.raises(AssertionError):
        check_files("see properties/preset/papers.yaml")


@pytest.mark.parametrize(
    ("shown", "run"),
    [
        ("run_recbole --model=SASRec --epochs=20", "run_recbole --model=SASRec --epochs=1"),
        ("gserec tune --model SASRec --samples 20", "gserec tune --model SASRec --samples 2 --epochs=1"),
        ("gserec recommend --checkpoint a.pth --k 20", "gserec recommend --checkpoint a.pth --k 20"),
        ("gserec benchmark --report-only --output b", "gserec benchmark --report-only --output b"),
        ("gserec benchmark -d a --seeds 1,2 --epochs=50", "gserec benchmark -d a --seeds 1 --epochs=1"),
    ],
)
def test_only_what_takes_time_is_shortened(shown, run):
    codes = {"rq_epochs", "rq_warmup_epochs"}
    made = [word for word in shorter(shlex.split(shown)) if word.partition("=")[0].removeprefix("--") not in codes]
    assert made == shlex.split(run)
