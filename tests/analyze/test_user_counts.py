"""Training events of each user, against a plain count in the rows of the files."""

import pandas as pd
import pytest

from recbole_gserec.analyze.group_results import check_files, training_counts
from recbole_gserec.errors import DataError
from recbole_gserec.runs.prepare import dataset_digest
from tests.conftest import random_files, write_dataset

HERE = {"use_gpu": False}


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "dataset", "toy", **random_files())


def plain_counts(files, kind):
    counts = {}
    for user in {row[0] for row in files["inter"]}:
        times = sorted(time for own, _, time in files["inter"] if own == user)
        valid_time = times[-2]
        searched = [time for own, _, time, _ in files["search"] if own == user]
        counts[user] = len(times) - 2 if kind == "interactions" else sum(time < valid_time for time in searched)
    return counts


@pytest.mark.parametrize("kind", ["searches", "interactions"])
def test_events_before_the_validation_target(data, kind):
    expected = plain_counts(random_files(), kind)
    counts = training_counts("toy", data, HERE, kind)
    assert {user: int(counts[user]) for user in expected} == expected
    # The user without interactions has nothing held out: all searches, no interaction.
    assert counts["searcher"] == (1 if kind == "searches" else 0)


def test_filters_of_the_run_are_heeded(data):
    requested = {"user_inter_num_interval": "[20,inf)"}
    counts = training_counts("toy", data, requested, "interactions")
    long = {user: n for user, n in plain_counts(random_files(), "interactions").items() if n + 2 >= 20}
    assert {user: n for user, n in counts.to_dict().items() if n} == long


def test_models_settings_are_not(data):
    assert training_counts("toy", data, {"hidden_size": 64, "loss_type": "CE"}, "searches").sum() > 0


@pytest.mark.parametrize("searches", [None, []])
def test_a_dataset_without_searches(data, searches):
    path = data / "toy" / "toy.search"
    if searches is None:
        path.unlink()
    else:
        path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match="there are no searches.*--by interactions"):
        training_counts("toy", data, HERE, "searches")
    counts = training_counts("toy", data, HERE, "interactions")
    expected = plain_counts(random_files(), "interactions")
    assert {user: int(counts[user]) for user in expected} == expected


def test_files_of_other_runs(data):
    digest = dataset_digest({"benchmark_filename": None, "data_path": data / "toy", "dataset": "toy"})
    check_files("toy", data, digest)
    with open(data / "toy" / "toy.inter", "a") as file:
        file.write("u0\ti149\t99\n")
    with pytest.raises(DataError, match="have changed since the runs were made"):
        check_files("toy", data, digest)
    with pytest.raises(DataError, match="file not found"):
        check_files("other", data, digest)


def test_counts_are_by_original_id(data):
    counts = training_counts("toy", data, HERE, "searches")
    assert isinstance(counts, pd.Series) and set(counts.index) == {f"u{n}" for n in range(40)} | {"searcher"}
