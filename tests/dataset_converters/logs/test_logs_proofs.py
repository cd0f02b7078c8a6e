"""What names of columns leave open is taken from the data where it proves it, and asked for where it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_converters.choices import Filters, Options
from dataset_converters.logs.columns import read_option
from dataset_converters.logs.log_settings import LogSettings
from dataset_converters.logs.logs import convert_logs, explain_logs
from recbole_gserec.errors import DataError
from tests.dataset_converters.logs_helpers import Read, written

T = 1_700_000_000
NAMES = ("user", "query", "time", "clicked")


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Read]:
    """Reads a log of searches beside interactions of user u with some items."""

    def make(
        names: str, rows: list[tuple], items: str = "a b c", kind: str = "csv", requested: str = "", **settings
    ) -> Read:
        columns = {"searches": read_option("searches", requested)}
        events = [("u", item, T + number) for number, item in enumerate(items.split("\n" if "\n" in items else None))]
        return Read(
            written(tmp_path / "interactions.csv", ("user", "item", "time"), events),
            written(tmp_path / f"searches.{kind}", names.split(), rows),
            columns=columns,
            allow_disjoint_times=True,
            **settings,
        )

    return make


def clicks(read: Read) -> list[list[str]]:
    return [items for *_, items in read.searches]


def searches_of(cells: list) -> list[tuple]:
    return [("u", f"q{number}", T + number, cell) for number, cell in enumerate(cells)]


@pytest.mark.parametrize(("kind", "name"), [("csv", "clicks"), ("jsonl", "clicked"), ("parquet", "Clicks")])
@pytest.mark.parametrize("cells", [[0, 3, 2], [0.0, 3.0, 2.0], [1, 2, 3]])
def test_numbers_of_clicks_are_no_ids(read, kind, name, cells):
    """The last of them could be either: the items have these numbers as ids."""
    rows = searches_of(cells)
    with pytest.raises(
        DataError, match=f"'{name}' contains numbers .*, which may be numbers of clicks, or item ids.* items={name} if"
    ):
        read(f"user query time {name}", rows, items="1 2 3 4", kind=kind)
    said = read(f"user query time {name}", rows, items="1 2 3 4", kind=kind, requested=f"items={name}")
    assert len(said.searches) == 3
    assert clicks(read(f"user query time {name}", rows, kind=kind, requested="items=-")) == [[], [], []]


def test_numbers_that_are_known_and_too_great_for_counts_are_ids(read):
    rows = searches_of([40017, 40019, None])
    with pytest.raises(DataError, match="contains numbers .0, 3., which may be numbers of clicks"):
        read("user query time clicks", searches_of([3, 0, "many"]))
    assert clicks(read("user query time clicks", rows, items="40017 40018 40019")) == [["40017"], ["40019"], []]
    with pytest.raises(DataError, match="numbers of clicks, or item ids"):
        read("user query time clicks", rows, items="a b c")


@pytest.mark.parametrize(
    "cells", [["3", "1,204", "2"], ["[3]", "[2]"], ["1,3", "2", "1,2"], ["3", "", "12,204"], ["1,234,200"]]
)
def test_small_numbers_are_no_ids_though_items_have_them(read, cells):
    rows, known = searches_of(cells), " ".join(map(str, range(1, 301)))
    with pytest.raises(DataError, match="'clicked' contains numbers .*, or item ids.* items=clicked if"):
        read("user query time clicked", rows, items=known)
    assert clicks(read("user query time clicked", rows, items=known, requested="items=clicked"))[0]


def test_lists_of_small_known_numbers_are_ids(read):
    rows = searches_of(["17 201", "250", "5 6"])
    known = " ".join(map(str, range(1, 301)))
    assert clicks(read("user query time clicked", rows, items=known)) == [["17", "201"], ["250"], ["5", "6"]]
    assert clicks(read("user query time clicked", searches_of(["1193 3"]), items="3 1193")) == [["1193", "3"]]
    reported = read("user query time clicked", searches_of(["1,204"]), items=known, click_separator="comma")
    assert clicks(reported) == [["1", "204"]]


@pytest.mark.parametrize("cells", [["[1, 3]", "[2]"], ["1 3", "2"], ["[0, 1, 0]", "[1, 1]"], ["[true, false]", "[]"]])
def test_places_and_marks_in_a_list_are_no_ids(read, cells):
    with pytest.raises(
        DataError, match="'clicks' contains numbers .*, which may be positions in a list of results, or click flags"
    ):
        read("user query time clicks", searches_of(cells), items="100001 100002 100003")
    assert clicks(read("user query time clicked", searches_of(["[1, 30]", "[2]"]), items="1 2 30"))[0] == ["1", "30"]


@pytest.mark.parametrize(
    ("items", "cells", "expected"),
    [
        ("a b c", ["a,b", "c"], [["a", "b"], ["c"]]),
        ("a b c", ["a;b", "c;x"], [["a", "b"], ["c", "x"]]),
        ("a b c", ["a|b", "x|c"], [["a", "b"], ["x", "c"]]),
        ("a b c", ["a b", "x y"], [["a", "b"], ["x", "y"]]),
        ("a b c", ["x y"], [["x", "y"]]),
        ("a b c", ["x+y", "c"], [["x+y"], ["c"]]),
        ("a b c", ["http://x/a"], [["http://x/a"]]),
        ("kettle red kettle-red", ["kettle-red"], [["kettle-red"]]),
        ("http://x.com/p,1.html http://y.com", ["http://x.com/p,1.html", "http://y.com"],
         [["http://x.com/p,1.html"], ["http://y.com"]]),
        ("http://x.com/p,1.html http://y.com", ["http://x.com/p,1.html http://y.com"],
         [["http://x.com/p,1.html", "http://y.com"]]),
        ("p,1 b", ["p,1;b"], [["p,1", "b"]]),
        ("12 15", ["12, 15"], [["12", "15"]]),
        ("17 18", ["17.0,18.0"], [["17", "18"]]),
    ],
)  # fmt: skip
def test_one_id_or_several_is_reported_by_the_known_items(read, items, cells, expected):
    assert clicks(read("user query time clicked_items", searches_of(cells), items=items)) == expected


@pytest.mark.parametrize(
    ("items", "cells"),
    [
        ("a b c", ["x,y"]),
        ("a b c", ["http://x.com/p,1.html"]),
        ("a b a,b", ["a,b"]),
        ("a b c", ["a+b", "c"]),
        *[("a b c", [f"a{mark}b", "c"]) for mark in ("，", "、", "；", "｜", ">", "->")],
        ("12 34 56", ["12-34"]),
        ("a b c d", ["a,b", "c;d"]),
        ("a b c", ["a;b", "c,d"]),
        ("http://x/p,1 a b", ["http://x/p,1", "a,b"]),
    ],
)
def test_one_id_or_several_is_asked_for_where_they_do_not_tell(read, items, cells):
    rows = searches_of(cells)
    with pytest.raises(DataError, match="may be one id or several.* --click-separator; 'none'"):
        read("user query time clicked_items", rows, items=items)
    said = read("user query time clicked_items", rows, items=items, click_separator="none")
    assert clicks(said) == [[cell] for cell in cells]


@pytest.mark.parametrize(
    "torn", ['["a", "b', 'a", "b"]', "['a', 'b'", "<generator object a, b>", "set(['a', 'b'", "tensor([1, 2])"]
)
def test_one_broken_list_is_one_bad_row(read, torn):
    found = read("user query time clicked_items", searches_of([*['["a", "b"]'] * 5, torn]))
    assert clicks(found) == [["a", "b"]] * 5
    assert found.bad_lines("searches") == [7]


def test_spaces_in_ids_are_replaced_alike_in_both_logs(read):
    items = "red shoe\nhat\ncap"
    rows = searches_of(["red shoe", "hat", '["red shoe", "cap"]'])
    said = read("user query time clicked", rows, items=items, replace_spaces=True)
    assert clicks(said) == [["red_shoe"], ["hat"], ["red_shoe", "cap"]]
    assert {item for _, item, _ in said.interactions} == {"red_shoe", "hat", "cap"}
    assert not said.warnings
    listed = read("user query time clicked", searches_of(["hat cap"]), items=items, replace_spaces=True)
    assert clicks(listed) == [["hat", "cap"]]
    with pytest.raises(DataError, match="'blue shoe' may be one id or several"):
        read("user query time clicked", searches_of(["blue shoe"]), items=items, replace_spaces=True)
    # Where rows of such ids are left out, a part of them is no id either.
    with pytest.raises(DataError, match="'red shoe' may be one id or several"):
        read("user query time clicked", rows[:1], items=items)


@pytest.mark.parametrize("name", ["item_id", "product_id", "sku"])
def test_results_are_not_taken_for_clicks(read, name):
    page = [("u", "shoe", T, item) for item in "abc"]
    with pytest.raises(DataError, match=f"may be shown or clicked: 'a' and 'b'.* item={name} if each row"):
        read(f"user query time {name}", page)
    assert clicks(read(f"user query time {name}", page, requested=f"item={name}")) == [["a", "b", "c"]]
    assert clicks(read(f"user query time clicked_{name}", page)) == [["a", "b", "c"]]
    with pytest.raises(DataError, match="column 'event_type' may decide it"):
        read(f"user query time {name} event_type", [("u", "shoe", T, "a", "view")])
    # One item a search was not a page of results.
    single = [("u", "shoe", T, "a"), ("u", "hat", T + 1, None)]
    assert clicks(read(f"user query time {name}", single)) == [["a"], []]
    with pytest.raises(DataError, match="has several known items in a cell, separated by pipe, such as 'a|b'"):
        read(f"user query time {name}", [("u", "shoe", T, "a|b")])


@pytest.mark.parametrize(
    ("query", "time"),
    [("shoe", f"{T}.004"), ("Shoe", T), ("shoe!", f"{T}.9"), ("shoe", "2023-11-14T23:13:20.5+01:00")],
)
def test_results_within_a_second_are_not_taken_for_clicks(read, query, time):
    first = "2023-11-14T22:13:20Z" if "+" in str(time) else str(T)
    rows = [("u", "shoe", first, "a"), ("u", query, time, "c")]
    with pytest.raises(DataError, match="may be shown or clicked: 'a' and 'c'"):
        read("user query time item_id", rows)
    said = read("user query time item_id", rows, requested="item=item_id")
    assert sorted(sum(clicks(said), [])) == ["a", "c"]


@pytest.mark.parametrize(
    "other", [("u", "shoe", T, "a"), ("v", "shoe", T, "b"), ("u", "hat", T, "b"), ("u", "shoe", T + 1, "b")]
)
def test_rows_that_may_be_clicks_are(read, other):
    found = read("user query time item_id", [("u", "shoe", T, "a"), other])
    assert sum(clicks(found), []) == ["a", other[-1]]


def test_columns_that_may_tell_clicks_from_results(read):
    rows = [("u", "shoe", T, "a", 1), ("u", "hat", T + 5, "b", 0)]
    names = "label type target clk ctr iclick op operation kind status Position rank rating relevance"
    for name in names.split():
        with pytest.raises(DataError, match=f"column '{name}' may decide it.* click=COLUMN"):
            read(f"user query time item_id {name}", rows)
    assert clicks(read("user query time item_id label", rows, requested="click=label")) == [["a"], []]
    assert clicks(read("user query time clicked_item_id position", rows)) == [["a"], ["b"]]
    assert clicks(read("user type time item_id", [row[:4] for row in rows], requested="query=type")) == [["a"], ["b"]]


@pytest.mark.parametrize("click", ["1", "1.0", "true", "Y", "3"])
def test_a_click_on_nothing_is_a_bad_row(read, click):
    rows = [("u", "q", T, None, click), ("u", "q", T, "a", "0.00"), ("u", "q", T, None, "0"), ("u", "q", T, "b", click)]
    found = read("user query time item_id clicked", rows)
    assert found.bad("searches") == {"clicked item is missing": 1} and clicks(found) == [["b"]]


@pytest.mark.parametrize("name", ["session_id", "search_session_id"])
def test_a_session_is_no_search(read, name):
    names = f"user {name} query time item_id clicked"
    apart = [("u", "s", "shoe", T, "a", 1), ("u", "s", "shoe", T + 172_800, "c", 1), ("u", "s", "hat", T, "b", 1)]
    found = read(names, apart)
    assert [(query, time - T, items) for _, query, time, items in found.searches] == [
        ("shoe", 0, ["a"]), ("shoe", 172_800, ["c"]), ("hat", 0, ["b"]),
    ]  # fmt: skip
    assert "search" not in found.interpretations["searches"].columns
    near = [("u", "s", "shoe", T, "a", 1), ("u", "s", "Shoe", T + 60, "c", 1)]
    with pytest.raises(DataError, match=f"search or several: column '{name}' has 's' .* 60 seconds.* search={name} if"):
        read(names, near)
    assert clicks(read(names, near, requested=f"search={name}")) == [["a", "c"]]
    assert clicks(read(names, near, requested="search=-")) == [["a"], ["c"]]
    # Other names are not guessed at all.
    assert clicks(read("user visit_id query time item_id clicked", near)) == [["a"], ["c"]]
    # The id of the search is what counts.
    both = [(*row[:2], "q1", *row[2:]) for row in near]
    assert clicks(read(f"user {name} search_id query time item_id clicked", both)) == [["a", "c"]]


def test_a_search_does_not_take_days(read):
    names = "user search_id query time item_id clicked"
    rows = [("u", "s", "shoe", T + days * 86_000, item, 1) for days, item in enumerate("abc")]
    with pytest.raises(DataError, match="a search would take days: column 'search_id' has 's' .* search=-"):
        read(names, rows)
    assert clicks(read(names, rows[:2])) == [["a", "b"]]
    assert clicks(read(names, rows, requested="search=-")) == [["a"], ["b"], ["c"]]
    said = read(names, rows, requested="search=search_id")
    assert clicks(said) == [["a", "b", "c"]]
    assert said.warnings == ["1 search takes longer than a day, the longest 47.8 hours: check the column search=."]


def test_rows_of_one_search_may_write_its_query_in_several_ways(read):
    rows = [("u", "s", "Red Shoe", T + 1, "a", 1), ("u", "s", "red shoe!", T, "b", 1), ("u", "s", "hat", T, "c", 1)]
    found = read("user search_id query time item_id clicked", rows)
    assert found.searches == [("u", "red shoe!", T + 1, ["b", "a"]), ("u", "hat", T, ["c"])]


@pytest.mark.parametrize("written_as", [Decimal("17.00"), 17.0, 17, "17"])
@pytest.mark.parametrize("known_as", [Decimal("17.00"), 17.0, 17, "17"])
def test_one_number_is_one_id_whatever_its_type(tmp_path, written_as, known_as):
    interactions = {"user": [known_as] * 3, "item": [known_as] * 3, "time": [T, T, T]}
    searches = {"user": [written_as], "query": ["q"], "time": [T], "clicked_items": [[written_as]]}
    for name, table in (("i", interactions), ("s", searches)):
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    found = Read(tmp_path / "i.parquet", tmp_path / "s.parquet")
    assert found.searches == [("17", "q", T, ["17"])] and found.interactions[0][:2] == ("17", "17")
    pq.write_table(pa.table(interactions | {"item": [Decimal("17.50")] * 3}), tmp_path / "i.parquet")
    assert Read(tmp_path / "i.parquet", tmp_path / "s.parquet").interactions[0][1] == "17.5"


@pytest.mark.parametrize(("kind", "number"), [("csv", "17.0"), ("csv", "17.00"), ("csv", "[17. 18.]"), ("jsonl", 17.0)])
def test_floats_of_one_file_are_the_whole_numbers_of_another(read, kind, number):
    found = read(
        "user query time clicked_items", [("u", "q", T, number), ("u", "r", T, None)], items="17 18", kind=kind
    )
    assert clicks(found)[0][0] == "17"
    if number != "[17. 18.]":
        assert found.warnings == [
            f"The item ids in searches.{kind} have the form 17.0. They are read as 17, as in the other files."
        ]
    # Where nothing says so, they stay.
    assert clicks(read("user query time clicked_items", [("u", "q", T, "17.0")], items="17.0 18.0")) == [["17.0"]]
    assert clicks(read("user query time clicked_items", [("u", "q", T, "17.0")], items="17 17.0")) == [["17.0"]]


@pytest.mark.parametrize(
    "text", ["NA", "N/A", "nan", "NaN", "(not set)", "null", "None", "-", "", " ", "\\N", "undefined", "#N/A"]
)
def test_texts_that_mean_no_query(read, text):
    found = read("user query time clicked", [("u", text, T, "a"), ("u", f"{text} x", T + 1, "a")])
    assert [query for _, query, *_ in found.searches] == ["", f"{text} x".strip()]
    several = read("user title brand time clicked", [("u", "shoe", text, T, "a")], requested="query=title+brand")
    assert several.searches[0][1] == "shoe"


def test_texts_that_mean_no_query_can_be_named(read):
    rows = [("u", "keine", T, "a"), ("u", "NA", T + 1, "a"), ("u", "KEINE", T + 2, "a")]
    found = read("user query time clicked", rows, no_query=("keine",))
    assert [query for _, query, *_ in found.searches] == ["", "NA", ""]
    # Records of former versions are told from others by their text.
    assert list(LogSettings().to_record({}))[:2] == ["columns", "encoding"]
    assert "no_query" not in LogSettings().to_record({})
    assert LogSettings(no_query=("keine",)).to_record({})["no_query"] == ["keine"]


def test_duplicates_have_the_same_words(tmp_path):
    interactions = written(tmp_path / "i.csv", ("user", "item", "time"), [("u", item, T) for item in "abc"])
    rows = [("u", "q", T, "a"), ("u", "Q!", T, "a"), ("u", "q", T, "b"), ("u", "r", T, "a"), ("u", "r?", T + 1, "a")]
    searches = written(tmp_path / "s.csv", NAMES, rows)
    options = Options(filters=Filters(drop_duplicates=True))
    made = convert_logs(tmp_path, "x", interactions, searches, options=options)
    assert (made / "x.search").read_text().splitlines()[1:] == [
        f"u\t1\t{T}\ta", f"u\t1\t{T}\tb", f"u\t2\t{T}\ta", f"u\t2\t{T + 1}\ta",
    ]  # fmt: skip
    # Words that stand only in searches left out are no queries.
    made = convert_logs(tmp_path, "y", interactions, searches, options=Options(filters=Filters(until=T + 1)))
    assert (made / "y.query").read_text().splitlines()[1:] == ["1\tq", "2\tr"]


def test_both_runs_tell_the_same(tmp_path, caplog):
    interactions = written(tmp_path / "i.csv", ("user", "item", "time"), [("u", item, T) for item in "abc"])
    rows = [("u", "s", "q", T, "x", 1), ("u", "s", "Q", T + 90, "y", 1), ("u", "t", "r", T, "z", 0)]
    searches = written(tmp_path / "s.csv", ("user", "search_id", "query", "time", "item_id", "clicked"), rows)
    reported = explain_logs(interactions, searches)
    with caplog.at_level(logging.INFO):
        convert_logs(tmp_path, "x", interactions, searches)
    assert "\n".join(caplog.messages).startswith(reported)
    for line in (
        "clicks of a search            1.00 on average, 2 at most, no clicks in 1 search",
        "row 1: user=u, query=q, time=2023-11-14 22:14:50, items=x y",
        "clicked items that are known  0 of 2 (0.0%)",
        "warning: None of the 2 clicked items is known in the other logs: check that all write item ids",
    ):
        assert " ".join(line.split()) in " ".join(reported.split())
    assert "longest search" in reported and "90 seconds" in reported


def test_marks_of_no_click_are_warned_of(read):
    found = read("user query time clicked_item_id", searches_of(["a", 0, -1, 0]))
    assert found.warnings == [
        "The clicked item '-1' (1 time) is not a known item: if it means no click, leave its cells empty.",
        "The clicked item '0' (2 times) is not a known item: if it means no click, leave its cells empty.",
    ]


def test_several_items_in_a_cell_of_interactions_are_refused(tmp_path):
    interactions = written(
        tmp_path / "i.csv", ("user", "item", "time"), [("u", item, T) for item in ("a,b", "c", "p,1")]
    )
    searches = written(tmp_path / "s.csv", NAMES, [("u", "q", T, "c")])
    items = written(tmp_path / "items.csv", ("item", "title"), [(item, "x") for item in ("a", "b", "c")])
    with pytest.raises(DataError, match="'item' has several items in a cell, such as 'a,b'"):
        Read(interactions, searches, items)
    written(items, ("item", "title"), [(item, "x") for item in ("a,b", "c")])
    assert len(Read(interactions, searches, items).interactions) == 3


def test_logs_without_clicks_are_warned_of(read):
    rows = searches_of([None, None])
    assert read("user query time clicked", rows).warnings == [
        "No search has a clicked item: check which column contains them."
    ]
    assert read("user query time clicked", rows, requested="items=-").warnings == []
