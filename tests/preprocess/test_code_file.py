import hashlib
import json

import numpy as np
import pytest

import recbole_gserec
from recbole_gserec.data.search_files import read_code_file, user_codes
from recbole_gserec.preprocess import codes as code_file
from recbole_gserec.preprocess.codes import code_names, codes_are_current, read_code_record, write_code_file
from recbole_gserec.preprocess.description import describe
from recbole_gserec.preprocess.encoders.known_encoders import make_encoder
from recbole_gserec.preprocess.prompts import template_path
from recbole_gserec.preprocess.summarizers.known_summarizers import SUMMARIZERS
from recbole_gserec.settings.offline import PreprocessSettings

USERS = ["196", "\u4e59", "x y"]
SEARCH = np.array([[17, 201], [0, 3], [17, 3]])
REC = np.array([[3, 3], [3, 17], [9, 9]])
ALL = np.ones(3, dtype=bool)


def write(prefix, search_coded=ALL, description=None):
    return write_code_file(prefix, USERS, SEARCH, REC, search_coded, ALL, description or {"settings": {}})


def test_content(tmp_path):
    path = write(tmp_path / "d", np.array([True, False, True]))
    assert path == tmp_path / "d.code"
    assert path.read_bytes().decode() == (
        "code_user_id:token\tsearch_codes:token_seq\trec_codes:token_seq\n"
        "196\ts1_17 s2_201\tr1_3 r2_3\n"
        "\u4e59\t\tr1_3 r2_17\n"
        "x y\ts1_17 s2_3\tr1_9 r2_9\n"
    )


def test_names_tell_side_level_and_index_apart():
    names = [
        name
        for side in ("s", "r")
        for cell in code_names(np.arange(12).repeat(3).reshape(12, 3), side, np.ones(12, dtype=bool))
        for name in cell.split()
    ]
    assert len(set(names)) == 2 * 3 * 12


def test_the_dataset_reads_back_what_was_written(tmp_path):
    path = write(tmp_path / "d")
    table, sequences = read_code_file(path, separator="\t", seq_separator=" ", encoding="utf-8")
    assert table["code_user_id"].tolist() == USERS
    codes = user_codes(path, np.arange(1, 4), 4, sequences["search_codes"], "search", "Make them again.")
    # User 0 is padding; users 1 and 3 share the first code and users 2 and 3 the second.
    (_, one, two, three), (a, b) = codes.codes.tolist(), codes.codes.T.tolist()
    assert one[0] == three[0] and two[1] == three[1]
    assert codes.n_codes == 4 and len({*a[1:], *b[1:]}) == 4


def test_description_stands_beside_and_has_the_hash(tmp_path):
    path = write(tmp_path / "d.v2", description={"settings": {"rq_epochs": 5}})
    description = json.loads((tmp_path / "d.v2.code.json").read_text())
    assert path.name == "d.v2.code"
    assert description["settings"] == {"rq_epochs": 5}
    assert description["code_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_interrupted_between_the_files_the_hash_gives_it_away(tmp_path, monkeypatch):
    path = write(tmp_path / "d")
    before = path.read_bytes()
    write_aside = code_file.written_aside

    def fail_on_codes(target):
        if target.suffix == ".code":
            raise OSError("disk full")
        return write_aside(target)

    monkeypatch.setattr(code_file, "written_aside", fail_on_codes)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "d", ~ALL)
    assert path.read_bytes() == before
    description = json.loads((tmp_path / "d.code.json").read_text())
    assert description["code_sha256"] != hashlib.sha256(before).hexdigest()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["d.code", "d.code.json"]


def test_description():
    settings = PreprocessSettings(rq_epochs=60)
    summarizer, encoder = SUMMARIZERS["template"](settings), make_encoder(settings)
    description = describe(settings, summarizer, encoder, {"files": {"inter": "ab"}})
    assert json.loads(json.dumps(description))["settings"]["rq_hidden_sizes"] == [512, 256, 128, 64]
    assert description["settings"]["rq_epochs"] == 60
    assert description["package"] == {"name": "recbole-gserec", "version": recbole_gserec.__version__}
    assert description["summarizer"]["name"] == "template" and description["encoder"]["name"] == "tfidf"
    assert description["encoder"]["settings"]["seed"] == 2024
    assert description["fingerprint"] == {"files": {"inter": "ab"}}
    assert "llm_concurrency" not in description["settings"], "it does not decide the codes"
    assert {"torch", "numpy", "scikit-learn"} <= set(description["libraries"])
    wording = template_path("search", "en").read_text(encoding="utf-8").rstrip()
    assert description["prompts"]["search"] == hashlib.sha256(wording.encode()).hexdigest()


def test_codes_are_current_until_anything_that_decides_them_changes(tmp_path):
    settings = PreprocessSettings(rq_epochs=60)
    made = describe(settings, SUMMARIZERS["template"](settings), make_encoder(settings), {"files": {"inter": "ab"}})
    prefix = tmp_path / "d"
    assert not codes_are_current(prefix, made)
    write(prefix, description={**made, "metrics": {"m": 0.5}})
    assert not codes_are_current(prefix, made), "the report is missing"
    for suffix in ("md", "png"):
        (tmp_path / f"d.code.{suffix}").touch()
    assert codes_are_current(prefix, {**made, "made": "another time", "libraries": {}})
    for part, value in {
        "settings": PreprocessSettings(rq_epochs=70).deciding(),
        "prompts": {"search": "x"},
        "encoder": {"name": "tfidf", "settings": {}},
        "fingerprint": {"files": {"inter": "cd"}},
    }.items():
        assert not codes_are_current(prefix, {**made, part: value}), part
    path = tmp_path / "d.code"
    path.write_text(path.read_text().replace("s1_", "s1_1", 1))
    assert not codes_are_current(prefix, made)
    (tmp_path / "d.code.json").write_text("[1")
    assert not codes_are_current(prefix, made)


def test_a_description_does_not_say_where_anything_is(tmp_path):
    """Codes of others would have other prompts sent to their server, and files written where they say."""
    settings = PreprocessSettings(rq_epochs=60).deciding()
    elsewhere = {"llm_base_url": "http://example.com", "preprocess_store": "/x.sqlite3", "code_path": "/x.code"}
    summarizer = {"name": "template", "settings": {}}
    path = write(tmp_path / "d", description={"settings": {**settings, **elsewhere}, "summarizer": summarizer})
    assert read_code_record(path, "Make them again.").non_default_settings("d") == {"rq_epochs": 60}


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_damaged_codes_are_reported_and_made_again(tmp_path, suffix, caplog):
    description = {"settings": {"rq_epochs": 5}}
    path = write(tmp_path / "d", description=description)
    for report in (".code.md", ".code.png"):
        (tmp_path / f"d{report}").touch()
    assert codes_are_current(tmp_path / "d", description) and not caplog.text
    damaged = path.with_name(path.name + suffix)
    damaged.write_text(damaged.read_text().replace("5", "6") + ("s1_1" if not suffix else ""))
    assert not codes_are_current(tmp_path / "d", description)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and record.message.startswith(f"{damaged}: ")
    assert record.message.endswith("They are made again")
