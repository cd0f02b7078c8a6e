"""Clicked items: all ways to write a list."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_converters.logs_clicks import cell_problem, items_problem, list_of_cell, separator_of
from recbole_gserec.errors import DataError

IDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6).filter(
    lambda text: text[0] != '"' and text.lower() not in ("nan", "null", "none", "na", "n/a") and text[0] not in "#<[{"
)
PATH = Path("searches.csv")


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as connection:
        yield connection


def read(connection, cells: list[str | None], separator: str = " ") -> list:
    """The items, or the problem, of each cell."""
    connection.register("cells", pa.table({"place": range(len(cells)), "cell": pa.array(cells, pa.string())}))
    rows = connection.execute(
        f"""
        SELECT items, coalesce({cell_problem("cell")}, {items_problem("items", False)}) AS problem
        FROM (SELECT *, {list_of_cell("cell", separator)} AS items FROM cells) ORDER BY place
        """
    ).fetchall()
    return [problem or items for items, problem in rows]


@pytest.mark.parametrize(
    ("cell", "items"),
    [
        (None, []),
        ("", []),
        ("[]", []),
        ("[ ]", []),
        ("{}", []),
        ("NULL", []),
        ("nan", []),
        ("a", ["a"]),
        ("a b  c", ["a", "b", "c"]),
        ('["a", "b"]', ["a", "b"]),
        ('["a\\"b", "\\u00e9"]', ['a"b', "é"]),
        ("['a', 'b']", ["a", "b"]),
        ("['a', \"it's\"]", ["a", "it's"]),
        ("['it\\'s']", ["it's"]),
        ("['a' 'b']", ["a", "b"]),
        ("[1, 20, 300]", ["1", "20", "300"]),
        ("[007, 12345678901234567890123]", ["007", "12345678901234567890123"]),
        ("[12345678901234567890123]", ["12345678901234567890123"]),
        ("[1 2]", ["1", "2"]),
        ("[abc, def]", ["abc", "def"]),
        ("[[1, 2]]", "clicked items are no list of ids"),
        ("{a,b}", ["a", "b"]),
        ("[a, b", "clicked items are a list cut short"),
        ("a, b]", "clicked items are a list cut short"),
        ("['a, 'b']", "clicked items are a list whose quotation marks do not fit together"),
        ('{"a": 1}', "clicked items are no list of ids"),
        ('[{"a": 1}]', "clicked items are no list of ids"),
        ('["a", null]', "clicked item is missing"),
        ('["a", ""]', "clicked item is missing"),
        ("['a', None]", "clicked item is missing"),
        ('["a b"]', "clicked item holds white space"),
        ('["a\\tb"]', "clicked item holds white space"),
        ('["\\"a"]', "clicked item begins with a quotation mark"),
    ],
)
def test_lists(connection, cell, items):
    assert read(connection, [cell]) == [items]


@pytest.mark.parametrize(
    ("cell", "separator", "items"),
    [("a;b; c", ";", ["a", "b", "c"]), ("a|b||", "|", ["a", "b"]), ("a,b", ",", ["a", "b"]), ("a;b", "|", ["a;b"])],
)
def test_separators(connection, cell, separator, items):
    assert read(connection, [cell], separator) == [items]


@settings(deadline=None, max_examples=15)
@given(lists=st.lists(st.lists(IDS, max_size=4), min_size=1, max_size=4))
def test_what_programs_write_is_read_back(connection, lists):
    assert read(connection, [json.dumps(items) for items in lists]) == lists
    assert read(connection, [json.dumps(items, ensure_ascii=False) for items in lists]) == lists
    assert read(connection, [repr(items) for items in lists]) == lists


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["a b", "c"], " "),
        (["a,b"], ","),
        (["a; b", '["c,d"]'], ";"),
        (["a|b", ""], "|"),
        (["['a', 'b']"], " "),
    ],
)
def test_separators_are_found(connection, cells, separator):
    connection.execute("CREATE OR REPLACE TABLE found AS SELECT unnest(?) AS items", [cells])
    assert separator_of(connection, "found", PATH, None) == separator


def test_several_separators_are_refused(connection):
    connection.execute("CREATE OR REPLACE TABLE found AS SELECT unnest(['a,b', 'c;d']) AS items")
    with pytest.raises(DataError, match="could be separated by ',' in 1 rows and ';' in 1 rows"):
        separator_of(connection, "found", PATH, None)
    assert separator_of(connection, "found", PATH, "semicolon") == ";"
    assert separator_of(connection, "found", PATH, "#") == "#"
