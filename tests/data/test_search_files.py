import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_gserec.data.search_files import (
    read_code_file,
    read_query_file,
    read_search_file,
    split_sequences,
    to_pandas,
)
from recbole_gserec.errors import DataError

OPTIONS = {"separator": "\t", "seq_separator": " ", "encoding": "utf-8"}
SEARCH = "search_user_id:token\tsearch_query_id:token\tsearch_timestamp:float\tsearch_item_ids:token_seq"
QUERY = "query_id:token\tquery_words:token_seq"
CODE = "code_user_id:token\tsearch_codes:token_seq\trec_codes:token_seq"


def written(folder, suffix, *lines):
    path = folder / f"d.{suffix}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def lists(sequences):
    tokens = sequences.frame.iloc[:, 0].tolist()
    return [tokens[a:b] for a, b in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)]


@settings(deadline=None)
@given(st.lists(st.text("ab \u4e59", max_size=8)), st.integers(1, 3))
def test_sequences_are_split_as_python_does(cells, n_chunks):
    size = -(-len(cells) // n_chunks) or 1
    column = pa.chunked_array([cells[start : start + size] for start in range(0, len(cells), size)], pa.string())
    sequences = split_sequences(column, "f", " ")
    assert lists(sequences) == [cell.split() for cell in cells]
    assert sequences.offsets[0] == 0 and len(sequences.offsets) == len(cells) + 1


def test_another_separator_of_sequences():
    assert lists(split_sequences(pa.chunked_array([["a b,c", ",d,"]]), "f", ",")) == [["a b", "c"], ["d"]]


def test_each_distinct_token_is_kept_once():
    column = to_pandas(pa.chunked_array([["a", "b"], ["a"]]))
    assert column.dtype == "category" and column.tolist() == ["a", "b", "a"]
    assert sorted(column.cat.categories) == ["a", "b"]
    assert to_pandas(pa.chunked_array([[1.5]])).dtype == "float64"


def test_searches(tmp_path):
    path = written(tmp_path, "search", SEARCH, "u\tq\t1.5\ti j  i", "v\tq\t-2\t", "u\tr\t1600000001\tj")
    table, clicks = read_search_file(path, **OPTIONS)
    assert table.columns.tolist() == ["search_user_id", "search_query_id", "search_timestamp"]
    assert table.to_numpy().tolist() == [["u", "q", 1.5], ["v", "q", -2.0], ["u", "r", 1600000001.0]]
    assert lists(clicks) == [["i", "j", "i"], [], ["j"]]


def test_searches_without_any_click(tmp_path):
    _, clicks = read_search_file(written(tmp_path, "search", SEARCH, "u\tq\t1\t", "u\tq\t2\t"), **OPTIONS)
    assert lists(clicks) == [[], []]


def test_columns_in_any_order_and_others_beside(tmp_path):
    path = written(tmp_path, "query", "query_words:token_seq\tsource:token\tquery_id:token", "red shoe\tweb\tq")
    table, words = read_query_file(path, **OPTIONS)
    assert table.to_dict("list") == {"query_id": ["q"]}
    assert lists(words) == [["red", "shoe"]]


def test_queries_without_words(tmp_path):
    table, words = read_query_file(written(tmp_path, "query", QUERY, "q\t", "r\tx"), **OPTIONS)
    assert (table["query_id"].tolist(), lists(words)) == (["q", "r"], [[], ["x"]])


def test_codes(tmp_path):
    table, sides = read_code_file(written(tmp_path, "code", CODE, "u\ts1 s2\tr1 r2", "v\t\tr1 r3"), **OPTIONS)
    assert table["code_user_id"].tolist() == ["u", "v"]
    assert {side: lists(codes) for side, codes in sides.items()} == {
        "search_codes": [["s1", "s2"], []],
        "rec_codes": [["r1", "r2"], ["r1", "r3"]],
    }


@pytest.mark.parametrize(
    ("read", "suffix", "lines", "message"),
    [
        (read_search_file, "search", [SEARCH], "d.search: no search in it. Search-aware models need searches"),
        (read_search_file, "search", [SEARCH, "u\tq\t\t"], "line 2: search_timestamp is missing"),
        (read_search_file, "search", [SEARCH, "u\tq\tNaN\t"], "line 2: search_timestamp is missing"),
        (read_search_file, "search", [SEARCH, "u\tq\tnow\t"], "line 2: search_timestamp is 'now', not a number"),
        (read_search_file, "search", [SEARCH, "u\t\t1\t"], "line 2: search_query_id is empty"),
        (read_search_file, "search", [SEARCH, "u\tq\t1\t", "\tq\t1\t"], "line 3: search_user_id is empty"),
        (
            read_search_file,
            "search",
            [SEARCH.replace("ids:token_seq", "ids:token")],
            "Name the column 'search_item_ids",
        ),
        (
            read_search_file,
            "search",
            [SEARCH.replace("stamp:float", "stamp:token")],
            "line 1: 'search_timestamp:token'",
        ),
        (read_search_file, "search", [SEARCH.replace("item_ids", "items")], "line 1: no column 'search_item_ids'"),
        (read_query_file, "query", [QUERY, "q\ta", "r\tb", "q\tc"], "query 'q' occurs more than once. Keep one"),
        (read_query_file, "query", [QUERY, "\ta"], "line 2: query_id is empty. Give every row a value"),
        (read_query_file, "query", [QUERY.replace("token_seq", "token")], "'query_words:token' has the wrong type"),
        (read_code_file, "code", [CODE, "u\ta\tb", "u\ta\tb"], "user 'u' occurs more than once. Keep one row"),
        (read_code_file, "code", [CODE, "u\ta"], "line 2: 2 columns instead of 3"),
        (read_code_file, "code", [CODE.replace("rec_codes", "codes")], "no column 'rec_codes'. The header has: code_"),
    ],
)
def test_refusals(tmp_path, read, suffix, lines, message):
    path = written(tmp_path, suffix, *lines)
    with pytest.raises(DataError, match=message) as caught:
        read(path, **OPTIONS)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_search_file, read_query_file, read_code_file])
def test_missing_files(tmp_path, read):
    with pytest.raises(DataError, match="d.file: file not found. Check the dataset's name and data_path"):
        read(tmp_path / "d.file", **OPTIONS)
