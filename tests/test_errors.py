"""Errors come whole out of other processes."""

import errno
import os
import pickle

import pytest

from recbole_gserec.errors import DataError, SettingError, failure_reason, is_missing_library, nearest, one_line
from recbole_gserec.settings.names import known_settings


def test_an_error_about_a_file_survives_pickling():
    error = DataError("toy.inter", "no such column", "Check the header", line=3)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is DataError
    assert (str(copy), copy.path, copy.line) == (str(error), error.path, 3)


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("modle", ["model", "metrics"], "model"),
        ("GSERecc", ["GSERec", "JSR"], "GSERec"),
        ("shopp", ["shop", "toys"], "shop"),
        ("Hat", ["Hit", "NDCG"], "Hit"),
        ("bpr", ["BPR", "FM"], "BPR"),
        ("lambda_u_cl", ["lambda_coeff", "learning_rate"], None),
        ("device", ["dense", "seed"], None),
        ("x", ["k"], None),
        (7, ["seven"], None),
    ],
)
def test_only_a_name_that_is_really_near_is_suggested(name, known, meant):
    assert nearest(name, known) == meant


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("device", "Set gpu_id to choose a GPU"),
        ("cuda", "Set gpu_id to choose a GPU"),
        ("lr", "Did you mean 'learning_rate'?"),
        ("batch_size", "Did you mean 'train_batch_size'?"),
        ("patience", "Did you mean 'stopping_step'?"),
        ("xyzzy", "See the model's YAML"),
    ],
)
def test_names_of_other_programs_are_known(name, hint):
    assert hint in str(SettingError.unknown(name, known_settings("BPR")))


@pytest.mark.parametrize(
    ("library", "install"),
    [
        ("faiss", "faiss-cpu"),
        ("dgl", "dgl"),
        ("xgboost", "lightgbm xgboost"),
        ("sklearn.cluster", "scikit-learn"),
        ("vllm", "vllm"),
    ],
)
def test_a_missing_library_is_reported_with_what_to_install(library, install):
    error = ModuleNotFoundError(f"No module named '{library}'", name=library)
    line = f"this needs the library '{library}', which is not installed: pip install {install}"
    assert one_line(error) == failure_reason(error) == line


@pytest.mark.parametrize("module", ["recbole_gserec.nothing", "recbole.nothing", "dataset_converters.x"])
def test_a_missing_part_of_our_own_is_a_defect(module):
    assert not is_missing_library(ModuleNotFoundError("x", name=module))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_place_without_permission_is_reported_in_full(tmp_path, monkeypatch, number):
    monkeypatch.chdir(tmp_path)
    error = OSError(number, os.strerror(number), "saved/model.pth")
    assert one_line(error).startswith(f"{tmp_path}/saved/model.pth: {os.strerror(number)}. Choose a path")
