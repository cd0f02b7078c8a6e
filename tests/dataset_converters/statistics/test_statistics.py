"""Statistics against the same counts in plain Python, at conversion and from the files."""

from __future__ import annotations

import dataclasses
import json
import random
import statistics as plain
import struct
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from dataset_converters.choices import Filters, Options
from dataset_converters.query_words import words_of_texts
from dataset_converters.statistics.statistics import GROUPS, Group, Spread, TimeRange, collect_from_folder
from dataset_converters.statistics.statistics_report import (
    detail_rows,
    draw_users_by_searches,
    print_report,
    save_users_by_searches,
    short_number,
    size_rows,
    spread_rows,
    write_report,
)
from recbole_gserec.errors import DataError
from tests.dataset_converters.event_tables import Interaction, Search, convert_events

KEEP_ALL = Options(filters=Filters(min_interactions=0, search_only_users=True))

# Worked out by hand: ann ties at 2 and searches at 1, 2 and 9; bob never searches; cat only searches.
INTERACTIONS = [
    *(Interaction("ann", item, time) for item, time in (("a", 1), ("b", 2), ("c", 2), ("d", 5), ("a", 7))),
    *(Interaction("bob", item, time) for item, time in (("a", 3), ("b", 3), ("e", 4))),
]
SEARCHES = [
    Search("ann", "red shoe", 1, ("a", "x")),
    Search("ann", "Red Shoe", 2, ()),
    Search("ann", "???", 9, ("y",)),
    Search("cat", "shoe", 3, ("x", "x", "a")),
]
ITEMS = ["a", "b", "x", "never"]


def statistics_of(folder: Path) -> dict:
    return json.loads((folder / f"{folder.name}.statistics.json").read_text(encoding="utf-8"))


def as_json(statistics) -> dict:
    return json.loads(json.dumps(dataclasses.asdict(statistics)))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return convert_events(tmp_path_factory.mktemp("small") / "dataset", INTERACTIONS, SEARCHES, ITEMS, KEEP_ALL)


def test_by_hand(small):
    found = collect_from_folder(small)
    assert dataclasses.replace(found, users_by_searches=found.users_by_searches[:2]) == type(found)(
        users=3,
        items=7,
        queries=3,
        searches=4,
        clicks=6,
        interactions=8,
        users_with_searches=2,
        users_without_searches=1,
        users_who_only_search=1,
        items_interacted=5,
        items_only_searched=2,
        items_with_text=3,
        searches_without_clicks=1,
        queries_without_words=1,
        words_per_query=Spread(1.0, 0, 0.5, 1, 1.5, 2),
        interactions_per_user=Spread(4.0, 3, 3.5, 4, 4.5, 5),
        searches_per_user=Spread(4 / 3, 0, 0.5, 1, 2, 3),
        interaction_times=TimeRange(1, 7, None, None),
        search_times=TimeRange(1, 9, None, None),
        tied_interactions=4 / 8,
        searches_at_an_interaction=2 / 4,
        # ann's at 2, 2, 5 and 7 see the search at 1.
        interactions_after_a_search=4 / 8,
        density=8 / (2 * 5),
        users_by_searches=(Group("0", 0, 0, 1, 3), Group("1-5", 1, 5, 2, 5)),
    )
    assert [group.label for group in found.users_by_searches] == ["0", "1-5", "6-10", "11-20", "21-50", ">50"]


def random_events(seed):
    draw_ = random.Random(seed)
    users = [f"u{n}" for n in range(30)]
    interactions = [
        Interaction(draw_.choice(users[5:]), f"i{draw_.randrange(40)}", 1.7e9 + draw_.randrange(25)) for _ in range(300)
    ]
    searches = [
        Search(
            users[min(draw_.randrange(20), draw_.randrange(30))],
            " ".join(draw_.choices(["red", "shoe", "?", "手机壳"], k=draw_.randrange(4))),
            1.7e9 + draw_.randrange(-5, 30),
            tuple(f"i{draw_.randrange(60)}" for _ in range(draw_.randrange(4))),
        )
        for _ in range(150)
    ]
    return interactions, searches


def spread(numbers):
    numbers = sorted(numbers)
    quartiles = [float(np.quantile(numbers, q)) for q in (0.25, 0.5, 0.75)]
    return [plain.fmean(numbers), numbers[0], *quartiles, numbers[-1]]


@pytest.mark.parametrize("seed", range(3))
def test_against_plain_python(tmp_path, seed):
    interactions, searches = random_events(seed)
    items = [f"i{n}" for n in range(0, 80, 3)]
    folder = convert_events(tmp_path / "dataset", interactions, searches, items, KEEP_ALL)
    found = statistics_of(folder)

    by_user, by_searcher = Counter(row.user for row in interactions), Counter(row.user for row in searches)
    users = {*by_user, *by_searcher}
    interacted, clicked = {row.item for row in interactions}, {item for row in searches for item in row.items}
    words = {words_of_texts([row.query])[0] for row in searches}
    moments = Counter((row.user, row.time) for row in interactions)
    seen = [any(s.user == row.user and s.time < row.time for s in searches) for row in interactions]
    bounds = [(0, 0), (1, 5), (6, 10), (11, 20), (21, 50), (51, None)]
    groups = [[user for user in users if low <= by_searcher[user] <= (high or 1e9 * (low > 0))] for low, high in bounds]
    expected = {
        "users": len(users),
        "items": len(interacted | clicked),
        "queries": len(words),
        "searches": 150,
        "clicks": sum(len(row.items) for row in searches),
        "interactions": 300,
        "users_with_searches": len(by_searcher),
        "users_without_searches": len(users - by_searcher.keys()),
        "users_who_only_search": len(users - by_user.keys()),
        "items_interacted": len(interacted),
        "items_only_searched": len(clicked - interacted),
        "items_with_text": len((interacted | clicked) & set(items)),
        "searches_without_clicks": sum(not row.items for row in searches),
        "queries_without_words": int("" in words),
        "tied_interactions": sum(moments[row.user, row.time] > 1 for row in interactions) / 300,
        "searches_at_an_interaction": sum((row.user, row.time) in moments for row in searches) / 150,
        "interactions_after_a_search": sum(seen) / 300,
        "density": 300 / (len(by_user) * len(interacted)),
        "users_by_searches": [
            {
                "label": label,
                "fewest": low,
                "most": high,
                "users": len(group),
                "interactions": sum(by_user[user] for user in group),
            }
            for label, (low, high), group in zip(
                ["0", "1-5", "6-10", "11-20", "21-50", ">50"], bounds, groups, strict=True
            )
        ],
    }
    spreads = {
        "words_per_query": [len(text.split()) for text in words],
        "interactions_per_user": list(by_user.values()),
        "searches_per_user": [by_searcher[user] for user in users],
    }
    assert {name: found[name] for name in expected} == expected
    for name, numbers in spreads.items():
        assert list(found[name].values()) == pytest.approx(spread(numbers)), name
    for name, rows in (("interaction_times", interactions), ("search_times", searches)):
        first, last = min(row.time for row in rows), max(row.time for row in rows)
        assert (found[name]["first"], found[name]["last"]) == (first, last)
    assert set(found) == {*expected, *spreads, "interaction_times", "search_times"}
    # The files hold what was counted.
    assert as_json(collect_from_folder(folder)) == found


def test_a_real_dataset(tmp_path):
    from dataset_converters.ml_100k import convert_ml_100k

    folder = convert_ml_100k(tmp_path)
    found = statistics_of(folder)
    assert as_json(collect_from_folder(folder)) == found
    numbers = ("users", "items", "queries", "searches", "interactions", "users_without_searches")
    assert [found[name] for name in numbers] == [943, 1682, 352, 25_785, 100_000, 142]
    assert found["interaction_times"]["first_date"] == "1997-09-20T03:05:10+00:00"
    # Each search was made from an interaction.
    assert (found["searches_at_an_interaction"], found["searches_without_clicks"]) == (1, 0)
    assert found["tied_interactions"] == pytest.approx(0.758, abs=0.001)


@pytest.mark.parametrize(
    ("groups", "labels", "users"),
    [((0,), ["0", ">0"], [1, 2]), ((1, 2, 3), ["0-1", "2", "3", ">3"], [2, 0, 1, 0])],
)
def test_groups_can_be_chosen(small, groups, labels, users):
    found = collect_from_folder(small, groups).users_by_searches
    assert ([group.label for group in found], [group.users for group in found]) == (labels, users)


@pytest.mark.parametrize("groups", [(), (1, 1), (5, 2), (-1, 3)])
def test_groups_that_mean_nothing(small, groups):
    with pytest.raises(ValueError, match="must be ascending"):
        collect_from_folder(small, groups)


@pytest.mark.parametrize(
    ("first", "dates"),
    [
        (1700000000.5, ("2023-11-14T22:13:20+00:00", "2023-11-14T22:13:22+00:00")),
        (1700000000500.0, ("2023-11-14T22:13:20+00:00", "2023-11-14T22:13:20+00:00")),
        (3.0, (None, None)),
        (20240131.0, (None, None)),
    ],
)
def test_dates_of_clocks_only(tmp_path, first, dates):
    interactions = [Interaction("u", "i", first + step) for step in range(3)]
    found = statistics_of(convert_events(tmp_path / "dataset", interactions))
    assert found["interaction_times"] == {
        "first": first,
        "last": first + 2,
        "first_date": dates[0],
        "last_date": dates[1],
    }
    assert found["search_times"] is None


def test_without_searches(tmp_path):
    folder = convert_events(tmp_path / "dataset", INTERACTIONS)
    found = statistics_of(folder)
    assert found["words_per_query"] is found["searches_at_an_interaction"] is None
    assert found["searches_per_user"]["highest"] == found["interactions_after_a_search"] == 0
    assert as_json(collect_from_folder(folder)) == found
    # As a dataset of RecBole's own would be.
    for suffix in ("search", "query", "item"):
        (folder / f"toy.{suffix}").unlink()
    assert as_json(collect_from_folder(folder)) == found


def test_folder_of_anyone(tmp_path, write_files, random_rows):
    """Further columns, a query nobody searched for and one without a row, line ends of Windows, an odd name."""
    name = "a [1] * it's"
    rows = {suffix: random_rows[suffix] for suffix in ("inter", "search", "query")}
    rows["query"] = [*rows["query"][1:], ("unused", "some words")]
    folder = write_files(tmp_path, name, **rows) / name
    inter = folder / f"{name}.inter"
    lines = inter.read_text().splitlines()
    lines = [f"{line}\t{'page:token' if not index else chr(34) + 'x'}" for index, line in enumerate(lines)]
    inter.write_bytes("\r\n".join([*lines, ""]).encode())
    found = collect_from_folder(folder)
    assert found.interactions == len(rows["inter"])
    assert found.queries == len({row[1] for row in rows["search"]})
    assert found.interaction_times.last == max(row[2] for row in rows["inter"])
    assert collect_from_folder(f"{folder}/../{name}/") == found


@pytest.mark.parametrize(
    ("suffix", "old", "new", "problem"),
    [
        ("inter", "ann\ta\t1", "ann\ta\tsoon", "line 2: timestamp is 'soon', not a number"),
        ("inter", "ann\ta\t1", "ann\ta\t", "line 2: timestamp is missing"),
        ("inter", "ann\ta\t1", "\ta\t1", "line 2: user_id is empty"),
        ("inter", "ann\ta\t1", "ann\ta", "line 2: 2 columns instead of 3"),
        ("inter", "timestamp:float", "when:float", "no column 'timestamp'"),
        ("search", "search_item_ids:token_seq", "search_item_ids", "is not a 'field:type' header"),
        ("search", "\t9\t", "\tinf\t", "line 4: search_timestamp is missing or not a finite number"),
    ],
)
def test_malformed_files(small, tmp_path, suffix, old, new, problem):
    folder = tmp_path / "toy"
    folder.mkdir()
    for path in small.iterdir():
        text = path.read_bytes()
        if path.suffix == f".{suffix}":
            assert old.encode() in text
            text = text.replace(old.encode(), new.encode(), 1)
        (folder / path.name).write_bytes(text)
    with pytest.raises(DataError) as error:
        collect_from_folder(folder)
    assert f"toy.{suffix}" in str(error.value) and problem in str(error.value)


def test_missing_interactions(tmp_path):
    with pytest.raises(DataError, match=r"toy\.inter: file not found"):
        collect_from_folder(tmp_path / "toy")


def test_report(small):
    page = (small / "toy.statistics.md").read_text(encoding="utf-8")
    for line in (
        "| Dataset | #Users | #Items | #Queries | #Interaction-S | #Clicks-S | #Interaction-R |",
        "| toy     |      3 |      7 |        3 |              4 |         6 |              8 |",
        "| 1-5      |     2 | 66.7% |            5 |          2.5 |",
        "![Users by number of searches](<toy.statistics.png>)",
        "| searches of a user     | 1.33 |     0 |  0.5 |      1 |    2 |    3 |",
    ):
        assert line in page.splitlines(), page
    tables = [part.splitlines() for part in page.split("\n\n") if part.startswith("|")]
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_report_is_the_same_each_time(small, tmp_path, fresh_python):
    """In another process, and after the clock has moved on, as the conversion's."""
    code = """
        import sys
        from pathlib import Path
        from dataset_converters.statistics.statistics import collect_from_folder
        from dataset_converters.statistics.statistics_report import write_report
        write_report(Path(sys.argv[2]), "toy", collect_from_folder(sys.argv[1]))
    """
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
    fresh_python(code, str(small), str(tmp_path / "a"))
    write_report(tmp_path / "b", "toy", collect_from_folder(small))
    names = {f"toy.statistics.{suffix}" for suffix in ("json", "md", "png", "pdf")}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    for suffix in ("json", "png", "pdf"):
        name = f"toy.statistics.{suffix}"
        assert (tmp_path / "a" / name).read_bytes() == (small / name).read_bytes(), name


def test_report_is_printed_in_a_narrow_terminal(small, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = collect_from_folder(small)
    print_report("[red]toy", found)
    output, errors = capsys.readouterr()
    assert output == ""
    assert "[red]toy" in errors
    for rows in (size_rows(found), spread_rows(found), detail_rows(found)):
        assert all(cell in errors for row in rows for cell in row)
    assert max(map(len, errors.splitlines())) <= 80


def test_figure(small, tmp_path):
    groups = collect_from_folder(small).users_by_searches
    before = dict(matplotlib.rcParams)
    (panel,) = draw_users_by_searches(groups).axes
    assert [bar.get_height() for bar in panel.patches] == [1, 2, 0, 0, 0, 0]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0", "1–5", "6–10", "11–20", "21–50", ">50"]
    assert [text.get_text() for text in panel.texts] == ["1", "2", "0", "0", "0", "0"]
    assert panel.figure.get_size_inches()[0] == pytest.approx(3.3)
    save_users_by_searches(groups, tmp_path / "x.png", tmp_path / "x.pdf")
    # Width and height follow the name of the first chunk.
    assert struct.unpack(">II", (tmp_path / "x.png").read_bytes()[16:24]) == (990, 630)
    pdf = (tmp_path / "x.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/Type3" not in pdf and b"CreationDate" not in pdf
    assert dict(matplotlib.rcParams) == before


def test_labels_of_the_figure_stay_within_it():
    groups = [Group(label, 0, 0, users, 0) for label, users in zip("abcdef", (9_876_543, *[99_999] * 5), strict=True)]
    figure = draw_users_by_searches(groups)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:], strict=False))
    assert all(figure.bbox.y0 < box.y0 and box.y1 < figure.bbox.y1 and box.x1 < figure.bbox.x1 for box in boxes)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (99_999, "99,999"),
        (100_000, "100k"),
        (123_456, "123k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (1_234_567, "1.23M"),
        (12_345_678, "12.3M"),
        (120_000_000, "120M"),
        (1_234_567_890, "1,235M"),
    ],
)
def test_short_numbers(number, text):
    assert short_number(number) == text


def test_default_groups_are_the_papers_kind():
    assert GROUPS == (0, 5, 10, 20, 50)
