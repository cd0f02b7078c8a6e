"""What identifies a run, and when it counts as made."""

import hashlib
import json

import pytest

from recbole_gserec.files.stored import plain
from recbole_gserec.runs.record import failed_record
from recbole_gserec.runs.run_store import Run, Spec, read_run, read_status, write_run
from tests.runs.stored_runs import write_ranks

RUN = Run("toy", "d1", "SASRec", 7, {"epochs": 3, "topk": [1, 5]})


def test_the_key_is_a_hash_of_all_that_the_numbers_depend_on():
    text = '{"dataset":"toy","dataset_digest":"d1","given":{"epochs":3,"topk":[1,5]},"model":"SASRec","seed":7}'
    assert RUN.key == hashlib.sha256(text.encode()).hexdigest()[:10]


def test_the_order_of_settings_does_not_change_the_key():
    assert Run("toy", "d1", "SASRec", 7, {"topk": [1, 5], "epochs": 3}).key == RUN.key


@pytest.mark.parametrize(
    "other",
    [
        Run("toys", "d1", "SASRec", 7, RUN.requested),
        Run("toy", "d2", "SASRec", 7, RUN.requested),
        Run("toy", "d1", "BERT4Rec", 7, RUN.requested),
        Run("toy", "d1", "SASRec", 8, RUN.requested),
        Run("toy", "d1", "SASRec", 7, {"epochs": 4, "topk": [1, 5]}),
        Run("toy", "d1", "SASRec", 7, {"epochs": 3}),
        Run("toy", "d1", "SASRec", 7, RUN.requested, {"toy.code": "c1"}),
    ],
)
def test_anything_else_changes_the_key(other):
    assert other.key != RUN.key


def test_where_a_run_lies(tmp_path):
    assert RUN.folder(tmp_path) == tmp_path / "runs" / "toy" / "SASRec" / f"7-{RUN.key}"


def test_a_spec_comes_back_as_it_was_written(tmp_path):
    spec = Spec(RUN, RUN.folder(tmp_path), tmp_path / "dataset", {"gpu_id": "1"})
    assert Spec.read(spec.write()) == spec


def test_a_run_counts_as_made_when_its_record_and_its_ranks_are_whole(tmp_path):
    assert read_status(tmp_path) is None
    write_run(tmp_path, {"format": 1, "status": "finished", "seed": 7})
    assert read_run(tmp_path) == {"format": 1, "status": "finished", "seed": 7}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert read_status(tmp_path) is None
    write_ranks(tmp_path / "ranks.parquet", [1])
    assert read_status(tmp_path) == "finished"


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"format": 1, "stat',
        "[]",
        '{"format": 2, "status": "finished"}',
        '{"format": 1}',
        '{"format": 1, "status": "?"}',
    ],
)
def test_what_is_no_record_counts_as_unfinished(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    assert read_status(tmp_path) is None


def test_a_record_that_cannot_be_written_leaves_none(tmp_path):
    with pytest.raises(TypeError):
        write_run(tmp_path, {"status": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_reported_in_one_line():
    from datetime import UTC, datetime

    record = failed_record(RUN, datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), "a\n  b" + "c" * 900, "Traceback")
    assert record["error"].startswith("a bc") and len(record["error"]) == 500
    assert record["started"] == "2030-01-02T03:04:05+00:00"
    named = ("format", "dataset", "dataset_digest", "model", "seed", "given", "status", "traceback")
    assert [record[name] for name in named] == [1, "toy", "d1", "SASRec", 7, RUN.requested, "failed", "Traceback"]
    assert record["versions"]["recbole"] and record["machine"]["cores"] >= 1
    json.dumps(record)


def test_plain_values_are_what_json_can_hold():
    import numpy as np
    import torch
    from recbole.utils import InputType

    value = {"a": InputType.PAIRWISE, 1: (np.float32(0.5), {2}), "d": torch.device("cpu"), "n": None}
    assert plain(value) == {"a": "PAIRWISE", "1": [0.5, [2]], "d": "cpu", "n": None}
