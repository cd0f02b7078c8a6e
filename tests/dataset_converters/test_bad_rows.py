"""Rows that cannot be used: the first is an error, or all are counted."""

from __future__ import annotations

import logging
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_converters.bad_rows import BadRows, handle_bad_rows, mark_repeated
from recbole_gserec.errors import DataError, SettingError

PATHS = {"a.csv": Path("logs/a.csv"), "b.csv": Path("logs/b.csv")}
ROWS = [
    ("b.csv", 2, "time is missing", "u1"),
    ("a.csv", 9, "time is missing", "u2"),
    ("a.csv", 10, None, "u3"),
    ("a.csv", 4, "time is 'soon', not a number", "u4"),
    *(("b.csv", line, "user is missing", "u5") for line in range(30, 20, -1)),
    ("b.csv", 3, None, "u6"),
]


@pytest.fixture
def connection():
    with duckdb.connect() as connection:
        yield connection


def make_rows(connection, rows):
    connection.execute('CREATE OR REPLACE TABLE read (file VARCHAR, line BIGINT, problem VARCHAR, "user" VARCHAR)')
    if rows:
        connection.executemany("INSERT INTO read VALUES (?, ?, ?, ?)", rows)


def users_left(connection):
    return [user for (user,) in connection.execute('SELECT "user" FROM read ORDER BY file, line').fetchall()]


def test_error_names_the_first_line_of_the_first_file(connection):
    make_rows(connection, ROWS)
    with pytest.raises(DataError) as error:
        handle_bad_rows(
            connection, "read", PATHS, "error", {"time is '": "Write seconds.", "time": "Give every row a time."}
        )
    assert str(error.value) == (
        f"{Path('logs/a.csv')}, line 4: time is 'soon', not a number (13 bad rows in total). "
        "Write seconds. To leave bad rows out, use --bad-rows skip."
    )
    assert (error.value.path, error.value.line) == (PATHS["a.csv"], 4)


def test_a_single_bad_row_is_not_counted_and_has_general_advice(connection):
    make_rows(connection, ROWS[:1] + ROWS[2:3])
    with pytest.raises(DataError) as error:
        handle_bad_rows(connection, "read", PATHS, "error")
    expected = "line 2: time is missing. Fix the row. To leave bad rows out, use --bad-rows skip."
    assert str(error.value).endswith(expected)


def test_skipped_rows_are_counted_and_reported(connection, caplog):
    make_rows(connection, ROWS)
    with caplog.at_level(logging.WARNING, "dataset_converters"):
        found = handle_bad_rows(connection, "read", PATHS, "skip")
    assert found == [
        BadRows("a.csv", "time is 'soon', not a number", 1, (4,)),
        BadRows("a.csv", "time is missing", 1, (9,)),
        BadRows("b.csv", "time is missing", 1, (2,)),
        BadRows("b.csv", "user is missing", 10, (21, 22, 23, 24, 25)),
    ]
    assert users_left(connection) == ["u3", "u6"]
    assert [record.message for record in caplog.records] == list(map(str, found))
    assert str(BadRows("c.csv", "item is missing", 1, (4,))) == "c.csv: 1 row left out: item is missing (line 4)"
    assert str(found[3]) == "b.csv: 10 rows left out: user is missing (line 21, 22, 23, 24, 25, ...)"


@pytest.mark.parametrize("action", ["error", "skip"])
@pytest.mark.parametrize("rows", [[], [("a.csv", 1, None, "u")]])
def test_nothing_bad(connection, action, rows):
    make_rows(connection, rows)
    assert handle_bad_rows(connection, "read", PATHS, action) == []
    assert users_left(connection) == ["u"] * len(rows)
    # Whatever comes next can use the connection.
    connection.register("more", connection.cursor().sql("SELECT 1 AS x").to_arrow_table())


def test_unknown_action(connection):
    make_rows(connection, [])
    with pytest.raises(SettingError, match="bad_rows must be error or skip, not 'ignore'"):
        handle_bad_rows(connection, "read", PATHS, "ignore")


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a.csv", "b.csv"]), st.integers(1, 9), st.sampled_from([None, "p", "q"]), st.just("u")
        ),
        max_size=20,
    )
)
def test_rows_add_up(connection, rows):
    make_rows(connection, rows)
    found = handle_bad_rows(connection, "read", PATHS, "skip")
    assert sum(bad.rows for bad in found) + len(users_left(connection)) == len(rows)
    for bad in found:
        lines = sorted(line for file, line, problem, _ in rows if (file, problem) == (bad.file, bad.problem))
        assert (bad.rows, list(bad.lines)) == (len(lines), lines[:5])


def test_only_good_rows_repeat_good_rows(connection):
    connection.execute("CREATE TABLE read (item VARCHAR, problem VARCHAR)")
    rows = [("a", "no text"), ("a", None), ("b", None), ("a", None), ("a", "no text"), ("a", None), (None, None)]
    connection.executemany("INSERT INTO read VALUES (?, ?)", rows)
    mark_repeated(connection, "read", "item", "it's repeated")
    marked = [problem for (problem,) in connection.execute("SELECT problem FROM read ORDER BY rowid").fetchall()]
    assert marked == ["no text", None, None, "it's repeated", "no text", "it's repeated", None]
