"""Qilin: what becomes an interaction, a search and an item, in which order and unit, and what is refused."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from dataset_converters.choices import AS_PUBLISHED, Filters, Options, QilinReading
from dataset_converters.qilin.qilin import convert_qilin
from recbole_gserec.cli.convert import qilin
from recbole_gserec.errors import DataError, SettingError

DETAILS = {"recommendation": "rec_result_details_with_idx", "search": "search_result_details_with_idx"}
NUMBER = {"recommendation": "request_idx", "search": "search_idx"}
TIME = {"recommendation": "request_timestamp", "search": "search_timestamp"}
SPACES = Options(words="spaces", filters=Filters(min_interactions=0, search_only_users=True))
SKIP = Options(words="spaces", bad_rows="skip", filters=SPACES.filters)
# 2024-11-27 00:52:40, in seconds.
NOON = 1732668760


@pytest.fixture(autouse=True)
def _without_report(monkeypatch):
    """Statistics and their figures are tested elsewhere, and take most of the time."""
    monkeypatch.setattr("dataset_converters.conversion.write_report", lambda *_, **__: None)


def note(idx, click=0, position=1, time=NOON, side="search"):
    """A shown note in the types of its log: whole numbers here, fractions there."""
    fields = {"click": click, "collect": 0, "note_id": f"{idx:024x}", "note_idx": idx, "page_time": 0.0}
    fields |= {"position": position, TIME[side]: time, "share": 0}
    if side == "search":
        fields |= {name: float(fields[name]) for name in ("click", "position", TIME[side]) if fields[name] is not None}
    return fields


def rec(idx, click=1, position=1, time=NOON * 1000):
    return note(idx, click, position, time, "recommendation")


def request(user, number, details, query=None):
    side = "recommendation" if query is None else "search"
    row = {"user_idx": user, NUMBER[side]: number, "session_idx": 1, DETAILS[side]: details}
    return row if query is None else {**row, "query": query, "query_from_type": 1.0, "dpr_results": [[1.0, 2.0]]}


def write(folder: Path, rows: list[dict], name: str = "train-00000-of-00001.parquet") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / name)
    return folder / name


ONE_REC = ([request(7, 1, [rec(11)])], [])
ONE_SEARCH = ([request(7, 1, [note(21, 1)], "q")], [])


def source_of(
    folder: Path,
    recommendations=((), ()),
    searches=((), ()),
    notes=({"note_idx": 1, "note_title": "one", "note_content": "two"},),
) -> Path:
    """The published folders; a log without rows gets one of user 900, which is not to be seen in the results."""
    for half, rows in zip(("train", "test"), recommendations, strict=True):
        write(folder / f"recommendation_{half}", list(rows) or [request(900, 900, [rec(1, click=0)])])
    for half, rows in zip(("train", "test"), searches, strict=True):
        write(folder / f"search_{half}", list(rows) or [request(900, 900, [note(1)], "nobody")])
    write(folder / "notes", list(notes))
    return folder


def rows_of(folder: Path, suffix: str) -> list[list[str]]:
    text = (folder / f"{folder.name}.{suffix}").read_text(encoding="utf-8")
    return [line.split("\t") for line in text.removesuffix("\n").split("\n")][1:]


def searches_of(folder: Path) -> list[tuple[str, str, str, str]]:
    """User, words, time and items of each search, but for those of user 900."""
    words = dict(rows_of(folder, "query"))
    return [
        (user, words[query], time, items) for user, query, time, items in rows_of(folder, "search") if user != "900"
    ]


def left_out(folder: Path) -> dict[tuple[str, str], int]:
    record = json.loads((folder / f"{folder.name}.json").read_text(encoding="utf-8"))
    found = {}
    for entry in record["left_out"]:
        key = (entry["file"].split("/")[0], entry["problem"])
        found[key] = found.get(key, 0) + entry["rows"]
    return found


def steps(folder: Path) -> list[dict]:
    return json.loads((folder / f"{folder.name}.json").read_text(encoding="utf-8"))["steps"]


def test_times_are_seconds_on_both_sides_and_ties_follow_positions(tmp_path):
    source = source_of(
        tmp_path / "raw",
        recommendations=(
            [
                request(7, 1, [rec(12, position=2), rec(11, position=1), rec(13, click=0), rec(14, position=3)]),
                request(7, 2, [rec(15, time=NOON * 1000 - 1975)]),
            ],
            [request(7, 3, [rec(16, time=NOON * 1000 + 2)])],
        ),
        searches=([request(7, 1, [note(21), note(22, 1, time=NOON + 9), note(23, 1)], "a b")], []),
    )
    made = convert_qilin(tmp_path / "dataset", source, options=SPACES)
    assert rows_of(made, "inter") == [
        ["7", "15", "1732668758.025"],
        ["7", "11", "1732668760"],
        ["7", "12", "1732668760"],
        ["7", "14", "1732668760"],
        ["7", "16", "1732668760.002"],
    ]
    # The search is seen only once its last click can have been made.
    assert searches_of(made) == [("7", "a b", "1732668769", "23 22")]
    first = convert_qilin(tmp_path / "dataset", source, "first", QilinReading(search_time="first"), options=SPACES)
    assert searches_of(first) == [("7", "a b", "1732668760", "23 22")]


def test_a_search_without_clicks_is_one_at_the_time_of_its_first_note(tmp_path):
    searches = [
        request(7, 1, [note(21, position=2), note(22, time=NOON + 60)], "none"),
        request(7, 2, [note(23, 1, time=NOON + 99)], "none"),
        request(8, 3, [note(24, 1)], "only searches"),
    ]
    source = source_of(tmp_path / "raw", ONE_REC, (searches, []))
    made = convert_qilin(tmp_path / "dataset", source, options=SPACES)
    assert searches_of(made) == [
        ("7", "none", "1732668760", ""),
        ("7", "none", "1732668859", "23"),
        ("8", "only searches", "1732668760", "24"),
    ]
    assert steps(made)[0]["searches"] == 4  # One is that of user 900.
    kept = convert_qilin(tmp_path / "dataset", source, "kept", QilinReading(keep_unclicked=True), options=SPACES)
    assert searches_of(kept)[0] == ("7", "none", "1732668760", "21")


def test_one_search_for_each_query_of_an_index(tmp_path):
    train = [request(7, 5, [note(21, 1, 2)], "z"), request(7, 5, [note(22, 1)], "a"), request(8, 5, [note(1, 1)], "a")]
    test = [request(7, 5, [note(23, 1, 1, NOON + 1)], "z")]
    source = source_of(tmp_path / "raw", ONE_REC, (train, test))
    made = convert_qilin(tmp_path / "dataset", source, options=SPACES)
    assert searches_of(made) == [
        ("7", "a", "1732668760", "22"),
        ("7", "z", "1732668761", "21 23"),
        ("8", "a", "1732668760", "1"),
    ]
    one = convert_qilin(tmp_path / "dataset", source, "one", QilinReading(first_query_only=True), options=SPACES)
    assert searches_of(one) == [("7", "a", "1732668760", "22"), ("8", "a", "1732668760", "1")]
    problem = "result of a query that is not kept"
    assert (left_out(one)["search_train", problem], left_out(one)["search_test", problem]) == (1, 1)


def test_copies_of_a_request_are_one_and_counted(tmp_path):
    both = request(7, 1, [rec(11), rec(12, position=2)])
    later = request(7, 1, [rec(11, time=NOON * 1000 + 5), rec(11, position=3)])
    search = request(7, 1, [note(21, 1), note(22)], "q")
    source = source_of(tmp_path / "raw", ([both, later], [both]), ([search], [search]))
    made = convert_qilin(tmp_path / "dataset", source, options=SPACES)
    assert [item for _, item, _ in rows_of(made, "inter")] == ["11", "12", "11", "11"]
    assert searches_of(made) == [("7", "q", "1732668760", "21")]
    assert left_out(made)["recommendation_test", "duplicate click"] == 2
    assert left_out(made)["search_test", "duplicate click"] == 1
    listed = convert_qilin(tmp_path / "dataset", source, "listed", QilinReading(as_listed=True), options=SPACES)
    assert len(rows_of(listed, "inter")) == 6
    assert searches_of(listed)[0][3] == "21 21"


def test_types_may_differ_from_file_to_file(tmp_path):
    source = source_of(tmp_path / "raw", ONE_REC, ONE_SEARCH)
    texts = {"note_idx": 12.0, "click": True, "position": "1", "request_timestamp": str(NOON * 1000 + 1)}
    row = {"user_idx": "7", "request_idx": 2.0, "rec_result_details_with_idx": [texts]}
    write(source / "recommendation_train", [row], "train-00001-of-00002.parquet")
    row = {"user_idx": 7.0, "search_idx": 9, "query": None, DETAILS["search"]: [note(22, 1)]}
    write(source / "search_test", [row], "part.parquet")
    write(source / "notes", [{"note_idx": "12", "note_title": None, "note_content": "c"}], "b.parquet")
    made = convert_qilin(tmp_path / "dataset", source, options=SPACES)
    assert rows_of(made, "inter") == [["7", "11", "1732668760"], ["7", "12", "1732668760.001"]]
    assert [search[1] for search in searches_of(made)] == ["q", ""]
    assert ["12", "", "c"] in rows_of(made, "item")


def test_texts_of_the_mentioned_notes(tmp_path):
    notes = [
        {"note_idx": 11, "note_title": '"标题"\t一', "note_content": "第一行\n第二行 #话题# " + "长" * 600},
        {"note_idx": 12, "note_title": "never clicked", "note_content": ""},
    ]
    source = source_of(tmp_path / "raw", ONE_REC, ONE_SEARCH, notes)
    made = convert_qilin(tmp_path / "dataset", source, options=SPACES)
    header = (made / "qilin.item").read_text(encoding="utf-8").split("\n")[0]
    assert header == "item_id:token\ttitle:token_seq\tcontent:token_seq"
    assert rows_of(made, "item") == [["11", "'标题' 一", "第一行 第二行 #话题# " + "长" * (500 - 13)]]
    titles = convert_qilin(tmp_path / "dataset", source, "titles", QilinReading(content_length=0), options=SPACES)
    assert rows_of(titles, "item") == [["11", "'标题' 一", ""]]
    everything = convert_qilin(
        tmp_path / "dataset", source, "all", options=Options(words="spaces", all_items=True, filters=SPACES.filters)
    )
    assert len(rows_of(everything, "item")) == 2


def test_default_options_keep_users_of_either_log_and_split_chinese(tmp_path):
    source = source_of(
        tmp_path / "raw",
        ONE_REC,
        ([request(8, 1, [note(21, 1)], "iPhone手机壳")], []),
    )
    made = convert_qilin(tmp_path / "dataset", source)
    assert searches_of(made) == [("8", "iphone 手机 壳", "1732668760", "21")]
    assert len(rows_of(made, "inter")) == 1


def world(seed: int):
    """Random requests in which everything can happen: repeated, empty of clicks, several queries, ties."""
    draw = random.Random(seed)
    times = [NOON + draw.randrange(30) for _ in range(8)]

    def shown(side, count):
        factor = 1000 if side == "recommendation" else 1
        return [
            note(
                draw.randrange(1, 30), int(draw.random() < 0.4), draw.randrange(1, 6), draw.choice(times) * factor, side
            )
            for _ in range(count)
        ]

    def requests(side, count):
        rows = []
        for _ in range(count):
            query = draw.choice(["a", "b b", "c"]) if side == "search" else None
            user, number = draw.randrange(1, 9), draw.randrange(12)
            rows.append(request(user, number, shown(side, draw.randrange(1, 7)), query))
        return rows

    recommendations = (requests("recommendation", 40), requests("recommendation", 15))
    searches = (requests("search", 40), requests("search", 15))
    notes = [
        {
            "note_idx": idx,
            "note_title": "" if idx % 5 == 0 else f"t{idx}",
            "note_content": " \n" if idx % 5 == 0 else "",
        }
        for idx in range(1, 28)
    ]
    draw.shuffle(notes)
    return recommendations, searches, notes


def expected_default(recommendations, searches):
    """The definition, in plain Python: interactions and searches by user."""
    events, seen = [], set()
    for part, rows in enumerate(recommendations):
        for line, row in enumerate(rows):
            ordered = sorted(enumerate(row[DETAILS["recommendation"]]), key=lambda pair: (pair[1]["position"], pair[0]))
            for order, (_, shown) in enumerate(ordered):
                time = shown["request_timestamp"]
                key = (row["user_idx"], row["request_idx"], shown["note_idx"], shown["position"], time)
                if shown["click"] and key not in seen:
                    seen.add(key)
                    events.append((row["user_idx"], time // 1000, (part, line, order), shown["note_idx"]))
    interactions = [[str(user), str(item), str(time)] for user, time, _, item in sorted(events)]

    groups = {}
    for part, rows in enumerate(searches):
        for line, row in enumerate(rows):
            group = groups.setdefault((row["user_idx"], row["search_idx"], row["query"]), [])
            ordered = sorted(enumerate(row[DETAILS["search"]]), key=lambda pair: (pair[1]["position"], pair[0]))
            group += [(shown, (part, line, order)) for order, (_, shown) in enumerate(ordered)]
    found = []
    for (user, _, query), results in groups.items():
        clicks, seen = [], set()
        for shown, index in results:
            key = (shown["note_idx"], shown["position"], shown["search_timestamp"])
            if shown["click"] and key not in seen:
                seen.add(key)
                clicks.append((shown["search_timestamp"], index, shown["note_idx"]))
        clicks.sort()
        time = clicks[-1][0] if clicks else min(shown["search_timestamp"] for shown, _ in results)
        first = min(index for _, index in results)
        found.append((user, time, first, query, " ".join(str(item) for *_, item in clicks)))
    return interactions, [(str(u), query, str(int(time)), items) for u, time, _, query, items in sorted(found)]


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_definition(tmp_path, seed):
    recommendations, searches, notes = world(seed)
    made = convert_qilin(
        tmp_path / "dataset", source_of(tmp_path / "raw", recommendations, searches, notes), options=SPACES
    )
    interactions, expected = expected_default(recommendations, searches)
    assert rows_of(made, "inter") == interactions
    assert searches_of(made) == expected
    shown = sum(len(row[DETAILS["recommendation"]]) for rows in recommendations for row in rows)
    reported = sum(rows for (folder, _), rows in left_out(made).items() if folder.startswith("recommendation"))
    assert shown == len(interactions) + reported
    mentioned = {item for _, item, _ in interactions} | {item for *_, items in expected for item in items.split()}
    assert [item for item, *_ in rows_of(made, "item")] == sorted(
        {str(row["note_idx"]) for row in notes} & mentioned, key=int
    )


def expected_as_published(recommendations, searches, notes):
    """The steps of the authors' notebooks, in plain Python."""
    texted = {row["note_idx"] for row in notes if (row["note_title"] + " " + row["note_content"]).strip()}
    rec = [
        (row["user_idx"], shown["request_timestamp"], shown["note_idx"])
        for rows in recommendations
        for row in rows
        for shown in row[DETAILS["recommendation"]]
        if shown["click"] == 1 and shown["note_idx"] in texted
    ]
    rec.sort(key=lambda event: event[:2])
    src = [
        (row["user_idx"], shown["search_timestamp"], row["search_idx"], row["query"], shown["note_idx"], shown["click"])
        for rows in searches
        for row in rows
        for shown in row[DETAILS["search"]]
    ]
    src.sort(key=lambda event: event[:2])
    groups: dict = {}
    for user, time, number, query, item, click in src:
        groups.setdefault((user, number, query), []).append((time, item, click))
    chosen = {}
    for key in sorted(groups):
        results = groups[key]
        kept = [result for result in results if result[2] != 0] or results[:1]
        kept = [(time, item) for time, item, _ in kept if item in texted]
        if kept and not any(other[:2] == key[:2] for other in chosen):
            chosen[key] = kept
    found = [
        (str(u), query, str(int(kept[0][0])), " ".join(str(i) for _, i in kept))
        for (u, _, query), kept in chosen.items()
    ]
    return [[str(user), str(item), str(time)] for user, time, item in rec], sorted(found)


@pytest.mark.parametrize("seed", range(4))
def test_as_published_agrees_with_the_notebooks(tmp_path, seed):
    recommendations, searches, notes = world(seed)
    source = source_of(tmp_path / "raw", recommendations, searches, notes)
    made = convert_qilin(tmp_path / "dataset", source, reading=AS_PUBLISHED, options=SPACES)
    interactions, expected = expected_as_published(recommendations, searches, notes)
    assert rows_of(made, "inter") == interactions
    assert sorted(searches_of(made)) == expected
    # Every search lies before every recommendation: the units differ.
    assert max(float(time) for *_, time, _ in searches_of(made)) < min(float(row[2]) for row in interactions)


BAD_RESULTS = [
    ("recommendation", {"request_timestamp": NOON}, "request_timestamp is not a time in milliseconds"),
    ("recommendation", {"request_timestamp": NOON * 10**6}, "request_timestamp is not a time in milliseconds"),
    ("recommendation", {"request_timestamp": -5}, "request_timestamp is not a time in milliseconds"),
    ("recommendation", {"request_timestamp": None}, "request_timestamp is not a time in milliseconds"),
    ("search", {"search_timestamp": NOON * 1000.0}, "search_timestamp is not a time in seconds"),
    ("search", {"search_timestamp": float("nan")}, "search_timestamp is not a time in seconds"),
    ("search", {"click": -1.0}, "click is not a number of 0 or more"),
    ("search", {"click": None}, "click is not a number of 0 or more"),
    ("recommendation", {"note_idx": None}, "note_idx is missing"),
]


@pytest.mark.parametrize(("side", "change", "problem"), BAD_RESULTS)
def test_bad_results_are_refused_or_counted(tmp_path, side, change, problem):
    good = rec(11) if side == "recommendation" else note(21, 1)
    bad = {**good, **change}
    recommendations, searches = [request(7, 1, [rec(11)])], [request(7, 1, [note(21, 1)], "q")]
    query = "r" if side == "search" else None
    added = [request(7, 2, [good], query), request(7, 3, [good, bad], query)]
    (searches if query else recommendations).extend(added)
    source = source_of(tmp_path / "raw", (recommendations, []), (searches, []))
    with pytest.raises(DataError, match=f"{side}_train/train-00000-of-00001.parquet, line 3: {problem}") as error:
        convert_qilin(tmp_path / "dataset", source, options=SPACES)
    assert error.value.line == 3 and "--bad-rows skip" in str(error.value)
    made = convert_qilin(tmp_path / "dataset", source, options=SKIP)
    assert left_out(made)[f"{side}_train", problem] == 1
    assert len(rows_of(made, "inter")) == (1 if query else 3)
    assert len(searches_of(made)) == (3 if query else 1)


def test_rows_without_user_or_results(tmp_path):
    searches = [request(7, 1, [note(21, 1)], "q"), request(7, 2, [], "empty"), request(7, 3, [note(1)], "q")]
    searches[2]["user_idx"] = None
    source = source_of(tmp_path / "raw", ([request(7, 1, [rec(11)]), request(7, 2, [])], []), (searches, []))
    with pytest.raises(DataError, match="line 2: no shown notes, so no time"):
        convert_qilin(tmp_path / "dataset", source, options=SPACES)
    made = convert_qilin(tmp_path / "dataset", source, options=SKIP)
    assert left_out(made)["search_train", "no shown notes, so no time"] == 1
    assert left_out(made)["search_train", "user_idx is missing"] == 1
    assert len(searches_of(made)) == 1


def test_a_note_twice(tmp_path):
    notes = [
        {"note_idx": idx, "note_title": f"t{line}", "note_content": ""} for line, idx in enumerate((11, 12, 12, 11))
    ]
    source = source_of(tmp_path / "raw", ONE_REC, ONE_SEARCH, notes)
    # Note 12 is never clicked, so nothing is read of it.
    with pytest.raises(DataError, match="notes/.*line 4: duplicate note_idx"):
        convert_qilin(tmp_path / "dataset", source, options=SPACES)
    made = convert_qilin(tmp_path / "dataset", source, options=SKIP)
    assert rows_of(made, "item") == [["11", "t0", ""]]


def test_missing_folders_columns_and_damaged_files(tmp_path):
    good = source_of(tmp_path / "raw", ONE_REC, ONE_SEARCH)
    with pytest.raises(
        DataError, match="recommendation_train: folder not found. --input must be the published folder with"
    ):
        convert_qilin(tmp_path / "dataset", tmp_path / "elsewhere")
    write(good / "search_test", [{"user_idx": 1, "search_idx": 2, "query": "q"}])
    with pytest.raises(DataError, match="no column search_result_details_with_idx"):
        convert_qilin(tmp_path / "dataset", good)
    write(good / "search_test", [request(7, 1, [{"note_idx": 1, "click": 1.0}], "q")])
    with pytest.raises(DataError, match="no position, search_timestamp in search_result_details_with_idx"):
        convert_qilin(tmp_path / "dataset", good)
    write(good / "search_test", [request(7, 1, "[{'note_idx': 1}]", "q")])
    with pytest.raises(DataError, match="not a list of shown notes"):
        convert_qilin(tmp_path / "dataset", good)
    file = write(good / "search_test", [request(7, 1, [note(21, 1)], "q")])
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match="search_test/train-00000-of-00001.parquet: not a complete Parquet file"):
        convert_qilin(tmp_path / "dataset", good)
    file.unlink()
    with pytest.raises(DataError, match="search_test: the folder has no Parquet files"):
        convert_qilin(tmp_path / "dataset", good)
    assert not any((tmp_path / "dataset").glob("*")) and not any((tmp_path / "dataset").glob(".*"))


def test_parts_that_hold_nothing_are_left_out(tmp_path, caplog):
    good = source_of(tmp_path / "raw", ONE_REC, ONE_SEARCH)
    expected = convert_qilin(tmp_path / "expected", good)
    (good / "search_train" / "train-00001-of-00002.parquet").touch()
    made = convert_qilin(tmp_path / "dataset", good)
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == ["search_train/train-00001-of-00002.parquet is empty and is left out."]
    assert rows_of(made, "search") == rows_of(expected, "search")
    for path in (good / "notes").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="notes: all 1 Parquet files in the folder are empty"):
        convert_qilin(tmp_path / "other", good)


def test_settings_that_cannot_be_used():
    with pytest.raises(SettingError, match="search_time must be one of last, first"):
        QilinReading(search_time="middle")
    with pytest.raises(SettingError, match="content_length -1 is negative"):
        QilinReading(content_length=-1)
    with pytest.raises(SettingError, match="one unit"):
        convert_qilin("d", "s", reading=AS_PUBLISHED, options=Options(filters=Filters(since=1.0)))


def test_command(tmp_path):
    app = typer.Typer()
    app.command()(qilin)
    source = source_of(tmp_path / "raw", ([request(7, 1, [rec(1)])], []), ([request(7, 1, [note(1)], "q")], []))
    arguments = ["--input", str(source), "--output", str(tmp_path / "dataset")]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert searches_of(tmp_path / "dataset" / "qilin") == [("7", "q", "1732668760", "")]
    result = CliRunner().invoke(app, [*arguments, "--name", "published", "--as-published"], catch_exceptions=False)
    assert result.exit_code == 0 and result.output.strip().endswith("published")
    assert searches_of(tmp_path / "dataset" / "published") == [("7", "q", "1732668760", "1")]
    assert rows_of(tmp_path / "dataset" / "published", "inter") == [["7", "1", "1732668760000"]]
    CliRunner().invoke(app, [*arguments, "--name", "unclicked", "--keep-unclicked"], catch_exceptions=False)
    assert rows_of(tmp_path / "dataset" / "unclicked", "inter") == [["7", "1", "1732668760"]]


def test_folders_that_look_like_a_column_or_a_pattern(tmp_path):
    source_of(tmp_path / "user_idx=1", ([request(8, 1, [rec(11)])], []), ONE_SEARCH)
    source = source_of(tmp_path / "user_idx=[1]", ONE_REC, ONE_SEARCH)
    folder = convert_qilin(tmp_path / "out", source)
    assert {row[0] for row in rows_of(folder, "inter")} == {"7"}
    assert {row[0] for row in searches_of(folder)} == {"7"}
