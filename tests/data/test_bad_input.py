"""What a user can get wrong in a whole dataset, and the one line that says what, where, and what to do."""

import logging
import re
import shutil

import numpy as np
import pyarrow.csv
import pytest
from recbole.data import create_dataset, data_preparation

from recbole_gserec.errors import DataError, SettingError


@pytest.fixture
def attempt(make_config):
    """Loads the dataset ``toy`` for a model, without making codes."""

    def load(model="GSERec", **settings):
        if model == "GSERec":
            settings = {"preprocess_missing_codes": False, **settings}
        config = make_config(model, **settings)
        data_preparation(config, create_dataset(config))

    return load


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def append(suffix, *row):
    """Edit that adds a row to the end of a file."""

    def edit(folder):
        with open(folder / f"toy.{suffix}", "a", encoding="utf-8") as file:
            file.write("\t".join(row) + "\n")

    return edit


def replace(suffix, old, new):
    """Edit that replaces text once."""

    def edit(folder):
        path = folder / f"toy.{suffix}"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return edit


def header_only(suffix):
    def edit(folder):
        path = folder / f"toy.{suffix}"
        path.write_text(path.read_text().splitlines()[0] + "\n")

    return edit


def no_byte(suffix):
    return lambda folder: (folder / f"toy.{suffix}").write_bytes(b"")


def recode(suffix, encoding):
    def edit(folder):
        path = folder / f"toy.{suffix}"
        path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)

    return edit


AGAIN = r"Make the codes again: gserec preprocess --dataset toy$"
NUMBER = r"Give every row a number\.$"

CASES = {
    # what: (edit, the file to blame, its line, what the rest of the message says)
    "inter: empty": (header_only("inter"), "inter", None, r"no interaction in it passes the filters\. Check the file"),
    "inter: header": (
        replace("inter", "user_id:token", "user_id"),
        "inter",
        1,
        "'user_id' is not a 'field:type' header",
    ),
    "inter: name": (
        replace("inter", "timestamp", "time"),
        "inter",
        1,
        "no column 'timestamp'. The header has: user_id",
    ),
    "inter: type": (
        replace("inter", "timestamp:float", "timestamp:token"),
        "inter",
        1,
        r"'timestamp:token' has the wrong type\. Name the column 'timestamp:float'\.$",
    ),
    "inter: columns": (append("inter", "ann", "a"), "inter", 10, "2 columns instead of 3. Separate columns by one tab"),
    "inter: no number": (
        append("inter", "ann", "a", "noon"),
        "inter",
        10,
        f"timestamp is 'noon', not a number. {NUMBER}",
    ),
    "inter: NaN": (append("inter", "ann", "a", "NaN"), "inter", 10, f"timestamp is missing or not a finite.*{NUMBER}"),
    "inter: inf": (append("inter", "ann", "a", "inf"), "inter", 10, f"timestamp is missing or not a finite.*{NUMBER}"),
    "inter: no time": (append("inter", "ann", "a", ""), "inter", 10, f"timestamp is missing or not a finite.*{NUMBER}"),
    "inter: no user": (append("inter", "", "a", "9"), "inter", 10, r"user_id is empty. Give every row a value\.$"),
    "inter: no item": (append("inter", "ann", "", "9"), "inter", 10, r"item_id is empty. Give every row a value\.$"),
    "inter: unordered": (
        append("inter", "ann", "f", "6.5"),
        "inter",
        10,
        r"the time of user 'ann' runs backwards \(1 rows in all\)\. Sort .* --unordered_timestamps=sort$",
    ),
    "inter: spaces": (
        replace("inter", "user_id:token\titem_id:token\t", "user_id:token item_id:token "),
        "inter",
        1,
        "'user_id:token item_id:token timestamp:float' is not a 'field:type' header. Name each column .* one tab",
    ),
    "inter: user is no number": (
        replace("inter", "user_id:token", "user_id:float"),
        "inter",
        1,
        r"'user_id:float' has the wrong type\. Name the column 'user_id:token'\.$",
    ),
    "inter: UTF-16": (
        recode("inter", "utf-16"),
        "inter",
        1,
        "not text in utf-8. Save it in this encoding, or set 'encoding'",
    ),
    "inter: short": (
        append("inter", "dan", "a", "1"),
        "inter",
        None,
        r"1 users have fewer than 3 interactions \(one of them: 'dan'\)\. Drop them with "
        r'--user_inter_num_interval="\[3,inf\)", or train on them without evaluating them: --short_users=keep$',
    ),
    "search: no byte": (no_byte("search"), "search", 1, "'' is not a 'field:type' header"),
    "search: empty": (header_only("search"), "search", None, "no search in it. Search-aware models need searches; use"),
    "search: header": (
        replace("search", "timestamp:float", "timestamp:flat"),
        "search",
        1,
        "is not a 'field:type' head",
    ),
    "search: type": (
        replace("search", "item_ids:token_seq", "item_ids:token"),
        "search",
        1,
        r"'search_item_ids:token' has the wrong type\. Name the column 'search_item_ids:token_seq'\.$",
    ),
    "search: columns": (append("search", "ann", "q1", "9"), "search", 8, "3 columns instead of 4. Separate columns by"),
    "search: no number": (
        append("search", "ann", "q1", "x", ""),
        "search",
        8,
        f"search_timestamp is 'x', not .*{NUMBER}",
    ),
    "search: NaN": (append("search", "ann", "q1", "nan", ""), "search", 8, f"search_timestamp is missing .*{NUMBER}"),
    "search: inf": (append("search", "ann", "q1", "-inf", ""), "search", 8, f"search_timestamp is missing .*{NUMBER}"),
    "search: no time": (append("search", "ann", "q1", "", ""), "search", 8, f"search_timestamp is missing .*{NUMBER}"),
    "search: no user": (
        append("search", "", "q1", "9", ""),
        "search",
        8,
        "search_user_id is empty. Give every row a val",
    ),
    "search: unordered": (
        append("search", "ann", "q1", "8", ""),
        "search",
        8,
        r"the time of user 'ann' runs backwards .* --unordered_timestamps=sort$",
    ),
    "search: unknown query": (
        append("search", "ann", "q9", "9", ""),
        "search",
        8,
        r"1 searches have a query that is not in \.query \(first: 'q9'\)\. Add the queries to \.query\.$",
    ),
    "search: unknown query below empty lines": (
        replace("search", "\nann\tq2\t2", "\n\n\nann\tq9\t2"),
        "search",
        6,
        r"\(first: 'q9'\)\. Add the queries",
    ),
    "query: empty": (
        header_only("query"),
        "search",
        2,
        r"6 searches have a query that is not in \.query \(first: 'q1'\)",
    ),
    "query: name": (
        replace("query", "query_words", "words"),
        "query",
        1,
        "no column 'query_words'. The header has: query",
    ),
    "query: duplicates": (
        append("query", "q2", "boot"),
        "query",
        None,
        "query 'q2' occurs more than once. Keep one",
    ),
    "query: no id": (append("query", "", "boot"), "query", 5, "query_id is empty. Give every row a value"),
    "code: empty": (header_only("code"), "code", None, f"3 of the dataset's users have no codes.*'ann'.*{AGAIN}"),
    "code: unknown user": (
        append("code", "dan", "s1 s2", "r1 r2"),
        "code",
        None,
        rf"1 users are in neither \.inter nor \.search \(first: 'dan'\)\. {AGAIN}",
    ),
    "code: user without": (
        replace("code", "cat\ts1 s3\t\n", ""),
        "code",
        None,
        rf"1 of the dataset's users have no codes \(first: 'cat'\)\. {AGAIN}",
    ),
    "code: duplicates": (
        append("code", "ann", "s1 s2", "r1 r2"),
        "code",
        None,
        "user 'ann' occurs more than once. K",
    ),
    "code: ragged": (
        replace("code", "cat\ts1 s3", "cat\ts1"),
        "code",
        4,
        rf"the row has 1 search codes, but others have 2\. {AGAIN}",
    ),
    "code: ragged below empty lines": (
        replace("code", "\nbob\t\tr1 r3", "\n\n\nbob\t\tr1"),
        "code",
        5,
        rf"the row has 1 recommendation codes, but others have 2\. {AGAIN}",
    ),
    "code: columns": (append("code", "dan", "s1 s2"), "code", 5, "2 columns instead of 3"),
}


# RecBole's models read no codes, and need no search.
OF_ALL_MODELS = [case for case in CASES if not case.startswith("code") and case != "search: empty"]


@pytest.mark.parametrize(
    ("model", "case"),
    [("GSERec", case) for case in CASES] + [(model, case) for model in ("SASRec", "BPR") for case in OF_ALL_MODELS],
)
def test_wrong_content(attempt, small_files, write_rows, model, case):
    edit, suffix, line, message = CASES[case]
    folder = write_rows(**small_files)
    edit(folder)
    with pytest.raises(DataError) as error:
        attempt(model)
    where = f"{folder / f'toy.{suffix}'}" + (f", line {line}" if line else "")
    text = one_line(error)
    assert text.startswith(f"{where}: ")
    assert re.search(message, text)


def test_recboles_models_need_no_search(attempt, small_files, write_rows):
    folder = write_rows(**small_files)
    header_only("search")(folder)
    (folder / "toy.query").unlink()
    attempt("SASRec")


def test_data_without_searches_is_recboles_alone(make_config, small_files, write_rows):
    folder = write_rows(**small_files)
    (folder / "toy.search").unlink()
    append("inter", "dan", "a", "1")(folder)
    append("inter", "ann", "f", "")(folder)
    dataset = create_dataset(make_config("BPR", load_col={"inter": ["user_id", "item_id", "timestamp"]}))
    assert len(dataset) == 10


def test_settings_of_the_checks_are_checked_for_all_models(attempt, small_files, write_rows):
    write_rows(**small_files)
    with pytest.raises(SettingError, match="^unordered_timestamps is 'srot'; it must be 'error' or 'sort'$"):
        attempt("BPR", unordered_timestamps="srot")
    with pytest.raises(SettingError, match="^short_users is 'drop'; it must be 'error' or 'keep'$"):
        attempt("SASRec", short_users="drop")


def test_sequences_of_numbers_are_numbers(make_config, small_files, write_rows):
    folder = write_rows(**small_files)
    items = sorted({row[1] for row in small_files["inter"]})
    lines = ["item_id:token\tprice:float_seq", *(f"{item}\t1 2.5" for item in items)]
    (folder / "toy.item").write_text("\n".join(lines) + "\n")
    dataset = create_dataset(make_config("GSERec", load_col=None, additional_feat_suffix=["search", "query"]))
    assert dataset.item_feat["price"][1].tolist() == [1, 2.5]
    (folder / "toy.item").write_text("\n".join([*lines[:2], f"{items[1]}\t1 abc", *lines[3:]]) + "\n")
    with pytest.raises(DataError, match="toy.item, line 3: price is '1 abc', not numbers. Give numbers, separated"):
        create_dataset(make_config("GSERec", load_col=None, additional_feat_suffix=["search", "query"]))


def test_order_of_searches_is_time(attempt, small_files, write_rows):
    write_rows(**small_files)
    with pytest.raises(SettingError, match="^eval_args has the order 'RO'; search-aware models need 'TO'$"):
        attempt("GSERec", eval_args={"order": "RO"})


def test_short_users_kept_or_dropped(make_config, small_files, write_rows):
    append("inter", "dan", "a", "1")(write_rows(**small_files))
    for model in ("SASRec", "BPR"):
        for settings, is_there in (({"short_users": "keep"}, True), ({"user_inter_num_interval": "[3,inf)"}, False)):
            dataset = create_dataset(make_config(model, **settings))
            assert ("dan" in dataset.field2token_id["user_id"]) is is_there


@pytest.mark.parametrize("model", ["GSERec", "SASRec", "BPR"])
def test_short_users_are_trained_on_only(prepare, random_rows, write_rows, model):
    inter = [*random_rows["inter"], ("one", "i1", 1), ("two", "i1", 1), ("two", "i2", 2)]
    inter += [("three", "i1", 1), ("three", "i2", 2), ("three", "i3", 3)]
    write_rows(**{**random_rows, "inter": inter})
    settings = {"additional_feat_suffix": ["search", "query"]} if model == "GSERec" else {}
    _, dataset, loaders = prepare(model, short_users="keep", **settings)
    users = dataset.field2id_token["user_id"]
    train, valid, test = (set(users[loader._dataset.inter_feat["user_id"]]) for loader in loaders)
    assert {"one", "two"}.isdisjoint(valid | test)
    assert "three" in test
    assert "two" in train
    assert test - valid <= {"three"}


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_sorted_files_give_all_models_the_same_targets(prepare, random_rows, write_rows, model):
    """Also where times are nearer to each other than 32-bit floats can tell."""
    rng = np.random.default_rng(3)
    rows = [(user, item, 1_700_000_000 + 7 * index) for index, (user, item, _) in enumerate(random_rows["inter"])]
    shuffled = [rows[index] for index in rng.permutation(len(rows))]
    targets = {}
    for name, inter, settings in (
        ("ordered", rows, {}),
        ("shuffled", shuffled, {"unordered_timestamps": "sort"}),
    ):
        write_rows(name, **{**random_rows, "inter": inter})
        for kind in ("GSERec", model):
            settings_of_kind = {"additional_feat_suffix": ["search", "query"]} if kind == "GSERec" else {}
            _, dataset, loaders = prepare(kind, name, **settings, **settings_of_kind)
            feat = loaders[2]._dataset.inter_feat
            users, items = (dataset.field2id_token[field] for field in ("user_id", "item_id"))
            targets[name, kind] = dict(zip(users[feat["user_id"]], items[feat["item_id"]], strict=True))
    expected = {user: item for user, item, _ in rows}
    assert all(found == expected for found in targets.values())


def test_a_users_own_split_is_checked_but_for_its_order(make_config, small_files, write_rows):
    folder = write_rows(**small_files)
    text = (folder / "toy.inter").read_text()
    for name in ("train", "valid", "test"):
        (folder / f"toy.{name}.inter").write_text(text)
    files = {"benchmark_filename": ["train", "valid", "test"]}
    append("test.inter", "ann", "f", "1")(folder)
    create_dataset(make_config("BPR", **files))
    append("valid.inter", "ann", "f", "x")(folder)
    with pytest.raises(DataError, match=r"toy\.valid\.inter, line 10: timestamp is 'x', not a number"):
        create_dataset(make_config("BPR", **files))


@pytest.mark.parametrize("model", ["GSERec", "SASRec"])
def test_files_are_checked_once(attempt, small_files, write_rows, model, monkeypatch):
    folder, read = write_rows(**small_files), []
    read_csv = pyarrow.csv.read_csv
    monkeypatch.setattr(pyarrow.csv, "read_csv", lambda path, **options: read.append(path) or read_csv(path, **options))
    attempt(model)
    assert [str(path) for path in read].count(str(folder / "toy.inter")) == 1


@pytest.mark.parametrize("suffix", ["inter", "search", "query", "code"])
def test_missing_files(attempt, small_files, write_rows, suffix):
    folder = write_rows(**small_files)
    (folder / f"toy.{suffix}").unlink()
    with pytest.raises(DataError) as error:
        attempt()
    advice = (
        "Make it: gserec preprocess --dataset toy" if suffix == "code" else "Check the dataset's name and data_path."
    )
    assert one_line(error) == f"{folder / f'toy.{suffix}'}: file not found. {advice}"


@pytest.mark.parametrize("model", ["GSERec", "SASRec"])
def test_a_missing_folder(attempt, small_files, write_rows, model):
    folder = write_rows(**small_files)
    shutil.rmtree(folder)
    with pytest.raises(DataError) as error:
        attempt(model)
    assert one_line(error) == (
        f"{folder}: no such dataset. Put its files there, set data_path to another folder, "
        "or make it with gserec convert."
    )


def test_filters_that_leave_nothing(attempt, small_files, write_rows):
    folder = write_rows(**small_files)
    with pytest.raises(DataError) as error:
        attempt(user_inter_num_interval="[100,inf)")
    assert one_line(error).startswith(f"{folder / 'toy.inter'}: no interaction in it passes the filters. Check")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embeding_size": 8}, r"unknown setting 'embeding_size'\. Did you mean 'embedding_size'\?"),
        ({"lambda_ucl": 1}, r"unknown setting 'lambda_ucl'\. Did you mean 'lambda_u_cl'\?"),
        ({"unordered_timestamp": "sort"}, r"unknown setting .* Did you mean 'unordered_timestamps'\?"),
        ({"xyzzy": 1}, r"unknown setting 'xyzzy'\. See the model's YAML for the settings it reads\."),
        ({"unordered_timestamps": "srot"}, "unordered_timestamps is 'srot'; it must be 'error' or 'sort'"),
        ({"short_users": "drop"}, "short_users is 'drop'; it must be 'error' or 'keep'"),
        ({"benchmark_filename": ["a", "b", "c"]}, "benchmark_filename is not supported with searches; use eval_args"),
    ],
)
def test_wrong_settings(attempt, small_files, write_rows, settings, message):
    write_rows(**small_files)
    with pytest.raises(SettingError, match=f"^{message}") as error:
        attempt(**settings)
    one_line(error)


def test_a_typing_error_is_only_warned_of_with_recbole_s_models(attempt, small_files, write_rows, caplog):
    write_rows(**small_files)
    with caplog.at_level(logging.WARNING):
        attempt("SASRec", embeding_size=8)
    assert "unknown setting 'embeding_size'. Did you mean 'embedding_size'?" in caplog.text


def test_nothing_is_wrong_with_the_dataset_of_these_tests(attempt, small_files, write_rows, caplog):
    write_rows(**small_files)
    attempt()
    attempt("SASRec")
    assert "unknown setting" not in caplog.text
