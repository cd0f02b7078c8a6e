import json
import logging
import shutil

import pytest
import torch

from recbole_gserec.data.search_files import read_code_file
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.preprocess.codes import read_code_record
from recbole_gserec.preprocess.run import make_codes_from_config, preprocess_dataset
from recbole_gserec.preprocess.summarizers.known_summarizers import SUMMARIZERS
from tests.preprocess.test_pipeline import Counting

TINY = {
    "n_codebooks": 2,
    "codebook_size": 4,
    "code_dim": 4,
    "rq_hidden_sizes": [8],
    "rq_epochs": 2,
    "rq_warmup_epochs": 0,
    "encoder_dim": 8,
    "show_progress": False,
}
AGAIN = "Make the codes again: gserec preprocess --dataset toy"


def write(folder, files):
    headers = {
        "inter": "user_id:token\titem_id:token\ttimestamp:float",
        "search": "search_user_id:token\tsearch_query_id:token\tsearch_timestamp:float\tsearch_item_ids:token_seq",
        "query": "query_id:token\tquery_words:token_seq",
        "item": "item_id:token\ttitle:token_seq",
    }
    for suffix, header in headers.items():
        lines = [header, *("\t".join(map(str, row)) for row in files[suffix])]
        (folder / f"toy.{suffix}").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """A dataset whose codes `gserec preprocess` has made."""
    folder = tmp_path_factory.mktemp("data") / "toy"
    folder.mkdir()
    items = "abcdefgh"
    files = {
        "inter": [(f"u{user}", items[(user + time) % 8], time) for user in range(8) for time in range(5)],
        "search": [(f"u{user}", f"q{user % 3}", 1, items[user]) for user in range(1, 8)],
        "query": [("q0", "red shoe"), ("q1", "shoe"), ("q2", "")],
        "item": [(item, f"title {item}") for item in items],
    }
    write(folder, files)
    path = preprocess_dataset("toy", {**TINY, "data_path": str(folder.parent)})
    assert path == folder / "toy.code"
    return folder


@pytest.fixture
def folder(coded, tmp_path):
    """A copy to change; the dataset ``toy`` of ``prepare``."""
    return shutil.copytree(coded, tmp_path / "dataset" / "toy")


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_codes_that_fit_are_read(folder, prepare, caplog):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with caplog.at_level(logging.WARNING):
        _, dataset, _ = prepare()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert "toy.code is missing" not in caplog.text
    table, sides = read_code_file(folder / "toy.code", separator="\t", seq_separator=" ", encoding="utf-8")
    assert table["code_user_id"].tolist() == [f"u{user}" for user in range(8)]
    for side, column in (("search", "search_codes"), ("recommendation", "rec_codes")):
        codes = dataset.codes[side]
        assert codes.codes.shape == (9, 2) and (codes.codes[1:] > 0).all()
        tokens = sides[column].frame[column].tolist()
        # Equal codes in the file are equal codes in the array, and only those.
        pairs = set(zip(tokens, codes.codes[1:].flatten().tolist(), strict=True))
        assert len(pairs) == len(set(tokens)) == codes.n_codes


def test_missing_codes_are_made_as_the_command_makes_them(folder, prepare, caplog):
    expected = (folder / "toy.code").read_bytes()
    for path in folder.glob("toy.code*"):
        path.unlink()
    with caplog.at_level(logging.WARNING):
        _, dataset, _ = prepare(**TINY)
    assert f"{folder / 'toy.code'} is missing. It is made now, with summarizer 'template'" in caplog.text
    assert (folder / "toy.code").read_bytes() == expected
    assert dataset.codes["search"].codes.shape == (9, 2)
    made = (folder / "toy.code").stat().st_mtime_ns
    prepare(**TINY)
    assert (folder / "toy.code").stat().st_mtime_ns == made


def test_a_model_that_reads_no_codes_makes_none(folder, prepare):
    for path in folder.glob("toy.code*"):
        path.unlink()
    _, dataset, _ = prepare(additional_feat_suffix=["search", "query"])
    assert not hasattr(dataset, "codes")
    assert list(folder.glob("toy.code*")) == []
    prepare("SASRec")
    assert list(folder.glob("toy.code*")) == []


@pytest.mark.parametrize("suffix", ["inter", "search", "query", "item"])
def test_data_changed_since(folder, prepare, suffix):
    path = folder / f"toy.{suffix}"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DataError) as error:
        prepare()
    problem = f"made from other data: the file '{suffix}' has changed since"
    assert one_line(error) == f"{folder / 'toy.code'}: {problem}. {AGAIN}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("short_users", "keep"),
        ("user_inter_num_interval", "[3,inf)"),
        ("rm_dup_inter", "first"),
        ("eval_args", {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "uni99"}),
    ],
)
def test_settings_of_the_training_part_changed_since(folder, prepare, name, value):
    with pytest.raises(DataError) as error:
        prepare(**{name: value})
    problem = f"made from other data: the setting '{name}' has changed since"
    assert one_line(error).startswith(f"{folder / 'toy.code'}: {problem}. {AGAIN} ")
    assert f"--{name}=" in one_line(error)


def test_other_settings_do_not_matter(folder, prepare):
    eval_args = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    prepare(embedding_size=8, seed=5, MAX_ITEM_LIST_LENGTH=3, MAX_SEARCH_LIST_LENGTH=2, eval_args=eval_args)


def test_edited_codes(folder, prepare):
    path = folder / "toy.code"
    first, second = path.read_text().splitlines()[1:3]
    path.write_text(path.read_text().replace(first, first.split("\t", 1)[0] + "\t" + second.split("\t", 1)[1] + " "))
    with pytest.raises(DataError) as error:
        prepare()
    assert one_line(error) == f"{path}: not the codes described in toy.code.json. {AGAIN}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "truncated, or not JSON"),
        (b'{"fingerprint": {', "truncated, or not JSON"),
        (b"\xff", "truncated, or not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "it does not say what the codes were made from"),
        (b'{"fingerprint": {}}', "it does not say what the codes were made from"),
    ],
)
def test_a_damaged_record(folder, prepare, content, problem):
    record = folder / "toy.code.json"
    record.write_bytes(content)
    with pytest.raises(DataError) as error:
        prepare()
    assert one_line(error) == f"{record}: damaged: {problem}. {AGAIN}"


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", ["code", "code.json"])
def test_a_changed_bit(folder, prepare, suffix, part):
    path = folder / f"toy.{suffix}"
    data = bytearray(path.read_bytes())
    # In a line, not between two of JSON.
    index = next(at for at in range(int(part * len(data)), len(data)) if chr(data[at]).isalnum())
    data[index] ^= 2
    path.write_bytes(data)
    with pytest.raises(DataError) as error:
        prepare()
    assert one_line(error).startswith(f"{path}: ") and one_line(error).endswith(AGAIN)


def test_codes_made_elsewhere_need_no_record(folder, prepare):
    (folder / "toy.code.json").unlink()
    (folder / "toy.query").write_text((folder / "toy.query").read_text() + "\n")
    _, dataset, _ = prepare()
    assert dataset.codes["search"].codes.shape == (9, 2)


def test_the_record_tells_what_the_codes_were_made_from(folder):
    record = json.loads((folder / "toy.code.json").read_text())
    assert set(record["fingerprint"]["files"]) == {"inter", "search", "query", "item"}
    assert record["fingerprint"]["settings"]["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert str(folder.parent) not in json.dumps(record)


def test_offline_settings_that_the_codes_were_not_made_with_are_refused(random_dataset, prepare):
    (random_dataset / "toy" / "toy.code").unlink()
    quick = {"rq_epochs": 2, "rq_warmup_epochs": 1, "codebook_size": 4}
    prepare(**quick)
    prepare(**quick)
    prepare()
    # Other forms of the same values.
    prepare(rq_epochs="2", rq_hidden_sizes=(512, 256, 128, 64), encoder_dim=None, tau_1="1e-1")
    with pytest.raises(DataError, match=r"made with codebook_size=4, but codebook_size=8"):
        prepare(**{**quick, "codebook_size": 8})
    with pytest.raises(DataError, match=r"made with codebook_size=4, but codebook_size=\[8, 4, 4, 2\]"):
        prepare(**{**quick, "codebook_size": [8, 4, 4, 2]})


def test_a_codebook_size_for_each_level(random_dataset, prepare):
    """Made, read and made sure of again by the real stage; none of the names is beyond its level's size."""
    path, sizes = random_dataset / "toy" / "toy.code", [8, 2, 3]
    path.unlink()
    sized = {"rq_epochs": 2, "rq_warmup_epochs": 1, "n_codebooks": 3, "codebook_size": sizes}
    _, dataset, _ = prepare(**sized)
    made = path.read_bytes()
    prepare(**sized)
    assert path.read_bytes() == made
    assert read_code_record(path, "").settings["codebook_size"] == sizes
    _, sequences = read_code_file(path, separator="\t", seq_separator=" ", encoding="utf-8")
    for side, flat in zip(("search", "recommendation"), sequences.values(), strict=True):
        names = set(flat.frame.iloc[:, 0])
        assert names <= {f"{side[0]}{level}_{code}" for level, size in enumerate(sizes, 1) for code in range(size)}
        assert len(names) == dataset.codes[side].n_codes and dataset.codes[side].codes.shape[1] == 3
    with pytest.raises(SettingError, match="give one size for each level"):
        prepare(**{**sized, "n_codebooks": 4, "code_path": str(path.with_name("other.code"))})


@pytest.mark.parametrize("split", ["valid_and_test", "test_only"])
def test_validation_items_of_the_report(random_dataset, make_config, prepare, random_rows, monkeypatch, split):
    given = {}
    monkeypatch.setattr("recbole_gserec.preprocess.run.make_codes", lambda *_, **options: given.update(options))
    eval_args = {"split": {"LS": split}, "order": "TO"}
    make_codes_from_config(make_config(eval_args=eval_args))
    _, dataset, _ = prepare()
    users, items = (dataset.field2id_token[field].tolist() for field in ("user_id", "item_id"))
    for user, item in zip(users[1:], given["validation_items"].tolist(), strict=True):
        own = [row[1] for row in random_rows["inter"] if row[0] == user]
        assert item == (items.index(own[-2]) if own and split == "valid_and_test" else -1)


def test_codes_of_another_file(folder, prepare, tmp_path):
    """Made where ``code_path`` says, by the same summaries and vectors, and read from there."""
    own = (folder / "toy.code").read_bytes()
    other = tmp_path / "other" / "two.code"
    settings = {**TINY, "codebook_size": 3, "code_path": str(other), "preprocess_store": str(tmp_path / "s.sqlite3")}
    _, dataset, _ = prepare("GSERec", **settings)
    assert (folder / "toy.code").read_bytes() == own
    record = json.loads(other.with_name("two.code.json").read_text())
    assert record["settings"]["codebook_size"] == 3 and "code_path" not in record["settings"]
    table, sequences = read_code_file(other, separator="\t", seq_separator=" ", encoding="utf-8")
    assert len(dataset.codes["search"].codes) == dataset.user_num
    used = {code for flat in sequences.values() for code in flat.frame.iloc[:, 0]}
    assert all(int(code.split("_")[1]) < 3 for code in used)
    with pytest.raises(DataError, match="codebook_size=3, but codebook_size=4"):
        prepare("GSERec", **{**settings, "codebook_size": 4})


def test_codes_in_one_folder_share_a_store(folder, monkeypatch):
    """No summary is asked for twice, whatever the codes are called."""
    summarizer = Counting()
    monkeypatch.setitem(SUMMARIZERS, "template", lambda settings: summarizer)
    settings = {**TINY, "data_path": str(folder.parent), "preprocess_seed": 1}
    asked = []
    for path in (folder / "toy.code", folder / "two.code", folder / "elsewhere" / "two.code"):
        preprocess_dataset("toy", {**settings, "code_path": str(path)})
        asked.append(summarizer.n_asked)
    assert asked[0] == asked[1] == asked[2] / 2 > 0
    stores = [path.relative_to(folder) for path in sorted(folder.rglob("*.sqlite3"))]
    assert list(map(str, stores)) == ["elsewhere/toy.preprocess.sqlite3", "toy.preprocess.sqlite3"]


@pytest.mark.parametrize("path", ["codes", ".code", 3])
def test_code_path_is_a_file_of_codes(folder, prepare, path):
    with pytest.raises(SettingError, match=r"code_path is .*; it must be the name of a file that ends with \.code"):
        prepare("GSERec", code_path=path)


def test_codes_taken_are_those_of_a_dataset_made_with_them(folder, prepare, make_config, tmp_path):
    from recbole.data import create_dataset, data_preparation

    settings = {**TINY, "codebook_size": 3, "code_path": str(tmp_path / "other" / "two.code")}
    settings["preprocess_store"] = str(tmp_path / "s.sqlite3")
    taken = create_dataset(make_config("GSERec", **TINY))
    # The first time they are made, the second they are read.
    for _ in range(2):
        taken.take_codes(make_config("GSERec", **settings))
    _, made, (train, *_) = prepare("GSERec", **settings)
    first = next(iter(data_preparation(make_config("GSERec", **settings), taken)[0]))
    for side in ("search", "recommendation"):
        assert torch.equal(taken.codes[side].codes, made.codes[side].codes)
        assert taken.codes[side].n_codes == made.codes[side].n_codes
    _, other, _ = prepare("GSERec", **TINY)
    assert not torch.equal(other.codes["search"].codes, taken.codes["search"].codes)
    expected = next(iter(train))
    assert all(torch.equal(first[name], expected[name]) for name in expected.interaction if "neg" not in name)


@pytest.mark.parametrize("change", ["stranger", "missing", "hash"])
def test_codes_of_other_users_are_not_taken(folder, make_config, tmp_path, change):
    from recbole.data import create_dataset

    dataset = create_dataset(make_config("GSERec", **TINY))
    lines = (folder / "toy.code").read_text().splitlines()
    other = tmp_path / "other.code"
    if change == "stranger":
        other.write_text("\n".join([*lines, lines[-1].replace("u7", "stranger")]) + "\n")
    else:
        other.write_text("\n".join(lines[:-1]) + "\n")
    if change == "hash":
        shutil.copy(folder / "toy.code.json", tmp_path / "other.code.json")
    problem = {
        "stranger": r"1 of its users are not in .*'stranger'",
        "missing": "no codes",
        "hash": "not the codes",
    }
    with pytest.raises(DataError, match=problem[change]):
        dataset.take_codes(make_config("GSERec", **{**TINY, "code_path": str(other)}))
        dataset.build()
