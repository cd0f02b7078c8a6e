"""From tables to a dataset: order, ids, queries, refusals, records, and what is left when it does not end well."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from dataset_converters import bad_rows as table_checks
from dataset_converters import conversion
from dataset_converters.bad_rows import BadRows
from dataset_converters.choices import Filters, Options
from dataset_converters.conversion import convert
from dataset_converters.query_words import words_of_texts
from recbole_gserec.errors import DataError, SettingError
from tests.dataset_converters.event_tables import Interaction, Search, convert_events, fill, rows_of

KEEP_ALL = Options(filters=Filters(min_interactions=0, search_only_users=True))
ANN = [Interaction("ann", item, time) for time, item in enumerate("abc", start=10)]


def random_events(seed, distinct_times):
    """Events of a few users; times of one user's events of a kind differ if asked for."""
    draw = random.Random(seed)
    users = ["7", "10", "9", "007", "ann", "Bö", "99999999999999999999", "12345678901234567890", "-3"]
    queries = ["red shoe", "Red  SHOE!", "红色鞋子", "", "???", None, "shoe", "blue 'shoe'"]
    times = [1700000000 + 0.25 * n for n in (range(400) if distinct_times else range(6))]
    interactions, searches = [], []
    for user in users:
        n = draw.randrange(8)
        drawn = draw.sample(times, n) if distinct_times else draw.choices(times, k=n)
        interactions += [Interaction(user, f"i{draw.randrange(12)}", time) for time in drawn]
        n = draw.randrange(8)
        drawn = draw.sample(times, n) if distinct_times else draw.choices(times, k=n)
        searches += [
            Search(user, draw.choice(queries), time, tuple(draw.choices(["i1", "i2", "x", "é"], k=draw.randrange(3))))
            for time in drawn
        ]
    draw.shuffle(interactions)
    draw.shuffle(searches)
    return interactions, searches


def by_id(name):
    """Numbers as numbers, then all else by its characters."""
    try:
        return (0, int(name), name.encode())
    except ValueError:
        return (1, 0, name.encode())


def number(time):
    return repr(time).removesuffix(".0")


def expected_files(interactions, searches, items):
    """The rows of a dataset, worked out without a database."""
    words = {row.query: words_of_texts([row.query or ""])[0] for row in searches}
    ids = {text: str(index) for index, text in enumerate(sorted(set(words.values())), start=1)}
    mentioned = {row.item for row in interactions} | {item for row in searches for item in row.items}
    return {
        "inter": [
            (row.user, row.item, number(row.time))
            for row in sorted(interactions, key=lambda row: (by_id(row.user), row.time))
        ],
        "search": [
            (row.user, ids[words[row.query]], number(row.time), " ".join(row.items))
            for row in sorted(searches, key=lambda row: (by_id(row.user), row.time))
        ],
        "query": [(index, text) for text, index in ids.items()],
        "item": [(item, f"Title {item}") for item in sorted(set(items) & mentioned, key=by_id)],
    }


@pytest.mark.parametrize("seed", range(3))
def test_files_are_what_plain_python_makes(tmp_path, seed):
    interactions, searches = random_events(seed, distinct_times=False)
    items = [f"i{n}" for n in range(20)] + ["x"]
    folder = convert_events(tmp_path / "dataset", interactions, searches, items, KEEP_ALL)
    for suffix, rows in expected_files(interactions, searches, items).items():
        assert rows_of(folder, suffix) == rows, suffix


def test_order_of_the_source_matters_to_ties_only(tmp_path):
    interactions, searches = random_events(5, distinct_times=True)
    items = [f"i{n}" for n in range(20)]
    first = convert_events(tmp_path / "a", interactions, searches, items, KEEP_ALL)
    shuffled = [random.Random(1).sample(rows, len(rows)) for rows in (interactions, searches, items)]
    second = convert_events(tmp_path / "b", *shuffled, KEEP_ALL)
    for suffix in ("inter", "search", "query", "item", "statistics.json"):
        assert (first / f"toy.{suffix}").read_bytes() == (second / f"toy.{suffix}").read_bytes()


def test_ties_keep_the_order_of_the_source(tmp_path):
    interactions = [Interaction("u", item, 1) for item in "cabdfe"]
    searches = [Search("u", query, 1, ()) for query in ("c", "a", "b")]
    folder = convert_events(tmp_path / "dataset", interactions, searches)
    assert "".join(row[1] for row in rows_of(folder, "inter")) == "cabdfe"
    assert [row[1] for row in rows_of(folder, "search")] == ["3", "1", "2"]


def test_ids_survive(tmp_path):
    ids = ["007", "7", "10", "9", "99999999999999999999", "é", "a_b", "A-b", "用户1", "🎉", "1e3", "0x10", "-1", "1.50"]
    users = [*ids, "Ann Lee", "O'Neil", " pad", 'in"side', "170141183460469231731687303715884105728"]
    interactions = [Interaction(user, item, n) for user in users for n, item in enumerate(ids)]
    folder = convert_events(tmp_path / "dataset", interactions, items=ids)
    rows = rows_of(folder, "inter")
    assert sorted(rows) == sorted((row.user, row.item, str(row.time)) for row in interactions)
    order = list(dict.fromkeys(row[0] for row in rows))
    numbers = [user for user in order if user.lstrip("-").isdigit() and len(user) < 30]
    assert numbers == ["-1", "007", "7", "9", "10", "99999999999999999999"]
    assert {row[0] for row in rows_of(folder, "item")} == set(ids)
    # Each user's rows lie together.
    assert [row[0] for row in rows] == [user for user in order for _ in ids]


def test_same_words_are_one_query(tmp_path):
    texts = ["Red shoe", "red  SHOE!", "ＲＥＤ shoe", "shoe red", "", None, "?!", "don't", "don\u2019t"]
    searches = [Search("ann", text, 20 + index, ()) for index, text in enumerate(texts)]
    folder = convert_events(tmp_path / "dataset", ANN, searches)
    assert rows_of(folder, "query") == [("1", ""), ("2", "don't"), ("3", "red shoe"), ("4", "shoe red")]
    assert [row[1] for row in rows_of(folder, "search")] == ["3", "3", "3", "4", "1", "1", "1", "2", "2"]
    spaces = dataclasses.replace(KEEP_ALL, words="spaces")
    folder = convert_events(tmp_path / "other", ANN, searches, options=spaces)
    assert len(rows_of(folder, "query")) == 8


def test_only_queries_of_kept_searches_are_written(tmp_path):
    searches = [Search("ann", "kept", 1, ()), Search("bob", "gone", 1, ("z",))]
    folder = convert_events(tmp_path / "dataset", ANN, searches, ["a", "z"])
    assert rows_of(folder, "query") == [("1", "kept")]
    assert rows_of(folder, "item") == [("a", "Title a")]


def test_all_items(tmp_path):
    options = dataclasses.replace(KEEP_ALL, all_items=True)
    folder = convert_events(tmp_path / "dataset", ANN, (), ["z", "a", "10", "9"], options)
    assert [row[0] for row in rows_of(folder, "item")] == ["9", "10", "a", "z"]


def test_searches_without_clicks(tmp_path):
    searches = [Search("ann", "q", 1, ()), Search("ann", "q", 2, None)]
    folder = convert_events(tmp_path / "dataset", ANN, searches)
    assert [row[3] for row in rows_of(folder, "search")] == ["", ""]


def test_further_columns(tmp_path):
    def read(connection):
        fill(connection, ANN)
        connection.execute(
            """
            CREATE OR REPLACE TABLE interactions AS
            SELECT "user", item, time, source_row, source_row + 1 AS rating, 'page ' || source_row AS row_shown
            FROM interactions
            """
        )
        return []

    (tmp_path / "log").touch()
    folder = convert(tmp_path / "dataset", "toy", "events", {"log": tmp_path / "log"}, read, KEEP_ALL)
    lines = (folder / "toy.inter").read_text().splitlines()
    assert lines[0] == "user_id:token\titem_id:token\trating:float\trow_shown:token\ttimestamp:float"
    assert lines[1] == "ann\ta\t1\tpage 0\t10"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ({"interactions": [Interaction(None, "a", 1)]}, r"an interaction without user, item or time \(1 in total\)"),
        ({"interactions": [Interaction("u", "", 1)] * 3}, r"an interaction without user, item or time \(3 in total\)"),
        ({"interactions": [Interaction("u", "a", None)]}, "an interaction without user, item or time"),
        ({"interactions": [Interaction("u", "a", float("inf"))]}, "an interaction without user, item or time"),
        ({"interactions": [Interaction("u", "a", float("nan"))]}, "an interaction without user, item or time"),
        ({"searches": [Search("", "q", 1, ())]}, "a search without user or time"),
        ({"searches": [Search("u", "q", float("-inf"), ())]}, "a search without user or time"),
        ({"searches": [Search("u", "q", 1, ("a", None))]}, "a searched item without an id"),
        ({"searches": [Search("u", "q", 1, ("",))]}, "a searched item without an id"),
        ({"searches": [Search("u", "q", 1, ("a b",))]}, "an item id with white space, .* such as 'a b'"),
        ({"interactions": [Interaction("u", "a\u3000b", 1)]}, "an item id with white space"),
        ({"interactions": [Interaction("u", "a\u00a0", 1)]}, "an item id with white space"),
        ({"searches": [Search("u", "q", 1, ('"a',))]}, "an item id with a leading quotation mark"),
        ({"interactions": [Interaction('"u', "a", 1)]}, "a user id with a leading quotation mark"),
        ({"interactions": [Interaction("u\tv", "a", 1)]}, r"a user id with .* control character, such as 'u\\tv'"),
        ({"searches": [Search("u\nv", "q", 1, ())]}, "a user id with .* control character"),
        ({"searches": [Search("u", "q", 1, ("a\x01",))]}, "an item id with .* control character"),
        (
            {"interactions": [Interaction("NA", "a", 1)]},
            "a user id that RecBole reads as a missing value, such as 'NA'",
        ),
        ({"searches": [Search("u", "q", 1, ("null",))]}, "an item id that RecBole reads as a missing value"),
        ({"items": ["a", "b", "a"]}, r"duplicate texts of an item, such as 'a' \(1 in total\)"),
        (
            {"interactions": [Interaction("u", "a", 1.7e9)], "searches": [Search("u", "q", 1.7e12, ())]},
            "interaction times look like seconds, but search times like milliseconds",
        ),
    ],
)
def test_what_no_file_can_hold_is_refused(tmp_path, rows, problem):
    interactions = rows.get("interactions", [])
    # Beside good rows, but of units only one kind.
    interactions = interactions if "searches" in rows and interactions else [*ANN, *interactions]
    with pytest.raises(DataError, match=problem) as error:
        convert_events(tmp_path / "dataset", interactions, rows.get("searches", ()), rows.get("items", ()), KEEP_ALL)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "dataset").exists()


def test_ids_that_recbole_cannot_read_are_known():
    """Those of the installed pandas, whose reader RecBole uses."""
    words = [
        *table_checks.MISSING_VALUE_TEXTS,
        "",
        "nil",
        "NIL",
        "none",
        "Na",
        "N.A.",
        "-",
        "?",
        "inf",
        "0",
        "NAN",
        "NONE",
    ]
    read = pd.read_csv(StringIO("id\tn\n" + "".join(f"{word}\t1\n" for word in words)), sep="\t", dtype=str)
    missing = {word for word, is_missing in zip(words, read["id"].isna(), strict=True) if is_missing}
    assert missing == {*table_checks.MISSING_VALUE_TEXTS, ""} - {"[PAD]"}
    from pandas._libs.parsers import STR_NA_VALUES

    assert missing == STR_NA_VALUES


def test_no_interaction_left(tmp_path):
    with pytest.raises(DataError, match=r"no interactions are left \(read: 3 interactions, 0 searches; .*\)"):
        convert_events(tmp_path / "dataset", ANN, options=Options(filters=Filters(min_interactions=4)))
    assert not (tmp_path / "dataset").exists()


def test_record_adds_up(tmp_path):
    bad = BadRows("log.csv", "time is missing", 2, (3, 9))

    def read(connection):
        fill(connection, [*ANN, Interaction("bob", "a", 1)], [Search("ann", "q", 1, ("z",)), Search("cat", "q", 1, ())])
        return [bad]

    (tmp_path / "log.csv").write_text("raw")
    sources = {"log.csv": tmp_path / "log.csv"}
    options = Options(memory="300MB", threads=1)
    folder = convert(tmp_path / "dataset", "toy", "logs", sources, read, options, {"delimiter": ","})
    record = json.loads((folder / "toy.json").read_text())
    assert record["made_from"] == {
        "converter": "logs",
        "settings": {"delimiter": ","},
        "options": {
            "filters": dataclasses.asdict(Filters()),
            "words": "text",
            "bad_rows": "error",
            "all_items": False,
        },
        # printf raw | sha256sum
        "source": {"log.csv": "d7439bee24773bcbfa2d0a97947ee36227b10d1022b1a55847e928965bb6bfde"},
    }
    assert record["steps"] == [
        {"name": "read", "users": 3, "items": 4, "interactions": 4, "searches": 2},
        {"name": "users with interactions", "users": 2, "items": 4, "interactions": 4, "searches": 1},
        {"name": "users with 3 interactions or more", "users": 1, "items": 4, "interactions": 3, "searches": 1},
    ]
    assert record["left_out"] == [{"file": "log.csv", "problem": "time is missing", "rows": 2, "lines": [3, 9]}]
    assert record["rows"] == {"inter": 3, "item": 0, "search": 1, "query": 1}
    assert record["rows"]["inter"] == record["steps"][-1]["interactions"] == len(rows_of(folder, "inter"))
    assert "| log.csv |" in (folder / "toy.statistics.md").read_text()


def test_the_same_again_does_nothing(tmp_path, monkeypatch):
    folder = convert_events(tmp_path / "dataset", ANN)
    monkeypatch.setattr(conversion, "workspace", lambda *_: pytest.fail("converts again"))
    # What the machine is given changes nothing in the files.
    for options in (Options(), Options(memory="1GB", threads=2)):
        assert convert_events(tmp_path / "dataset", ANN, options=options) == folder


@pytest.mark.parametrize(
    "other",
    [
        {"options": Options(words="spaces")},
        {"options": Options(filters=Filters(since=1.0))},
        {"options": Options(bad_rows="skip")},
        {"settings": {"seed": 1}},
    ],
)
def test_another_dataset_is_never_overwritten(tmp_path, other):
    folder = convert_events(tmp_path / "dataset", ANN)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DataError, match="already exists, made from another source or with other settings"):
        convert_events(tmp_path / "dataset", ANN, **other)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list((tmp_path / "dataset").iterdir()) == [folder]


def test_another_source_is_refused(tmp_path):
    convert_events(tmp_path / "dataset", ANN)
    source = tmp_path / "source.txt"
    source.write_text("changed")
    with pytest.raises(DataError, match="another source"):
        convert(tmp_path / "dataset", "toy", "events", {"source.txt": source}, lambda _: [], Options())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"words": "letters"}, "words must be text or spaces, not 'letters'"),
        ({"bad_rows": "ignore"}, "bad_rows must be error or skip, not 'ignore'"),
        ({"memory": "lots"}, "memory 'lots'"),
        ({"threads": 0}, "threads 0"),
    ],
)
def test_options_are_checked_before_anything_is_read(tmp_path, options, problem):
    (tmp_path / "log").touch()
    with pytest.raises(SettingError, match=problem):
        convert(
            tmp_path / "dataset",
            "toy",
            "events",
            {"log": tmp_path / "log"},
            lambda _: pytest.fail("was read"),
            Options(**options),
        )
    assert not (tmp_path / "dataset").exists()


def test_missing_source(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv: file not found"):
        convert(tmp_path, "toy", "events", {"nowhere.csv": tmp_path / "nowhere.csv"}, lambda _: [], Options())


@pytest.mark.parametrize("error", [DataError("log.csv", "time is missing", "Mend it.", 3), ValueError("a defect")])
def test_an_error_while_reading_leaves_nothing(tmp_path, error):
    def read(connection):
        fill(connection, ANN)
        raise error

    (tmp_path / "log").touch()
    with pytest.raises(type(error)) as raised:
        convert(tmp_path / "dataset", "toy", "events", {"log": tmp_path / "log"}, read, Options())
    assert raised.value is error
    assert not (tmp_path / "dataset").exists()


def test_a_full_disk_while_writing_is_said(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion, "write_report", full)
    with pytest.raises(DataError, match=r"toy: cannot be written \(No space left on device\)"):
        convert_events(tmp_path / "dataset", ANN)
    assert not (tmp_path / "dataset").exists()


def test_an_output_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="the conversion cannot read or write"):
        convert_events(tmp_path / "file", ANN)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
@pytest.mark.parametrize(("step", "left"), [("collect_statistics", 1), ("write_report", 2)])
def test_killed_in_the_middle(tmp_path, step, left):
    script = f"""
        import os, signal, sys
        from pathlib import Path
        import dataset_converters.conversion as conversion
        from tests.dataset_converters.event_tables import Interaction, convert_events
        conversion.{step} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        convert_events(Path(sys.argv[1]), [Interaction("ann", item, 1) for item in "abc"])
    """
    output = tmp_path / "dataset"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(script), str(output)]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert not (output / "toy").exists()
    names = sorted(path.name for path in output.iterdir())
    assert [name[:12] for name in names] == [".converting-", ".toy-unfinished-"[:12]][:left]
    folder = convert_events(output, ANN)
    assert len(rows_of(folder, "inter")) == 3
    assert list(output.iterdir()) == [folder]


@pytest.mark.parametrize("step", ["apply_filters", "split_queries", "collect_statistics", "_tables", "write_report"])
def test_an_interruption_leaves_nothing(tmp_path, monkeypatch, step):
    """At whatever step; a complete dataset beside it stays."""
    (tmp_path / "dataset" / "other").mkdir(parents=True)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert_events(tmp_path / "dataset", ANN, [Search("ann", "q", 1, ())])
    assert [path.name for path in (tmp_path / "dataset").iterdir()] == ["other"]


def test_what_a_killed_conversion_left_goes_when_there_is_nothing_to_do(tmp_path):
    folder = convert_events(tmp_path / "dataset", ANN)
    left = tmp_path / "dataset" / ".toy-unfinished-abcd1234"
    left.mkdir()
    (left / "in-use").touch()
    (left / "toy").mkdir()
    assert convert_events(tmp_path / "dataset", ANN) == folder
    assert list((tmp_path / "dataset").iterdir()) == [folder]


def test_the_terminal_shows_tables_where_the_log_is_on(tmp_path, caplog, capsys):
    with caplog.at_level(logging.WARNING, "dataset_converters"):
        convert_events(tmp_path / "a", ANN, [Search("ann", "q", 1, ())])
    assert capsys.readouterr() == ("", "")
    with caplog.at_level(logging.INFO, "dataset_converters"):
        folder = convert_events(tmp_path / "b", ANN, [Search("ann", "q", 1, ())])
        convert_events(tmp_path / "b", ANN, [Search("ann", "q", 1, ())])
    output, errors = capsys.readouterr()
    assert output == ""
    assert all(
        text in errors
        for text in ("users with 3 interactions or more", "#Interaction-S is the number of searches", "1-5")
    )
    assert [record.message for record in caplog.records] == [f"Made {folder}", f"{folder} already exists."]


def test_the_dataset_can_be_read(tmp_path, make_config):
    """Unicode ids, ids with spaces, searches without clicks and words, and users who only search."""
    from recbole.data import create_dataset

    users = ["Ann Lee", "007", "用户", "99999999999999999999"]
    interactions = [Interaction(user, f"i{n}", 1.7e9 + n) for user in users for n in range(4)]
    searches = [
        Search("007", "手机壳", 1.7e9, ("i1", "only-searched")),
        Search("007", "?!", 1.7e9 + 2, ()),
        Search("searcher", "手机 壳", 1.7e9, ()),
    ]
    convert_events(tmp_path / "dataset", interactions, searches, ["i1", "i0"], KEEP_ALL)
    for model in ("UniSAR", "SASRec"):
        dataset = create_dataset(make_config(model, "toy"))
        assert len(dataset.inter_feat) == 16
        assert {*users} <= set(dataset.field2id_token["user_id"][1:]) <= {*users, "searcher"}
        assert {"i0", "i1", "i2", "i3"} <= set(dataset.field2id_token["item_id"][1:])


def test_a_dataset_has_the_name_of_its_folder(tmp_path):
    folder = convert_events(tmp_path / "dataset", ANN, name="my-shop_2")
    assert isinstance(folder, Path)
    assert all(path.name.startswith("my-shop_2.") for path in folder.iterdir())
    with pytest.raises(SettingError, match="is not a valid dataset name"):
        convert_events(tmp_path / "dataset", ANN, name="a/b")
