"""What a user can get wrong in a whole dataset, and the one line that says what, where, and what to do."""

import logging
import re
import shutil

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
    "inter: short": (
        append("inter", "dan", "a", "1"),
        "inter",
        None,
        r"1 users have fewer than 3 interactions \(one of them: 'dan'\)\. Drop them with "
        r'--user_inter_num_interval="\[3,inf\)", or train on them without evaluating them: --short_users=keep$',
    ),
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
        "query 'q2' stands in it more than once. Keep one",
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
        "user 'ann' stands in it more than once. K",
    ),
    "code: ragged": (
        replace("code", "cat\ts1 s3", "cat\ts1"),
        "code",
        4,
        rf"a row with 1 search codes where others have 2\. {AGAIN}",
    ),
    "code: ragged below empty lines": (
        replace("code", "\nbob\t\tr1 r3", "\n\n\nbob\t\tr1"),
        "code",
        5,
        rf"a row with 1 recommendation codes where others have 2\. {AGAIN}",
    ),
    "code: columns": (append("code", "dan", "s1 s2"), "code", 5, "2 columns instead of 3"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_content(attempt, small_files, write_rows, case):
    edit, suffix, line, message = CASES[case]
    folder = write_rows(**small_files)
    edit(folder)
    with pytest.raises(DataError) as error:
        attempt()
    where = f"{folder / f'toy.{suffix}'}" + (f", line {line}" if line else "")
    text = one_line(error)
    assert text.startswith(f"{where}: ")
    assert re.search(message, text)


@pytest.mark.parametrize("suffix", ["inter", "search", "query", "code"])
def test_missing_files(attempt, small_files, write_rows, suffix):
    folder = write_rows(**small_files)
    (folder / f"toy.{suffix}").unlink()
    with pytest.raises(DataError) as error:
        attempt()
    remedy = (
        "Make it: gserec preprocess --dataset toy" if suffix == "code" else "Check the dataset's name and data_path."
    )
    assert one_line(error) == f"{folder / f'toy.{suffix}'}: file not found. {remedy}"


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
        ({"unordered_timestamps": "srot"}, "unordered_timestamps is 'srot'; it takes 'error' or 'sort'"),
        ({"short_users": "drop"}, "short_users is 'drop'; it takes 'error' or 'keep'"),
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
