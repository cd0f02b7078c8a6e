"""Separated text: dialects, rows, and the lines that they begin in."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_converters.logs import csv_text
from dataset_converters.logs.columns import is_usual_name
from dataset_converters.logs.csv_text import Dialect, detect_dialect, has_header, read_blocks, read_records

CELLS = st.text(st.sampled_from('ab",;|\t\n\r é中\\'), max_size=5)


def read(text: str, dialect: Dialect | None = None) -> list[tuple]:
    return list(read_records(io.StringIO(text, newline=""), dialect or Dialect(",")))


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=3), max_size=8), blank=st.sampled_from(["", "\n", "\n\n"]))
def test_rows_and_their_lines_are_those_that_were_written(rows, blank):
    text, expected, line = "", [], 1
    for row in rows:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(row)
        line += blank.count("\n")
        expected.append((line, row, None))
        # Lines end as an editor, and Python, see it.
        line += len(io.StringIO(buffer.getvalue(), newline="").readlines())
        text += blank + buffer.getvalue()
    assert read(text) == expected
    # The size of the blocks changes nothing.
    for size in (1, 2, 3):
        parts = list(read_blocks(io.StringIO(text, newline=""), Dialect(","), size))
        pairs = [pair for part in parts for pair in zip(part.lines, part.rows, strict=True)]
        assert [(line, cells, None) for line, cells in pairs if cells] == expected


@pytest.mark.parametrize("size", [1, 2, 65536])
def test_a_mark_that_is_never_closed_takes_no_other_row_with_it(size):
    text = 'a,b\n1,"2\n3,"4\n4"\n5,"six"x\n7,8\n9,"10\n11,12\n'
    found = [
        (line, part.problems.get(index) or cells)
        for part in read_blocks(io.StringIO(text), Dialect(","), size)
        for index, (line, cells) in enumerate(zip(part.lines, part.rows, strict=True))
    ]
    bad = "its quotation marks do not match"
    # From line 2 the mark opens a cell that line 3 ends in the wrong way; line 3 alone is a good row of two lines.
    assert found == [
        (1, ["a", "b"]), (2, bad), (3, ["3", "4\n4"]), (5, bad), (6, ["7", "8"]), (7, bad), (8, ["11", "12"]),
    ]  # fmt: skip


def test_an_endless_cell_is_one_bad_row(monkeypatch):
    monkeypatch.setattr(csv_text, "_LARGEST_CELL", 100)
    found = read('a,b\n1,"' + "x\n" * 60 + "2,3\n")
    assert found[1][:2] == (2, None) and found[1][2].startswith("a cell has more than")
    assert found[2:4] == [(3, ["x"], None), (4, ["x"], None)] and found[-1] == (62, ["2", "3"], None)


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("a,b\n1,2\n", Dialect(",")),
        ("a\tb\n1,5\t2,5\n", Dialect("\t")),
        ("a;b\n1,5;2,5\n", Dialect(";")),
        ("a|b|c\n1|2|x;y;z\n", Dialect("|")),
        ("user,items\n1,a;b;c\n2,d;e;f\n", Dialect(",")),
        ('a\tb\n1\t"x\n2\ty"z\n3\tz\n', Dialect("\t", None)),
        ('a,b\n1,"[\\"x\\", \\"y\\"]"\n', Dialect(",", '"', True)),
        ('a,b\n1,"[""x\\"", ""y""]"\n', Dialect(",")),
        ('a,b\n"1","2"\n"3"x,"4"\n', Dialect(",")),
        ("only\n1\n", Dialect(",")),
    ],
)
def test_dialects_are_found(text, dialect):
    assert detect_dialect(text) == dialect


def test_dialects_can_be_said():
    assert detect_dialect("a,b;c\n", delimiter=";") == Dialect(";")
    assert detect_dialect("a,'b,c'\n", quote="'") == Dialect(",", "'")
    assert detect_dialect('a,"b\n', quote="") == Dialect(",", None)


def test_mysql_writes_missing_values_and_escapes():
    text = '1,"say \\"hi\\"",\\N\n\\N,\\N,3\n'
    assert read(text, Dialect(",", '"', True)) == [(1, ["1", 'say "hi"', ""], None), (2, ["", "", "3"], None)]


@pytest.mark.parametrize(
    ("first", "names"),
    [
        (["user_id", "item_id", "timestamp"], True),
        (["wer", "was", "wann"], True),
        (["user", "item", "2024"], True),
        (["u1", "film", "1700000000"], False),
        (["u1", "i1", "2024-01-01"], False),
        (["ann", "kettle", "-1.5"], False),
    ],
)
def test_first_rows_with_numbers_name_no_columns(first, names):
    assert has_header(first, is_usual_name) is names
