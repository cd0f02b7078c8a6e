"""Clicked items: all ways to write a list."""

from __future__ import annotations

import json

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_converters.logs.clicks import (
    cell_problem_sql,
    items_problem_sql,
    items_sql,
    parse_separator,
    unwrapped_sql,
)
from recbole_gserec.errors import SettingError

IDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6).filter(
    lambda text: text[0] != '"' and text.lower() not in ("nan", "null", "none", "na", "n/a") and text[0] not in "#<[{("
)


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as connection:
        yield connection


def read(connection, cells: list[str | None], separator: str = " ") -> list:
    """The items, or the problem, of each cell."""
    connection.register("cells", pa.table({"source_row": range(len(cells)), "cell": pa.array(cells, pa.string())}))
    rows = connection.execute(
        f"""
        SELECT items, coalesce({cell_problem_sql("cell", separator)}, {items_problem_sql("items", False)}) AS problem
        FROM (
            SELECT *, {items_sql("cell", separator)} AS items
            FROM (SELECT source_row, {unwrapped_sql("cell")} AS cell FROM cells)
        ) ORDER BY source_row
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
        ("[[1, 2]]", "clicked items are not a list of ids"),
        ("{a,b}", ["a", "b"]),
        ("[a, b", "clicked items are an incomplete list"),
        ("a, b]", "clicked items are an incomplete list"),
        ("['a, 'b']", "clicked items are a list with unmatched quotation marks"),
        ('{"a": 1}', "clicked items are not a list of ids"),
        ('[{"a": 1}]', "clicked items are not a list of ids"),
        ('["a", null]', "clicked item is missing"),
        ('["a", ""]', "clicked item is missing"),
        ("['a', None]", "clicked item is missing"),
        ('["a b"]', "clicked item contains white space"),
        ('["a\\tb"]', "clicked item contains white space"),
        ('["\\"a"]', "clicked item begins with a quotation mark"),
        ("('a', 'b')", ["a", "b"]),
        ("('a',)", ["a"]),
        ("(1, 2)", ["1", "2"]),
        ("()", []),
        ("set()", []),
        ("frozenset()", []),
        ("{'a'}", ["a"]),
        ("frozenset({'a'})", ["a"]),
        ("set(['a'])", ["a"]),
        ("array(['a', 'b'], dtype=object)", ["a", "b"]),
        ("array(['a',\n       'b'], dtype='<U1')", ["a", "b"]),
        ("array([], dtype=float64)", []),
        ("Index(['a', 'b'], dtype='object')", ["a", "b"]),
        ("deque(['a'], maxlen=3)", ["a"]),
        ("dict_keys(['a', 'b'])", ["a", "b"]),
        ("ARRAY['a','b']", ["a", "b"]),
        ("[1. 2.]", ["1", "2"]),
        ("[np.int64(1), np.int64(2)]", ["1", "2"]),
        ("[np.str_('a'), np.str_(\"it's\")]", ["a", "it's"]),
        ("[Decimal('17')]", ["17"]),
        ("[u'a', b'b']", ["a", "b"]),
        ("[a, b,]", ["a", "b"]),
        ("-", []),
        ("(not set)", []),
        ("(abc)", ["(abc)"]),
        ("[None]", "clicked item is missing"),
        ("[   0    1 ...  998  999]", "clicked items are an incomplete list"),
        ("a b ...", "clicked items are an incomplete list"),
        ("('a', 'b'", "clicked items are an incomplete list"),
        ("set(['a'", "clicked items are an incomplete list"),
        ("0    a\n1    b\ndtype: object", "clicked items are not a list of ids"),
        ("<StringArray>\n['a']\nLength: 1, dtype: string", "clicked items are not a list of ids"),
        ("<generator object clicks at 0x7f0>", "clicked items are not a list of ids"),
        ("{'a': 1}", "clicked items are not a list of ids"),
        ("{a: 1}", "clicked items are not a list of ids"),
        ("[[a, b]]", "clicked items are not a list of ids"),
        *[
            (cell, "clicked items are not a list of ids")
            for cell in (
                "OrderedSet(['a'])",
                "tensor([17])",
                "tensor(17)",
                "OrderedSet()",
                "x.Bag({'a', 'b'})",
                "tensor([1, 2], device='cuda:0')",
                "jnp.Foo(('a',))",
            )
        ],
        ("lamp(17)", ["lamp(17)"]),
        ("WrappedArray(a, b)", "clicked items are not a list of ids"),
        ("[('a', 1)]", "clicked items are a list with unmatched quotation marks"),
        ("[Item('a')]", "clicked items are a list with unmatched quotation marks"),
        ("[u'caf\\xe9']", "clicked items are a list with escapes such as \\x, \\u or \\n"),
        ("[a|b]", "clicked items are a list without commas"),
        ("'a', 'b'", "clicked items are split wrongly by the separator"),
        ("lamp(1.7 l)", "clicked items are split wrongly by the separator"),
    ],
)
def test_lists(connection, cell, items):
    assert read(connection, [cell]) == [items]


@pytest.mark.parametrize(
    ("cell", "separator", "items"),
    [
        ("a;b; c", ";", ["a", "b", "c"]),
        ("a|b||", "|", ["a", "b"]),
        ("a,b", ",", ["a", "b"]),
        ("a;b", "|", ["a;b"]),
        *[
            (cell, " ", "clicked items are split wrongly by the separator")
            for cell in ("a & b", "a > b", "a / b", "a and b", "a OR b", "a → b", "a ， b", "a， b")
        ],
        ("& Band", "", "clicked item contains white space"),
        ("&", " ", ["&"]),
        ("🍎 🍐", " ", ["🍎", "🍐"]),
        ("[a & b]", " ", "clicked items are not a list of ids"),
        ("a - b", " ", "clicked item is missing"),
        ("a->b", "->", ["a", "b"]),
        ("a b,c", "", "clicked item contains white space"),
        ("p,1.html", "", ["p,1.html"]),
    ],
)
def test_separators(connection, cell, separator, items):
    assert read(connection, [cell], separator) == [items]


@settings(deadline=None, max_examples=15)
@given(lists=st.lists(st.lists(IDS, max_size=4), min_size=1, max_size=4))
def test_what_programs_write_is_read_back(connection, lists):
    assert read(connection, [json.dumps(items) for items in lists]) == lists
    assert read(connection, [json.dumps(items, ensure_ascii=False) for items in lists]) == lists
    assert read(connection, [repr(items) for items in lists]) == lists


def test_separators_have_names():
    assert list(map(parse_separator, ("semicolon", "none", "#"))) == [";", "", "#"]
    with pytest.raises(SettingError, match="--click-separator is empty"):
        parse_separator("")
