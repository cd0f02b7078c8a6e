import json
import re

import pytest

from recbole_gserec.data.fingerprint import FILES, SETTINGS, check_fingerprint, dataset_fingerprint
from recbole_gserec.errors import DataError

SPLIT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}


@pytest.fixture
def config():
    return {**dict.fromkeys(SETTINGS), "eval_args": {**SPLIT, "mode": {"valid": "uni99"}}, "embedding_size": 64}


@pytest.fixture
def folder(tmp_path):
    for suffix in (*FILES, "code"):
        (tmp_path / f"d.{suffix}").write_text(f"{suffix}\n")
    return tmp_path


def check(made_from, now):
    check_fingerprint(made_from, now, "d.code", "Make it again.")


def test_survives_json(folder, config):
    config["val_interval"] = {"rating": "[3,inf)", "bounds": (1, 2)}
    now = dataset_fingerprint(folder, "d", config)
    check(json.loads(json.dumps(now)), dataset_fingerprint(folder, "d", config))


@pytest.mark.parametrize("suffix", FILES)
def test_every_file_counts(folder, config, suffix):
    made_from = dataset_fingerprint(folder, "d", config)
    # The same size and the same letters.
    (folder / f"d.{suffix}").write_text(f"{suffix[::-1]}\n")
    expected = f"d.code: made from other data: the file '{suffix}' has changed since. Make it again."
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        check(made_from, dataset_fingerprint(folder, "d", config))


@pytest.mark.parametrize("had_items", [True, False])
def test_a_file_that_came_or_went_counts(folder, config, had_items):
    with_items = dataset_fingerprint(folder, "d", config)
    (folder / "d.item").unlink()
    without_items = dataset_fingerprint(folder, "d", config)
    with pytest.raises(DataError, match="the file 'item' has changed since"):
        check(*((with_items, without_items) if had_items else (without_items, with_items)))


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_of_the_data_counts(folder, config, setting):
    made_from = dataset_fingerprint(folder, "d", config)
    with pytest.raises(DataError, match=f"the setting '{setting}' has changed since"):
        check(made_from, dataset_fingerprint(folder, "d", {**config, setting: "[3,inf)"}))


@pytest.mark.parametrize(("part", "value"), [("split", {"RS": [0.8, 0.1, 0.1]}), ("order", "RO"), ("group_by", "none")])
def test_the_split_counts(folder, config, part, value):
    made_from = dataset_fingerprint(folder, "d", config)
    other = {**config, "eval_args": {**config["eval_args"], part: value}}
    with pytest.raises(DataError, match="the setting 'eval_args' has changed since"):
        check(made_from, dataset_fingerprint(folder, "d", other))


def test_nothing_else_counts(folder, config):
    made_from = dataset_fingerprint(folder, "d", config)
    (folder / "d.code").write_text("other codes")
    (folder / "other.inter").write_text("another dataset")
    other = {**config, "embedding_size": 8, "eval_args": {**SPLIT, "mode": {"valid": "full"}}}
    check(made_from, dataset_fingerprint(folder, "d", other))


def test_a_record_that_knows_less_is_stale(folder, config):
    now = dataset_fingerprint(folder, "d", config)
    with pytest.raises(DataError, match="the file 'inter' has changed since"):
        check({}, now)
    with pytest.raises(DataError, match=f"the setting '{SETTINGS[0]}|eval_args' has changed since"):
        check({"files": now["files"]}, now)


def test_records_before_the_format_counted_are_taken(folder, config):
    now = dataset_fingerprint(folder, "d", config)
    before = {name: value for name, value in now["settings"].items() if "separator" not in name and name != "encoding"}
    check({**now, "settings": before}, now)
