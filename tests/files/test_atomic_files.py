import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_gserec.errors import DataError
from recbole_gserec.files.atomic_files import field_types, line_of_row, read_columns

HEADER = "user_id:token\twords:token_seq\ttime:float"

# Everything that can stand in a cell: neither a tab nor the end of a line, and encodable.
cells = st.text(st.characters(blacklist_characters="\t\n\r", blacklist_categories=("Cs",)), max_size=6)
rows = st.lists(st.tuples(cells, cells, st.none() | st.floats()), max_size=8)
line_ends = st.sampled_from(["\n", "\r\n"])


def written(folder, content, encoding="utf-8"):
    path = folder / "d.inter"
    path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
    return path


def lines_of(rows):
    return ["\t".join((a, b, "" if time is None else repr(time))) for a, b, time in rows]


@settings(deadline=None)
@given(rows, line_ends, st.booleans(), st.data())
def test_round_trip(tmp_path_factory, rows, end, ends_with_newline, data):
    lines = [HEADER]
    for line in lines_of(rows):
        lines += [""] * data.draw(st.integers(0, 2)) + [line]
    path = written(tmp_path_factory.getbasetemp(), end.join(lines) + end * ends_with_newline)
    table = read_columns(path)
    assert table.column_names == ["user_id", "words", "time"]
    assert table["user_id"].to_pylist() == [row[0] for row in rows]
    assert table["words"].to_pylist() == [row[1] for row in rows]
    read = table["time"].to_pylist()
    assert str(table["time"].type) == "double"
    assert len(read) == len(rows)
    for value, (_, _, time) in zip(read, rows, strict=True):
        assert value == (None if time is None or math.isnan(time) else time)


@settings(deadline=None)
@given(rows, st.integers(0, 3), st.sampled_from(["a\tb", "a", "a\tb\t1\tc", "a\tb\tx", "a\tb\t1_0", "a\tb\t1,5"]))
def test_the_line_of_a_malformed_row_is_named(tmp_path_factory, rows, n_blank, malformed):
    good = ["a\ufffd\tb\tNA", *lines_of(rows)]
    path = written(tmp_path_factory.getbasetemp(), "\n".join([HEADER, *good, *[""] * n_blank, malformed, "a\tb\ty"]))
    with pytest.raises(DataError) as caught:
        read_columns(path)
    assert (caught.value.path, caught.value.line) == (path, 2 + len(good) + n_blank)
    assert "\n" not in str(caught.value)


def test_the_line_is_found_beyond_the_reader_s_first_block(tmp_path):
    good = "some user\tsome words\t1234567890\n" * 60_000
    path = written(tmp_path, f"{HEADER}\n{good}a\tb\tsoon\n{good}")
    with pytest.raises(DataError, match="line 60002: time is 'soon', not a number. Give every row a number"):
        read_columns(path)


def test_chosen_columns_in_the_order_asked_for(tmp_path):
    table = read_columns(written(tmp_path, f"{HEADER}\na\tb c\t1\n"), ["time", "user_id"])
    assert table.to_pydict() == {"time": [1.0], "user_id": ["a"]}


def test_quotes_and_words_for_missing_values_are_ordinary_text(tmp_path):
    table = read_columns(written(tmp_path, f'{HEADER}\n"a\tNA\t1\nnull\tx"y\t2\n'))
    assert table["user_id"].to_pylist() == ['"a', "null"]
    assert table["words"].to_pylist() == ["NA", 'x"y']


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk"])
def test_encodings(tmp_path, encoding):
    path = written(tmp_path, f"{HEADER}\n\u4e59\tb\t1\n", encoding)
    name = "utf-8" if encoding == "utf-8-sig" else encoding
    assert read_columns(path, encoding=name, required=["user_id", "time"])["user_id"].to_pylist() == ["\u4e59"]
    with pytest.raises(DataError, match="line 3: time is 'x', not a number"):
        read_columns(written(tmp_path, f"{HEADER}\n\u4e59\tb\t1\na\tb\tx\n", encoding), encoding=name)


def test_another_separator(tmp_path):
    path = written(tmp_path, "user_id:token,time:float\na b,1\n")
    assert read_columns(path, separator=",").to_pydict() == {"user_id": ["a b"], "time": [1.0]}


def test_types(tmp_path):
    path = written(tmp_path, "a:token\tb c:token_seq\td:float\te:float_seq\r\n")
    assert list(field_types(path).items()) == [
        ("a", "token"),
        ("b c", "token_seq"),
        ("d", "float"),
        ("e", "float_seq"),
    ]


@pytest.mark.parametrize("content", [HEADER, HEADER + "\n", HEADER + "\r\n\r\n\r\n"])
def test_no_rows(tmp_path, content):
    table = read_columns(written(tmp_path, content), required=["user_id", "time"])
    assert table.to_pydict() == {"user_id": [], "words": [], "time": []}
    assert str(table["time"].type) == "double"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: '' is not a 'field:type' header. Name each column like 'user_id:token'"),
        ("user_id\ttime:float\n", "line 1: 'user_id' is not a 'field:type' header"),
        ("user_id:tokens\n", "line 1: 'user_id:tokens' is not a 'field:type' header"),
        (":token\n", "line 1: ':token' is not a 'field:type' header"),
        ("a:token\tb:token\ta:float\n", "line 1: two columns are named 'a'. Give each column a unique name"),
        ("user_id:token\n", "line 1: no column 'time'. The header has: user_id."),
        (b"user_id:token\ttime\xff:float\n", "line 1: not text in utf-8. Save it in this encoding, or set 'encoding'."),
        (
            b"user_id:token\ttime:float\na\t1\n\xff\t1\n",
            "line 3: not text in utf-8. Save it in this encoding, or set 'encoding'.",
        ),
        ("user_id:token\ttime:float\na\n", "line 2: 1 columns instead of 2. Separate columns by one tab each."),
        ("user_id:token\ttime:float\na b 1\n", "line 2: 1 columns instead of 2"),
        ("user_id:token\ttime:float\na\t1\t\n", "line 2: 3 columns instead of 2"),
        ("user_id:token\ttime:float\na\t1\n \n", "line 3: 1 columns instead of 2"),
        ("user_id:token\ttime:float\na\t2024-01-01\n", "line 2: time is '2024-01-01', not a number. Give every row"),
        ("user_id:token\ttime:float\na\t\u0661\n", "line 2: time is '\u0661', not a number"),
        ("user_id:token\ttime:float\n\n\t1\n", "line 3: user_id is empty. Give every row a value."),
        ("user_id:token\ttime:float\na\t1\nb\t\n", "line 3: time is missing or not a finite number"),
        (
            "user_id:token\ttime:float\na\tnan\nb\tinf\n",
            r"line 2: time is missing .* \(2 rows in all\)\. Give every row",
        ),
        ("user_id:token\ttime:float\na\t1\nb\t-inf\n", "line 3: time is missing or not a finite number"),
        ("user_id:token\ttime:float\na\t1\nb\t1e999\n", "line 3: time is missing or not a finite number"),
    ],
)
def test_refusals(tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        read_columns(path, ["user_id", "time"], required=["user_id", "time"])
    assert str(caught.value).startswith(f"{path}, line ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"d\.inter: file not found\. Check the dataset's name and data_path\."):
        read_columns(tmp_path / "d.inter")


def test_missing_numbers_are_allowed_where_none_is_required(tmp_path):
    path = written(tmp_path, "user_id:token\ttime:float\n\t\na\tNA\n")
    assert read_columns(path).to_pydict() == {"user_id": ["", "a"], "time": [None, None]}


def test_line_of_row_counts_empty_lines(tmp_path):
    path = written(tmp_path, "h:token\r\n\r\na\r\n\r\n\r\nb\r\n")
    assert [line_of_row(path, row) for row in (0, 1)] == [3, 6]
    with pytest.raises(IndexError):
        line_of_row(path, 2)
