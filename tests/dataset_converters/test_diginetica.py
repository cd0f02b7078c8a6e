"""Diginetica: who is a user, what becomes an interaction, a search and an item, at which time, and what is refused."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from dataset_converters.choices import DigineticaReading, Filters, Options
from dataset_converters.diginetica import convert_diginetica
from recbole_gserec.cli.convert import diginetica
from recbole_gserec.errors import DataError, SettingError
from tests.dataset_converters.event_tables import left_out, rows_of, searches_of

HEADERS = {
    "train-queries.csv": (
        "queryId;sessionId;userId;timeframe;duration;eventdate;searchstring.tokens;categoryId;items;is.test"
    ),
    "train-clicks.csv": "queryId;timeframe;itemId",
    "train-item-views.csv": "sessionId;userId;itemId;timeframe;eventdate",
    "train-purchases.csv": "sessionId;userId;timeframe;eventdate;ordernumber;itemId",
    "products.csv": "itemId;pricelog2;product.name.tokens",
    "product-categories.csv": "itemId;categoryId",
}
QUERIES, CLICKS, VIEWS, PURCHASES, PRODUCTS, CATEGORIES = HEADERS
DAY = 1462752000  # 2016-05-09 at midnight in UTC.
ALL = Options(words="spaces", filters=Filters(min_interactions=0, search_only_users=True))
SKIP = Options(words="spaces", bad_rows="skip", filters=ALL.filters)


@pytest.fixture(autouse=True)
def _without_report(monkeypatch):
    """Statistics and their figures are tested elsewhere, and take most of the time."""
    monkeypatch.setattr("dataset_converters.conversion.write_report", lambda *_, **__: None)


def query(number, session, after=0, words="", category="NA", user="NA", date="2016-05-09", test="FALSE"):
    return f"{number};{session};{user};{after};311;{date};{words};{category};7518,71,30;{test}"


def view(session, item, after=0, user="NA", date="2016-05-09"):
    return f"{session};{user};{item};{after};{date}"


def purchase(session, item, after=0, user="NA", date="2016-05-09"):
    return f"{session};{user};{after};{date};8;{item}"


def source_of(folder: Path, tables: dict[str, Sequence[str]], suffix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, header in HEADERS.items():
        text = "\n".join([header, *tables.get(name, ()), ""]).encode()
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(text) if suffix else text)
    return folder


def made_of(tmp_path: Path, tables: dict[str, Sequence[str]], name="diginetica", **reading) -> Path:
    source = source_of(tmp_path / "raw", tables)
    return convert_diginetica(tmp_path / "dataset", source, name, DigineticaReading(**reading), options=ALL)


def test_views_at_the_day_of_the_session_plus_milliseconds(tmp_path):
    views = [
        view(1, 50, 526309),
        view(1, 40, 100),
        view(1, 51, 526309),
        # The session goes on after midnight.
        view(2, 60, 7200500, date="2016-05-10"),
        view(2, 61, 3600000),
    ]
    made = made_of(tmp_path, {VIEWS: views, PURCHASES: [purchase(1, 40, 900000)]})
    assert rows_of(made, "inter") == [
        ("s1", "40", "view", f"{DAY + 0.1}"),
        ("s1", "50", "view", f"{DAY + 526.309}"),
        ("s1", "51", "view", f"{DAY + 526.309}"),
        ("s2", "61", "view", f"{DAY + 3600}"),
        ("s2", "60", "view", f"{DAY + 7200.5}"),
    ]
    assert left_out(made) == {(PURCHASES, "purchase"): 1}


def test_the_first_day_of_a_session_may_be_in_another_file(tmp_path):
    tables = {VIEWS: [view(1, 50, 9000, date="2016-05-10")], QUERIES: [query(3, 1, 0)], CLICKS: ["3;2000;50"]}
    made = made_of(tmp_path, tables)
    assert rows_of(made, "inter") == [("s1", "50", "view", f"{DAY + 9}")]
    assert searches_of(made) == [("s1", "", f"{DAY + 2}", "50")]


def test_what_is_an_interaction(tmp_path):
    views = [view(1, 50, 5000), view(1, 51, 6000)]
    purchases = [purchase(1, 50, 5000), purchase(1, 50, 9000), purchase(1, 49, 1000)]
    tables = {VIEWS: views, PURCHASES: purchases}
    made = made_of(tmp_path, tables, interactions="all")
    assert [row[1:3] for row in rows_of(made, "inter")] == [
        ("49", "purchase"),
        ("50", "view"),
        ("50", "purchase"),
        ("51", "view"),
        ("50", "purchase"),
    ]
    assert left_out(made) == {}
    made = made_of(tmp_path, tables, "bought", interactions="purchases")
    assert [row[1:3] for row in rows_of(made, "inter")] == [("49", "purchase"), ("50", "purchase"), ("50", "purchase")]
    assert left_out(made) == {(VIEWS, "view"): 2}


def test_a_user_is_the_user_or_else_the_session(tmp_path):
    tables = {
        QUERIES: [query(1, 1, words="5", user=7), query(2, 3, words="5"), query(3, 2, words="5")],
        CLICKS: ["1;10;90", "3;10;91"],
        # Session 2 is of user 7 as well, as its purchase tells. Session 4 is of two users.
        VIEWS: [view(1, 50), view(2, 51, 1), view(3, 52), view(4, 53, user=8), view(4, 54, 1, user=9), view(4, 55, 2)],
        PURCHASES: [purchase(2, 51, 5, user=7)],
    }
    made = made_of(tmp_path, tables)
    assert [row[:2] for row in rows_of(made, "inter")] == [
        ("s3", "52"),
        ("u7", "50"),
        ("u7", "51"),
        ("u8", "53"),
        ("u8", "55"),
        ("u9", "54"),
    ]
    assert [(user, items) for user, *_, items in searches_of(made)] == [("s3", ""), ("u7", "90"), ("u7", "91")]
    made = made_of(tmp_path, tables, "sessions", users="session")
    assert [row[:2] for row in rows_of(made, "inter")] == [
        ("s1", "50"),
        ("s2", "51"),
        ("s3", "52"),
        ("s4", "53"),
        ("s4", "54"),
        ("s4", "55"),
    ]
    assert [user for user, *_ in searches_of(made)] == ["s1", "s2", "s3"]


def test_a_query_is_a_search_at_its_last_click(tmp_path):
    queries = [
        query(1, 1, 1000, words="16655,244087", category=0),
        query(2, 1, 90000, category=17),
        query(3, 1, 95000, words="NA", category="NA"),
        query(4, 1, 99000, words="17"),
        query(5, 1, 200, words="8", test="TRUE"),
    ]
    clicks = [
        "1;3000;61",
        "2;91000;70",
        "1;2000;60",
        "1;5000;60",  # A second click.
        "2;91000;69",  # At the same time as the one in the line above.
        "4;98000;71",  # Before its query.
        "9;1;1",
        "5;300;1",
    ]
    tables = {QUERIES: queries, CLICKS: clicks, VIEWS: [view(1, 1)]}
    made = made_of(tmp_path, tables)
    assert searches_of(made) == [
        ("s1", "16655 244087", f"{DAY + 5}", "60 61"),
        ("s1", "c17", f"{DAY + 91}", "70 69"),
        ("s1", "", f"{DAY + 95}", ""),
        ("s1", "17", f"{DAY + 99}", "71"),
    ]
    dropped = {
        (QUERIES, "test query, whose clicks are not published"): 1,
        (CLICKS, "click in a query that is not kept"): 2,
        (CLICKS, "repeated click on an item of the same search"): 1,
    }
    assert left_out(made) == dropped
    made = made_of(tmp_path, tables, "words", text_queries_only=True)
    assert [words for _, words, *_ in searches_of(made)] == ["16655 244087", "17"]
    assert left_out(made) == dropped | {
        (QUERIES, "query without words"): 2,
        (CLICKS, "click in a query that is not kept"): 4,
    }
    made = made_of(tmp_path, tables, "tests", keep_test_queries=True)
    assert searches_of(made)[0] == ("s1", "8", f"{DAY + 0.3}", "1")
    assert left_out(made)[CLICKS, "click in a query that is not kept"] == 1


def test_views_that_a_click_opened(tmp_path, caplog):
    caplog.set_level("INFO")
    tables = {
        QUERIES: [query(1, 1, 0), query(2, 2, 0)],
        CLICKS: ["1;10000;50", "1;10000;51", "2;10000;52", "1;12000;50"],
        VIEWS: [
            view(1, 50, 9999),  # Before the click.
            view(1, 50, 10000),
            view(1, 50, 13000),
            view(1, 51, 70000),  # A minute later.
            view(1, 51, 70001),
            view(1, 52, 10000),  # Clicked in another session.
        ],
    }
    made = made_of(tmp_path, tables)
    assert len(rows_of(made, "inter")) == 6
    assert "3 of 6 views follow within a minute" in caplog.text
    made = made_of(tmp_path, tables, "dropped", drop_opened_views=True)
    assert [row[1::2] for row in rows_of(made, "inter")] == [
        ("50", f"{DAY + 9.999}"),
        ("52", f"{DAY + 10}"),
        ("51", f"{DAY + 70.001}"),
    ]
    assert left_out(made)[VIEWS, "view opened by a click in a search"] == 3


def test_texts_of_the_mentioned_items(tmp_path):
    tables = {
        VIEWS: [view(1, 2), view(1, 30, 1), view(1, 5, 2)],
        QUERIES: [query(1, 1)],
        CLICKS: ["1;5;4"],
        PRODUCTS: ["2;10;4875,776", "30;0;", "4;9;NA", "99;9;7"],
        CATEGORIES: ["99;1", "2;12", "4;13", "2;3", "2;12", "5;9"],
    }
    made = made_of(tmp_path, tables)
    header = (made / "diginetica.item").read_text().split("\n")[0]
    assert header == "item_id:token\ttitle:token_seq\tcategories:token_seq"
    assert rows_of(made, "item") == [("2", "4875 776", "c12 c3"), ("4", "", "c13"), ("30", "", "")]
    everything = Options(words="spaces", all_items=True, filters=ALL.filters)
    made = convert_diginetica(tmp_path / "dataset", tmp_path / "raw", "all", options=everything)
    assert len(rows_of(made, "item")) == 4


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_pandas(tmp_path, seed):
    draw = random.Random(seed)
    dates = ["2016-05-09", "2016-05-10"]
    users = [draw.choice(["NA", "NA", 1, 2, 3]) for _ in range(30)]

    def event():
        session = draw.randrange(30)
        # A user is known in some of the session's events.
        user = draw.choice(["NA", users[session]])
        return session, draw.choice([0, 5, 1000, 1000, 86_400_000]), user, draw.choice(dates)

    queries, views = [], []
    for number in range(120):
        session, after, user, date = event()
        words = draw.choice(["", "5", "6,7"])
        queries.append(
            query(
                number, session, after, words, draw.choice(["NA", 4]), user, date, draw.choice(["TRUE"] + ["FALSE"] * 5)
            )
        )
    for _ in range(200):
        session, after, user, date = event()
        views.append(view(session, draw.randrange(40), after, user, date))
    clicks = [f"{draw.randrange(130)};{draw.choice([1, 1000, 5000])};{draw.randrange(40)}" for _ in range(200)]
    tables = {QUERIES: queries, CLICKS: clicks, VIEWS: views}
    made = made_of(tmp_path, tables)

    def frame(name):
        text = "\n".join([HEADERS[name], *tables[name]])
        found = pd.read_csv(io.StringIO(text), sep=";", keep_default_na=False, na_values=["NA", ""])
        return found.assign(row=range(len(found)))

    asked, seen, clicked = frame(QUERIES), frame(VIEWS), frame(CLICKS)
    events = pd.concat([asked, seen])
    start = pd.to_datetime(events.eventdate).groupby(events.sessionId).min().astype("datetime64[s]").astype("int64")
    known = events.groupby("sessionId").userId.min()

    def add_user_and_time(table):
        user = table.userId.fillna(table.sessionId.map(known))
        named = [f"s{s}" if pd.isna(u) else f"u{int(u)}" for u, s in zip(user, table.sessionId, strict=True)]
        return table.assign(user=named, time=table.sessionId.map(start) + table.timeframe / 1000)

    seen = add_user_and_time(seen).sort_values(["user", "time", "row"])
    expected = [(r.user, str(r.itemId), "view", f"{r.time:.15g}") for r in seen.itertuples()]
    assert rows_of(made, "inter") == expected
    asked = add_user_and_time(asked[~asked["is.test"]])
    expected = []
    for r in asked.rename(columns={"searchstring.tokens": "tokens"}).itertuples():
        found = clicked[clicked.queryId == r.queryId].sort_values(["timeframe", "row"])
        words = r.tokens.replace(",", " ") if isinstance(r.tokens, str) else "" if pd.isna(r.categoryId) else "c4"
        time = max([r.time, *(start[r.sessionId] + found.timeframe / 1000)])
        items = " ".join(found.itemId.drop_duplicates().astype(str))
        expected.append((r.user, time, r.row, words, f"{time:.15g}", items))
    assert searches_of(made) == [(user, *texts) for user, _, _, *texts in sorted(expected)]
    counted = left_out(made)
    kept = clicked[clicked.queryId.isin(asked.queryId)]
    assert counted[QUERIES, "test query, whose clicks are not published"] == 120 - len(asked)
    assert counted[CLICKS, "click in a query that is not kept"] == 200 - len(kept)
    assert counted.get((CLICKS, "repeated click on an item of the same search"), 0) == len(kept) - len(
        kept.drop_duplicates(["queryId", "itemId"])
    )


GOOD = {
    QUERIES: query(1, 1, words="5"),
    CLICKS: "1;10;50",
    VIEWS: view(1, 60),
    PURCHASES: purchase(1, 60),
    PRODUCTS: "60;9;5",
    CATEGORIES: "60;3",
}
BAD_ROWS = [
    (QUERIES, query("", 1), "queryId is missing"),
    (QUERIES, query("NA", 1), "queryId is missing"),
    (QUERIES, query(2, "NA"), "sessionId is missing"),
    (QUERIES, query(2, 1, "NA"), "timeframe is not a number of 0 or more"),
    (QUERIES, query(2, 1, -1), "timeframe is not a number of 0 or more"),
    (QUERIES, query(2, 1, date="NA"), "eventdate is not a date"),
    (QUERIES, query(2, 1, date="infinity"), "eventdate is not a date"),
    (QUERIES, query(2, 1, user="7 8"), "userId contains white space"),
    (QUERIES, query(1, 2), "duplicate queryId"),
    (QUERIES, query(2, 1) + ";5", "too many columns"),
    (CLICKS, "NA;10;50", "queryId is missing"),
    (CLICKS, "1;10;NA", "itemId is missing"),
    (CLICKS, "1;x;50", "timeframe is not a number of 0 or more"),
    (CLICKS, "1;10", "too few columns"),
    (VIEWS, view(1, ""), "itemId is missing"),
    (VIEWS, view(1, "5\u30006"), "itemId contains white space"),
    (VIEWS, view(1, 5, date="2016-13-01"), "eventdate is not a date"),
    (PURCHASES, purchase("", 5), "sessionId is missing"),
    (PRODUCTS, "NA;9;5", "itemId is missing"),
    (PRODUCTS, "60;9;7", "duplicate item"),
    (CATEGORIES, "60;NA", "categoryId is missing"),
    (CATEGORIES, "60;3;4", "too many columns"),
]


@pytest.mark.parametrize(("file", "row", "problem"), BAD_ROWS)
def test_bad_rows_are_refused_or_counted(tmp_path, file, row, problem):
    tables = {name: [good] for name, good in GOOD.items()}
    tables[file] += [row, row]
    source = source_of(tmp_path / "raw", tables)
    with pytest.raises(DataError, match=rf"{file}, line 3: {problem} \(2 bad rows in total\)") as error:
        convert_diginetica(tmp_path / "dataset", source, options=ALL)
    assert "--bad-rows skip" in str(error.value)
    made = convert_diginetica(tmp_path / "dataset", source, options=SKIP)
    assert left_out(made) == {(file, problem): 2, (PURCHASES, "purchase"): 1}
    assert rows_of(made, "inter") == [("s1", "60", "view", str(DAY))]
    assert searches_of(made) == [("s1", "5", f"{DAY + 0.01}", "50")]
    assert rows_of(made, "item") == [("60", "5", "c3")]


@pytest.mark.parametrize("file", HEADERS)
def test_files_that_are_missing_or_cut_off(tmp_path, file):
    more = {**GOOD, QUERIES: query(2, 1), PRODUCTS: "61;9;5"}
    source = source_of(tmp_path / "raw", {name: [good, more[name]] for name, good in GOOD.items()})
    whole = (source / file).read_bytes()
    # Within the second row, just after its first cell.
    (source / file).write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 2])
    with pytest.raises(DataError, match=f"{file}, line 3: too few columns"):
        convert_diginetica(tmp_path / "dataset", source, options=ALL)
    (source / file).write_bytes(whole.partition(b"\n")[0].rpartition(b";")[0] + b"\n")
    with pytest.raises(DataError, match=f"{file}, line 1: no column"):
        convert_diginetica(tmp_path / "dataset", source, options=ALL)
    (source / file).unlink()
    (source / f"{file}.gz").write_bytes(gzip.compress(whole)[:-9])
    with pytest.raises(DataError, match=f"{file}.gz: not a complete gzip file"):
        convert_diginetica(tmp_path / "dataset", source, options=SKIP)
    (source / f"{file}.gz").unlink()
    with pytest.raises(DataError, match=f"{file}: file not found. --input must be the unpacked folder"):
        convert_diginetica(tmp_path / "dataset", source, options=SKIP)
    assert not any((tmp_path / "dataset").glob("*"))


def test_settings_that_cannot_be_used():
    with pytest.raises(SettingError, match="users must be one of user, session, not 'buyer'"):
        DigineticaReading(users="buyer")
    with pytest.raises(SettingError, match="interactions must be one of views, purchases, all, not 'clicks'"):
        DigineticaReading(interactions="clicks")


def test_command(tmp_path):
    app = typer.Typer()
    app.command()(diginetica)
    tables = {
        QUERIES: [query(1, 1, 5, words="5", user=3), query(2, 1, 6, user=3), query(3, 1, 7, words="6", test="TRUE")],
        CLICKS: ["1;100;50"],
        VIEWS: [view(1, 50, 200, user=3), view(1, 51, 300, user=3), view(1, 52, 400, user=3), view(2, 51)],
        PURCHASES: [purchase(1, 52, 500, user=3)],
    }
    source = source_of(tmp_path / "raw" / "inside", tables, ".gz").parent
    arguments = ["--input", str(source), "--output", str(tmp_path / "dataset"), "--users", "session"]
    arguments += ["--interactions", "all", "--text-queries-only", "--keep-test-queries", "--drop-opened-views"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    made = tmp_path / "dataset" / "diginetica"
    # Session 2 has too few interactions.
    assert rows_of(made, "inter") == [
        ("s1", "51", "view", f"{DAY + 0.3}"),
        ("s1", "52", "view", f"{DAY + 0.4}"),
        ("s1", "52", "purchase", f"{DAY + 0.5}"),
    ]
    assert [words for _, words, *_ in searches_of(made)] == ["6", "5"]
