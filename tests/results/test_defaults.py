"""Runs whose defaults have changed since, and tables of runs that were made with different code."""

import pytest

from recbole_gserec.files.stored import plain
from recbole_gserec.results import tables
from recbole_gserec.results.cells import changed_defaults
from recbole_gserec.runs.plan import read_preset
from recbole_gserec.settings.config import make_config
from recbole_gserec.settings.defaults import dataset_settings, for_train_rows, model_settings, protocol_settings
from tests.results.test_tables import note, ranks_with, rendered, table_of
from tests.runs.stored_runs import record_of, store_run

GIT = {"commit": "a" * 40, "dirty": False}


@pytest.mark.parametrize("model", [*read_preset("table2").models, "BPR"])
def test_the_defaults_of_today_are_those_a_run_takes(model, random_dataset, tmp_path):
    here = {"data_path": str(random_dataset), "gpu_id": "", "use_gpu": False}
    own = [{"train_rows": form} for form in ("users", "targets") if "train_rows" in model_settings(model)]
    for given in ({}, read_preset("table2").settings, *own):
        config = make_config(model, "toy", given, here, tmp_path / "settings.yaml")
        record = {"model": model, "dataset": "toy", "given": given, "settings": plain(config.final_config_dict)}
        assert changed_defaults(record) == {}


def test_a_default_that_changed_is_found_unless_the_setting_was_given():
    took = {**for_train_rows(model_settings("GSERec"), {}), "lambda_u_cl": 5, "n_heads": 16}
    record = record_of("toy", "GSERec", 1, [1, 2], settings=took, given={"n_heads": 16})
    assert changed_defaults(record) == {"lambda_u_cl": (5, model_settings("GSERec")["lambda_u_cl"])}


def test_a_setting_that_there_was_not_is_a_changed_default():
    took = for_train_rows(model_settings("GSERec"), {})
    default = took.pop("n_heads")
    assert changed_defaults(record_of("toy", "GSERec", 1, [1, 2], settings=took)) == {"n_heads": (None, default)}


def test_the_protocol_and_the_dataset_have_defaults_too():
    (name, value), *_ = dataset_settings("amazon-cds").items()
    took = {**protocol_settings(), **dataset_settings("amazon-cds"), "MAX_CLICK_LIST_LENGTH": 50, name: "other"}
    found = changed_defaults(record_of("amazon-cds", "SASRec", 1, [1, 2], settings=took))
    assert found == {"MAX_CLICK_LIST_LENGTH": (50, 5), name: ("other", value)}
    # Without searches, RecBole's own defaults are those of its own models.
    del took["short_users"]
    assert changed_defaults(record_of("amazon-cds", "SASRec", 1, [1, 2], settings=took)) == {}


def test_a_table_tells_of_changed_defaults(tmp_path):
    now = for_train_rows(model_settings("GSERec"), {})
    for seed in (0, 1, 2):
        took = {**now, "lambda_u_cl": 5} if seed else now
        store_run(tmp_path, "toys", "GSERec", seed, ranks_with(0.5), settings=took)
    expected = f"GSERec on toys: seeds 1, 2 made with earlier defaults (lambda_u_cl 5, now {now['lambda_u_cl']})."
    assert note(table_of(tmp_path), "GSERec") == expected


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"git": {**GIT, "commit": "b" * 40}}, ("commit aaaaaaaaaaaa", "commit bbbbbbbbbbbb")),
        ({"git": {**GIT, "dirty": True}}, ("commit aaaaaaaaaaaa", "commit aaaaaaaaaaaa with changes")),
        ({"git": {"commit": None, "dirty": None}}, ("commit aaaaaaaaaaaa", "no commit")),
        ({"versions": {"recbole": "1.2.1"}}, ("recbole 1.2.0", "recbole 1.2.1")),
    ],
)
def test_a_table_tells_of_different_code(tmp_path, changes, codes):
    for dataset in ("books", "toys"):
        for model in ("SASRec", "UniSAR", "GSERec"):
            differs = dataset == "toys" and model == "GSERec"
            store_run(tmp_path, dataset, model, 0, ranks_with(0.5), **(changes if differs else {}))
    expected = f"toys: not all results were made with the same code ({codes[0]}: SASRec, UniSAR; {codes[1]}: GSERec)."
    table = table_of(tmp_path)
    assert table.remarks == (expected,)
    assert all(expected in text for text in (tables.table_markdown(table), tables.table_latex(table), rendered(table)))


def test_uncommitted_changes_are_told_apart(tmp_path):
    for model, changes in {"SASRec": "1234567890ab", "UniSAR": "1234567890ab", "GSERec": "cdef12345678"}.items():
        git = {**GIT, "dirty": True, "changes": changes}
        store_run(tmp_path, "toys", model, 0, ranks_with(0.5), git=git)
    (remark,) = table_of(tmp_path).remarks
    assert "with changes 1234567890ab: SASRec, UniSAR; commit aaaaaaaaaaaa with changes cdef12345678: GSERec" in remark


def test_the_same_code_needs_no_word(tmp_path):
    for model in ("SASRec", "GSERec"):
        store_run(tmp_path, "toys", model, 0, ranks_with(0.5))
    # What failed is no result.
    store_run(tmp_path, "toys", "KAR", 0, git={"commit": "b" * 40, "dirty": True})
    assert table_of(tmp_path).remarks == ()
