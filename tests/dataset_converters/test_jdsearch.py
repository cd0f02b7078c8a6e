"""JDsearch: what becomes an interaction, a search and an item, at which time, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from typer.testing import CliRunner

from dataset_converters.choices import Filters, JDsearchReading, Options
from dataset_converters.jdsearch import convert_jdsearch
from recbole_gserec.cli.convert import jdsearch
from recbole_gserec.errors import DataError, SettingError
from tests.dataset_converters.event_tables import left_out, rows_of, searches_of

USERS = "user_behavior_data.txt"
PRODUCTS = "product_meta_data.txt"
HEADER = (
    "query\tcandidate_wid_list\tcandidate_label_list\thistory_qry_list\thistory_wid_list\thistory_type_list\t"
    "history_time_list"
)
PRODUCT = (
    "wid\tname\tbrand_id\tbrand_name\t" + "".join(f"cate_id_{n}\tcate_name_{n}\t" for n in range(1, 5)) + "shop_id"
)
ALL = Options(words="spaces", filters=Filters(min_interactions=0, search_only_users=True))
SKIP = Options(words="spaces", bad_rows="skip", filters=ALL.filters)
REPEATED = (USERS, "repeated behaviour toward an item of the same search")
#: Folder with published sample files, a subfolder for each data set. They may not be part of this project.
SAMPLES = os.environ.get("GSEREC_SAMPLES", "")


@pytest.fixture(autouse=True)
def _without_report(monkeypatch):
    """Statistics and their figures are tested elsewhere, and take most of the time."""
    monkeypatch.setattr("dataset_converters.conversion.write_report", lambda *_, **__: None)


def history(*events: tuple, query="7\x188", last=5, candidates=(), labels=()) -> str:
    """A line of events ``(query, item, type, seconds since the one before)``. ``last=None`` leaves that time out."""
    queries, items, types, gaps = zip(*events, strict=True) if events else ((), (), (), ())
    gaps = gaps if last is None else (*gaps, last)
    lists = (candidates, labels, queries, items, types, gaps)
    return "\t".join([query, *("_".join(map(str, cells)) for cells in lists)]).replace(" ", "\x18")


def product(wid, name="5 6", brand="9", categories=("1", "2 3", "", "4")) -> str:
    levels = "\t".join(f"70{n}\t{category}" for n, category in enumerate(categories))
    return f"{wid}\t{name}\t60\t{brand}\t{levels}\t80".replace(" ", "\x18")


def source_of(folder: Path, users: Sequence[str], products: Sequence[str] = (), suffix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in ((USERS, [HEADER, *users]), (PRODUCTS, [PRODUCT, *products])):
        text = "\n".join([*rows, ""]).encode()
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(text) if suffix else text)
    return folder


def made_of(tmp_path: Path, users: Sequence[str], products: Sequence[str] = (), name="jdsearch", **reading) -> Path:
    source = source_of(tmp_path / "raw", users, products)
    return convert_jdsearch(tmp_path / "dataset", source, name, JDsearchReading(**reading), options=ALL)


def test_the_example_of_the_published_description(tmp_path):
    line = "12^32^56\t456_457_789\t3.0_0.0_0.0\t323^328^196_-1_12^54\t889_256_345\tORD_CLICK_CART\t0_12_4_5"
    made = made_of(tmp_path, [line.replace("^", "\x18")])
    assert rows_of(made, "inter") == [("1", "256", "CLICK", "12")]
    assert searches_of(made) == [
        ("1", "323 328 196", "0", "889"),
        ("1", "12 54", "16", "345"),
        ("1", "12 32 56", "21", "456"),
    ]
    assert left_out(made) == {}


def test_consecutive_events_of_a_query_within_the_gap_are_one_search(tmp_path):
    line = history(
        ("a", 1, "CLICK", 0),
        ("-1", 9, "CLICK", 1000),  # Without a query: it ends no search.
        ("a", 2, "CLICK", 800),  # 1,800 seconds after the first click.
        ("a", 1, "CART", 1),  # Already in the search.
        ("a", 3, "CLICK", 1801),  # Too late.
        ("b", 4, "CLICK", 0),  # Another query, at the same time.
        ("a", 5, "ORD", 1),  # The first query again.
        query="-1",
    )
    made = made_of(tmp_path, [line, history(("a", 5, "FLW", 0), query="-1")])
    assert searches_of(made) == [
        ("1", "a", "1801", "1 2"),
        ("1", "a", "3602", "3"),
        ("1", "b", "3602", "4"),
        ("1", "a", "3603", "5"),
        ("2", "a", "0", "5"),
    ]
    assert rows_of(made, "inter") == [("1", "9", "CLICK", "1000")]
    assert left_out(made) == {REPEATED: 1}
    made = made_of(tmp_path, [line], name="narrow", search_gap=0)
    assert [(time, items) for _, words, time, items in searches_of(made) if words == "a"] == [
        ("0", "1"),
        ("1800", "2"),
        ("1801", "1"),
        ("3602", "3"),
        ("3603", "5"),
    ]
    assert left_out(made) == {}


def test_the_last_query_is_a_search_with_the_candidates_that_have_a_label(tmp_path):
    users = [
        history(
            ("-1", 1, "ORD", 0),
            ("7 8", 2, "CLICK", 10),
            last=100,
            candidates=(3, 4, 5, 2),
            labels=("0.0", "2.0", "1.0", "3.0"),
        ),
        history(("-1", 1, "ORD", 0), last=2000, candidates=(3, 4), labels=("0.0", "0.0")),
        history(("-1", 1, "ORD", 0), ("-1", 2, "ORD", 7), last=None),
        history(("-1", 1, "ORD", 0), query="-1", candidates=(3,), labels=("1.0",)),
        history(last=0, candidates=(6,), labels=("1.0",)),
        history(last=None, query=""),
    ]
    made = made_of(tmp_path, users)
    assert searches_of(made) == [
        # It goes on with the search of the same query.
        ("1", "7 8", "110", "2 4 5"),
        ("2", "7 8", "2000", ""),
        # Without a time of its own, it has that of the last event.
        ("3", "7 8", "7", ""),
        ("5", "7 8", "0", "6"),
    ]
    assert left_out(made) == {REPEATED: 1}
    assert len(rows_of(made, "inter")) == 5
    made = made_of(tmp_path, users, name="without", drop_last_search=True)
    assert searches_of(made) == [("1", "7 8", "10", "2")]
    assert left_out(made) == {(USERS, "last query of a user"): 4}


def test_types_and_searched_items_as_interactions(tmp_path):
    line = history(
        ("-1", 1, "ORD", 0),
        ("-1", 2, "CLICK", 1),
        ("-1", 3, "CART", 0),
        ("-1", 4, "FLW", 1),
        ("a", 5, "ORD", 1),
        ("a", 6, "CLICK", 0),
        last=7,
        candidates=(7, 8, 9, 10),
        labels=("1.0", "2.0", "3.0", "0.0"),
    )
    made = made_of(tmp_path, [line])
    assert [(item, kind) for _, item, kind, _ in rows_of(made, "inter")] == [
        ("1", "ORD"),
        ("2", "CLICK"),
        ("3", "CART"),
        ("4", "FLW"),
    ]
    searches = searches_of(made)
    made = made_of(tmp_path, [line], name="bought", types=("ORD", "CART"))
    assert [item for _, item, *_ in rows_of(made, "inter")] == ["1", "3"]
    assert searches_of(made) == searches
    assert left_out(made) == {(USERS, "behaviour of another type than CART and ORD"): 2}
    made = made_of(tmp_path, [line], name="all", types=("ORD", "CART"), searched_too=True)
    assert rows_of(made, "inter") == [
        ("1", "1", "ORD", "0"),
        ("1", "3", "CART", "1"),
        ("1", "5", "ORD", "3"),
        ("1", "8", "CART", "10"),
        ("1", "9", "ORD", "10"),
    ]
    assert searches_of(made) == searches
    assert left_out(made) == {(USERS, "behaviour of another type than CART and ORD"): 4}


@pytest.mark.parametrize("dropped", [False, True])
def test_times_before_the_last_query(tmp_path, dropped):
    users = [
        history(("-1", 1, "ORD", 0), ("a", 2, "ORD", 30), last=12.5),
        history(("-1", 1, "ORD", 0), ("-1", 2, "ORD", 30), last=None),
    ]
    made = made_of(tmp_path, users, time_zero="last", drop_last_search=dropped)
    assert [(user, time) for user, *_, time in rows_of(made, "inter")] == [("1", "-42.5"), ("2", "-30"), ("2", "0")]
    assert [time for _, words, time, _ in searches_of(made) if words == "a"] == ["-12.5"]
    assert [time for _, words, time, _ in searches_of(made) if words == "7 8"] == ([] if dropped else ["0", "0"])


def test_texts_of_the_mentioned_products(tmp_path):
    products = [product(99), product(2, brand=""), product(30, "", categories=("1", "", "1", "2")), product(4)]
    users = [history(("-1", 2, "ORD", 0), ("a", 30, "ORD", 0), candidates=(99,), labels=("0.0",))]
    made = made_of(tmp_path, users, products)
    header = (made / "jdsearch.item").read_text(encoding="utf-8").split("\n")[0]
    assert header == "item_id:token\ttitle:token_seq\tcategories:token_seq\tbrand:token_seq"
    assert rows_of(made, "item") == [("2", "5 6", "1 2 3 4", ""), ("30", "", "1 1 2", "9")]
    everything = Options(words="spaces", all_items=True, filters=ALL.filters)
    made = convert_jdsearch(tmp_path / "dataset", tmp_path / "raw", "all", options=everything)
    assert len(rows_of(made, "item")) == 4


class Expected(NamedTuple):
    interactions: list[tuple[str, ...]]
    searches: list[tuple[str, ...]]
    repeated: int


def recount(lines: Sequence[str], gap: float = 1800) -> Expected:
    """What the default settings make of lines of whole seconds, in plain Python."""
    interactions, searches, repeated = [], [], 0
    for user, line in enumerate(lines, 1):
        query, candidates, labels, *lists = line.split("\t")
        queries, items, types, gaps = (cell.split("_") if cell else [] for cell in lists)
        time, events = 0, []
        for place, item in enumerate(items):
            time += int(gaps[place])
            if queries[place] in ("-1", ""):
                interactions.append((str(user), item, types[place], str(time)))
            else:
                events.append((queries[place], time, item))
        time += int(gaps[len(items)]) if len(gaps) > len(items) else 0
        if query not in ("-1", ""):
            events.append((query, time, None))
            labelled = zip(candidates.split("_"), labels.split("_"), strict=True) if candidates else ()
            events += [(query, time, item) for item, label in labelled if float(label) > 0]
        made = []
        for words, time, item in events:
            if not made or made[-1][0] != words or time - made[-1][1] > gap:
                made.append([words, time, []])
            made[-1][1] = time
            if item in made[-1][2]:
                repeated += 1
            elif item is not None:
                made[-1][2].append(item)
        searches += [(str(user), words.replace("\x18", " "), str(time), " ".join(found)) for words, time, found in made]
    return Expected(interactions, searches, repeated)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_plain_python(tmp_path, monkeypatch, seed):
    monkeypatch.setattr("dataset_converters.jdsearch._USERS_AT_ONCE", 4)
    draw = random.Random(seed)
    queries, types = ["-1", "-1", "a", "a", "b c", "d"], ["ORD", "CLICK", "CART", "FLW"]
    users = []
    for _ in range(19):
        events = [
            (draw.choice(queries), draw.randrange(12), draw.choice(types), draw.choice([0, 0, 1, 900, 1800, 1801]))
            for _ in range(draw.choice([0, 1, 5, 40]))
        ]
        shown = draw.sample(range(30), draw.randrange(6))
        labels = [draw.choice(["0.0", "1.0", "3.0"]) for _ in shown]
        last = draw.choice([None, 0, 10, 9999]) if events else 0
        users.append(history(*events, query=draw.choice(queries), last=last, candidates=shown, labels=labels))
    made = made_of(tmp_path, users)
    expected = recount(users)
    assert rows_of(made, "inter") == expected.interactions
    assert searches_of(made) == expected.searches
    assert left_out(made).get(REPEATED, 0) == expected.repeated


@pytest.mark.skipif(not (Path(SAMPLES) / "jdsearch" / USERS).is_file(), reason="GSEREC_SAMPLES has no sample")
def test_the_published_sample(tmp_path):
    source = Path(SAMPLES) / "jdsearch"
    made = convert_jdsearch(tmp_path, source, options=ALL)
    lines = (source / USERS).read_text(encoding="utf-8").splitlines()[1:]
    expected = recount(lines)
    assert rows_of(made, "inter") == expected.interactions
    assert searches_of(made) == expected.searches
    # Every event of the three histories, of 182, 46 and 2, is somewhere; so are the five labelled candidates.
    clicks = sum(len(items.split()) for *_, items in searches_of(made))
    assert len(rows_of(made, "inter")) + clicks + left_out(made)[REPEATED] == 182 + 46 + 2 + 5
    mentioned = {row[1] for row in rows_of(made, "inter")} | {
        i for *_, items in searches_of(made) for i in items.split()
    }
    described = {line.split("\t")[0] for line in (source / PRODUCTS).read_text(encoding="utf-8").splitlines()[1:]}
    assert {row[0] for row in rows_of(made, "item")} == mentioned & described
    assert len(convert_jdsearch(tmp_path, source, "usual").joinpath("usual.inter").read_text().splitlines()) > 100


GOOD = {USERS: history(("-1", 1, "ORD", 0), ("a", 2, "ORD", 1), query="-1"), PRODUCTS: product(1)}
ONE = ("-1", 1, "ORD", 0)
BAD_ROWS = [
    (USERS, history(("-1", "", "ORD", 0), ONE), "history_wid_list is not a list of ids"),
    (USERS, history(("-1", "1\u3000", "ORD", 0)), "history_wid_list is not a list of ids"),
    (USERS, history(("-1", 1, "VIEW", 0)), "history_type_list is not a list of ORD, CLICK, CART, FLW"),
    (USERS, history(("-1", 1, "ORD", -3)), "history_time_list is not a list of numbers of 0 or more"),
    (USERS, history(("-1", 1, "ORD", "x")), "history_time_list is not a list of numbers of 0 or more"),
    (USERS, history(ONE, candidates=("", 2), labels=("1.0", "1.0")), "candidate_wid_list is not a list of ids"),
    (USERS, history(ONE, candidates=(2,), labels=("yes",)), "candidate_label_list is not a list of numbers"),
    (USERS, history(("-1_a", 1, "ORD", 0)), "history_qry_list and history_wid_list differ in length"),
    (USERS, history(("-1", 1, "ORD_CART", 0)), "history_type_list and history_wid_list differ in length"),
    (USERS, history(ONE, last="5_6"), "history_time_list is neither as long as history_wid_list nor one longer"),
    (USERS, history(ONE, ONE, last=None).rsplit("_", 1)[0], "history_time_list is neither as long as"),
    (USERS, history(ONE, candidates=(2, 3), labels=("1.0",)), "candidate_label_list and candidate_wid_list differ"),
    (USERS, history(ONE) + "\t5", "too many columns"),
    (USERS, "a\t1\t1.0", "too few columns"),
    (PRODUCTS, product(""), "wid is missing"),
    (PRODUCTS, product("1\u3000"), "wid contains white space"),
    (PRODUCTS, product(1, "7"), "duplicate item"),
    (PRODUCTS, product(2).rsplit("\t", 1)[0], "too few columns"),
]


@pytest.mark.parametrize(("file", "row", "problem"), BAD_ROWS)
def test_bad_rows_are_refused_or_counted(tmp_path, file, row, problem):
    rows = {name: [good] for name, good in GOOD.items()}
    rows[file] += [row, row]
    source = source_of(tmp_path / "raw", rows[USERS], rows[PRODUCTS])
    with pytest.raises(DataError, match=rf"{file}, line 3: {problem}.*\(2 bad rows in total\)") as error:
        convert_jdsearch(tmp_path / "dataset", source, options=ALL)
    assert "--bad-rows skip" in str(error.value)
    made = convert_jdsearch(tmp_path / "dataset", source, options=SKIP)
    ((where, found), count), *more = left_out(made).items()
    assert where == file and found.startswith(problem) and count == 2 and not more
    assert rows_of(made, "inter") == [("1", "1", "ORD", "0")]
    assert searches_of(made) == [("1", "a", "1", "2")]
    assert rows_of(made, "item") == [("1", "5 6", "1 2 3 4", "9")]


def test_users_keep_their_number_after_a_bad_line(tmp_path):
    users = [history(ONE), history(("-1", 1, "VIEW", 0)), history(ONE)]
    made = convert_jdsearch(tmp_path / "dataset", source_of(tmp_path / "raw", users), options=SKIP)
    assert [row[0] for row in rows_of(made, "inter")] == ["1", "3"]


def test_files_that_are_cut_off(tmp_path):
    source = source_of(tmp_path / "raw", [GOOD[USERS], history(("-1", 123, "ORD", 0), ("-1", 456, "CART", 789))])
    whole = (source / USERS).read_bytes()
    end = whole.rindex(b"_")
    # Without its last time, the file cannot be told from one that has none.
    for size in (end - 4, end - 9, end - 20, end - 32):
        (source / USERS).write_bytes(whole[:size])
        with pytest.raises(DataError, match=f"{USERS}, line 3: (history_|too few columns)"):
            convert_jdsearch(tmp_path / "dataset", source, options=ALL)
    source = source_of(tmp_path / "zipped", [GOOD[USERS]] * 900, [product(1)], ".gz")
    whole = (source / f"{USERS}.gz").read_bytes()
    for size in (len(whole) - 9, len(whole) // 2):
        (source / f"{USERS}.gz").write_bytes(whole[:size])
        with pytest.raises(DataError, match=f"{USERS}.gz: not a complete gzip file"):
            convert_jdsearch(tmp_path / "dataset", source, options=SKIP)
    assert not any((tmp_path / "dataset").glob("*"))


def test_missing_files_and_columns(tmp_path):
    with pytest.raises(DataError, match=f"{USERS}: file not found. --input must be the unpacked folder"):
        convert_jdsearch(tmp_path / "dataset", tmp_path)
    source = source_of(tmp_path / "raw" / "JDsearch", [GOOD[USERS]], suffix=".gz")
    # The parent of the folder will do as well, and so do compressed files.
    assert rows_of(convert_jdsearch(tmp_path / "dataset", tmp_path / "raw", options=ALL), "inter")
    (source / f"{PRODUCTS}.gz").unlink()
    with pytest.raises(DataError, match=f"{PRODUCTS}: file not found"):
        convert_jdsearch(tmp_path / "dataset", source, options=ALL)
    (source_of(tmp_path / "bare", []) / USERS).write_text(GOOD[USERS] + "\n")
    with pytest.raises(DataError, match="line 1: no column query, candidate_wid_list"):
        convert_jdsearch(tmp_path / "dataset", tmp_path / "bare", "empty", options=ALL)
    (tmp_path / "bare" / USERS).write_text(HEADER + "\n")
    with pytest.raises(DataError, match="no interactions are left"):
        convert_jdsearch(tmp_path / "dataset", tmp_path / "bare", "empty", options=ALL)


def test_settings_that_cannot_be_used():
    for types in ((), ("VIEW",), ("ORD", "buy")):
        with pytest.raises(SettingError, match="types must be some of ORD, CLICK, CART, FLW"):
            JDsearchReading(types=types)
    for gap in (-1, float("inf"), float("nan")):
        with pytest.raises(SettingError, match="search_gap .* is not a number of seconds"):
            JDsearchReading(search_gap=gap)
    with pytest.raises(SettingError, match="time_zero must be first or last, not 'now'"):
        JDsearchReading(time_zero="now")


def test_command(tmp_path):
    app = typer.Typer()
    app.command()(jdsearch)
    line = history(("a", 1, "ORD", 0), ("a", 2, "CART", 60), ("-1", 3, "CLICK", 1), ("a", 4, "ORD", 40), last=9)
    source = source_of(tmp_path / "raw", [line], [product(1)])
    arguments = ["--input", str(source), "--output", str(tmp_path / "dataset"), "--types", "ord, cart"]
    arguments += ["--search-gap", "50", "--searched-too", "--drop-last-search", "--time-zero", "last"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    # Two interactions of the three that users need.
    assert result.exit_code == 0, result.output
    made = tmp_path / "dataset" / "jdsearch"
    assert rows_of(made, "inter") == [
        ("1", "1", "ORD", "-110"),
        ("1", "2", "CART", "-50"),
        ("1", "4", "ORD", "-9"),
    ]
    assert [items for *_, items in searches_of(made)] == ["1", "2 4"]
    settings = json.loads((made / "jdsearch.json").read_text())["made_from"]["settings"]
    assert settings == {
        "types": ["CART", "ORD"],
        "search_gap": 50.0,
        "searched_too": True,
        "drop_last_search": True,
        "time_zero": "last",
    }
    # The order of the types is no other setting.
    arguments[arguments.index("ord, cart")] = "CART,ORD"
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
