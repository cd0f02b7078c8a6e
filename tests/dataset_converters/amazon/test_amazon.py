"""Amazon's reviews of all editions: interactions, items and searches against a plain computation; broken files."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import logging
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dataset_converters.amazon.amazon import convert_amazon, default_name
from dataset_converters.choices import AS_WORDS, Filters, Options, Recipe
from recbole_gserec.cli.convert import amazon
from recbole_gserec.errors import DataError, SettingError

DAY = 86400
START = 15000 * DAY
SKIP = Options(words="spaces", bad_rows="skip")
USERS = ("ANN", "BOB", "CY")
ITEMS = ("B01", "B02", "0003", "B04")
PATHS = {
    "B01": [["Electronics", "Camera & Photo", "Lenses"], ["Electronics", "Camera & Photo", "Digital Camera Lenses"]],
    "B02": [["Electronics"]],
    "0003": [["Electronics", "eBook Readers", "Kindle Fire"]],
}
QUERIES = {
    "B01": ["electronics camera photo lenses", "electronics photo digital camera lenses"],
    "B02": [],
    "0003": ["electronics ebook readers kindle fire"],
}
PURCHASES = [(user, item, START + day * DAY) for day, item in enumerate(ITEMS) for user in USERS]


@pytest.fixture(autouse=True)
def no_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics and their figures are tested elsewhere, and take most of the time."""
    if request.node.name != "test_command_line":
        monkeypatch.setattr("dataset_converters.conversion.write_report", lambda *_, **__: None)


def write(path: Path, lines: Iterable[str], *, compress: bool = True) -> Path:
    """Write lines, compressed under a name with ``.gz``."""
    text = "".join(f"{line}\n" for line in lines).encode()
    path = path.with_name(path.name + ".gz") if compress else path
    path.write_bytes(gzip.compress(text) if compress else text)
    return path


def review_2014(user: str, item: str, time: int) -> dict:
    return {
        "reviewerID": user,
        "asin": item,
        "reviewerName": 'A "B"',
        "helpful": [1, 2],
        "reviewText": 'Caf\u00e9 {"asin": "X"}',
        "overall": 4.0,
        "summary": "Good",
        "unixReviewTime": time,
        "reviewTime": "06 2, 2013",
    }


def review_2018(user: str, item: str, time: int) -> dict:
    return {"verified": True, "vote": "2", "style": {"Color:": "red"}, **review_2014(user, item, time)}


def review_2023(user: str, item: str, time: int) -> dict:
    return {
        "rating": 4.0,
        "title": "Good",
        "text": "x",
        "images": [],
        "asin": f"V{item}",
        "parent_asin": item,
        "user_id": user,
        "timestamp": time * 1000,
        "helpful_vote": 0,
        "verified_purchase": True,
    }


def metadata_2014() -> list[str]:
    records = [
        {"asin": item, "title": f"Title's {item}", "related": {"also_bought": list(ITEMS)}, "categories": paths}
        for item, paths in PATHS.items()
    ]
    records[0] |= {"description": 'It\'s <b>big</b>\n &amp; "fine"', "brand": "Acme"}
    records.append({"asin": "UNSOLD", "title": "Nobody bought it", "categories": [["A", "B"]]})
    return [repr(record) for record in records]


def metadata_2018() -> list[str]:
    records = [{"asin": item, "title": f"Title's {item}", "category": paths[-1]} for item, paths in PATHS.items()]
    records[0] |= {"description": ["It's <b>big</b>", '&amp; "fine"'], "brand": "by\n Acme"}
    records[2]["category"] = [*records[2]["category"], "</span></span>", "Imported"]
    return [json.dumps(record) for record in records]


def metadata_2023() -> list[str]:
    records = [
        {"main_category": "X", "title": f"Title's {item}", "categories": paths[-1], "description": [], "features": []}
        | {"details": {"asin": "UNSOLD"}, "parent_asin": item}
        for item, paths in PATHS.items()
    ]
    records[0] |= {"features": ["It's big", '& "fine"'], "store": "Acme"}
    return [json.dumps(record) for record in records]


def source_2014(folder: Path, purchases: list[tuple[str, str, int]] = PURCHASES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(review_2014(*purchase)) for purchase in purchases]
    write(folder / "reviews_Electronics_5.json", lines)
    write(folder / "meta_Electronics.json", metadata_2014())
    return folder


def source_2018(folder: Path) -> Path:
    folder.mkdir()
    write(folder / "Electronics_5.json", [json.dumps(review_2018(*purchase)) for purchase in PURCHASES])
    write(folder / "meta_Electronics.json", metadata_2018())
    return folder


def source_2023(folder: Path) -> Path:
    folder.mkdir()
    write(folder / "Electronics.jsonl", [json.dumps(review_2023(*purchase)) for purchase in PURCHASES], compress=False)
    write(folder / "meta_Electronics.jsonl", metadata_2023(), compress=False)
    return folder


def source_2023_core(folder: Path) -> Path:
    folder.mkdir()
    rows = [f"{user},{item},4.0,{time * 1000}" for user, item, time in PURCHASES]
    write(folder / "Electronics.csv", ["user_id,parent_asin,rating,timestamp", *rows])
    write(folder / "meta_Electronics.jsonl", metadata_2023())
    return folder


def add_published_queries(folder: Path) -> list[str]:
    """Write the product-search files; returns the queries."""
    queries = ["camera lenses", "photo lenses", "kindle"]
    write(folder / "query_text.txt", queries)
    write(folder / "train.qrels", ["ANN_0 0 B01 1 ", "ANN_1 0 B01 1 ", "BOB_2 0 0003 1 ", "CY_2 0 0003 0 "])
    write(folder / "test.qrels", ["ANN_0 0 B01 1 ", "CY_1 0 B01 1 "])
    return queries


def rows_of(folder: Path, suffix: str) -> list[dict[str, str]]:
    """Rows of an atomic file, keyed by the field's name."""
    header, *lines = (folder / f"{folder.name}.{suffix}").read_text(encoding="utf-8").splitlines()
    fields = [field.split(":")[0] for field in header.split("\t")]
    return [dict(zip(fields, line.split("\t"), strict=True)) for line in lines]


def searches_of(folder: Path) -> list[tuple[str, str, str, str]]:
    """User, words, time and clicked items of each search, sorted."""
    words = {row["query_id"]: row["query_words"] for row in rows_of(folder, "query")}
    return sorted(
        (
            row["search_user_id"],
            words[row["search_query_id"]],
            row["search_timestamp"],
            row["search_item_ids"],
        )
        for row in rows_of(folder, "search")
    )


def drawn(queries: list[str], user: str, item: str, seed: int = 2025) -> str:
    """The query of a user's purchase, drawn by an MD5 hash."""
    digest = hashlib.md5("\x1f".join([str(seed), "query", user, item]).encode()).digest()
    return sorted(queries)[int.from_bytes(digest[8:], "little") % len(queries)]


def left_out_of(folder: Path) -> dict[str, int]:
    record = json.loads((folder / f"{folder.name}.json").read_text())
    return {entry["problem"]: entry["rows"] for entry in record["left_out"]}


SOURCES = {"2014": source_2014, "2018": source_2018, "2023": source_2023, "2023 5-core": source_2023_core}


@pytest.mark.parametrize("edition", SOURCES)
def test_interactions_are_the_reviews_of_every_edition(tmp_path: Path, edition: str):
    made = convert_amazon(SOURCES[edition](tmp_path / "source"), tmp_path)

    assert made.name == "amazon-electronics"
    found = [tuple(row.values()) for row in rows_of(made, "inter")]
    in_order = sorted(PURCHASES, key=lambda purchase: (purchase[0], purchase[2]))
    assert found == [(user, item, "4", str(time)) for user, item, time in in_order]
    assert json.loads((made / f"{made.name}.json").read_text())["made_from"]["settings"]["edition"] == edition[:4]


@pytest.mark.parametrize("edition", SOURCES)
def test_texts_of_items_of_every_edition(tmp_path: Path, edition: str):
    made = convert_amazon(SOURCES[edition](tmp_path / "source"), tmp_path)

    items = {row["item_id"]: row for row in rows_of(made, "item")}
    assert set(items) == set(PATHS)
    assert items["B01"]["title"] == "Title's B01"
    assert items["B01"]["description"] == 'It\'s big & "fine"'
    assert items["B01"]["brand"] == "Acme"
    first = (
        "Electronics Camera Photo Lenses Digital" if edition == "2014" else "Electronics Camera Photo Digital Lenses"
    )
    assert items["B01"]["categories"] == first
    assert items["0003"]["categories"] == "Electronics eBook Readers Kindle Fire"
    assert items["0003"]["description"] == items["0003"]["brand"] == ""


def test_each_purchase_has_one_of_its_items_queries(tmp_path: Path):
    made = convert_amazon(source_2014(tmp_path / "source"), tmp_path)

    expected = [
        (user, drawn(QUERIES[item], user, item), str(time), item) for user, item, time in PURCHASES if QUERIES.get(item)
    ]
    assert searches_of(made) == sorted(expected)


def test_all_queries_of_a_purchase(tmp_path: Path):
    made = convert_amazon(source_2014(tmp_path / "source"), tmp_path, recipe=Recipe(queries_per_purchase="all"))

    expected = [(user, query, str(time), item) for user, item, time in PURCHASES for query in QUERIES.get(item, [])]
    assert searches_of(made) == sorted(expected)


def test_published_queries_are_those_of_user_and_item(tmp_path: Path):
    # Ann buys twice, and searches in the same words both times.
    again = ("ANN", "B01", START + 9 * DAY)
    source = source_2014(tmp_path / "source", [*PURCHASES, again])
    camera, photo, kindle = add_published_queries(source)
    made = convert_amazon(source, tmp_path)

    ann = drawn([camera, photo], "ANN", "B01")
    assert searches_of(made) == sorted(
        [
            ("ANN", ann, str(START), "B01"),
            ("ANN", ann, str(again[2]), "B01"),
            ("BOB", kindle, str(START + 2 * DAY), "0003"),
            ("CY", photo, str(START), "B01"),
        ]
    )
    by_categories = convert_amazon(source, tmp_path, "categories", recipe=Recipe(queries_from="categories"))
    assert len(searches_of(by_categories)) == 7


def test_published_queries_in_a_folder_of_their_own(tmp_path: Path):
    # The published folder is named like a file of reviews.
    queries = tmp_path / "source" / "reviews_Electronics_5.json.gz"
    source = tmp_path / "source"
    queries.mkdir(parents=True)
    write(source / "reviews_Electronics_5.json", [json.dumps(review_2014(*p)) for p in PURCHASES], compress=False)
    write(source / "meta_Electronics.json", metadata_2014())
    add_published_queries(queries)
    assert len(searches_of(convert_amazon(source, tmp_path, queries=queries))) == 3


def test_search_probability(tmp_path: Path):
    users = [f"U{number}" for number in range(300)]
    purchases = [(user, item, START + day * DAY) for day, item in enumerate(ITEMS) for user in users]
    source = source_2014(tmp_path / "source", purchases)
    made = convert_amazon(source, tmp_path, recipe=Recipe(search_probability=0.25))
    expected = []
    for user, item, time in purchases:
        text = "\x1f".join(["2025", "search", user, item, str(time * 1000)])
        number = int.from_bytes(hashlib.md5(text.encode()).digest()[8:], "little")
        if QUERIES.get(item) and number / 2**64 < 0.25:
            expected.append((user, drawn(QUERIES[item], user, item), str(time), item))
    assert searches_of(made) == sorted(expected)
    assert 100 < len(expected) < 200
    assert not searches_of(convert_amazon(source, tmp_path, "never", recipe=Recipe(search_probability=0)))


def test_another_seed_draws_other_queries(tmp_path: Path):
    purchases = [(f"U{number}", item, START + day * DAY) for day, item in enumerate(ITEMS) for number in range(50)]
    source = source_2014(tmp_path / "source", purchases)
    one, other = (searches_of(convert_amazon(source, tmp_path, f"s{s}", recipe=Recipe(seed=s))) for s in (1, 2))
    assert sorted((row[0], row[3]) for row in one) == sorted((row[0], row[3]) for row in other)
    assert one != other


def test_order_of_the_source_does_not_matter(tmp_path: Path):
    made = convert_amazon(source_2014(tmp_path / "one"), tmp_path / "a")
    shuffled = list(PURCHASES)
    random.Random(5).shuffle(shuffled)
    source = source_2014(tmp_path / "two", shuffled)
    write(source / "meta_Electronics.json", reversed(metadata_2014()))
    again = convert_amazon(source, tmp_path / "b")

    for suffix in ("inter", "item", "search", "query"):
        name = f"{made.name}.{suffix}"
        assert (made / name).read_bytes() == (again / name).read_bytes(), suffix


def test_equal_times_keep_the_order_of_the_file(tmp_path: Path):
    items = ["B04", "B01", "0003", "B02"]
    source = source_2014(tmp_path / "source", [(user, item, START) for item in items for user in USERS])
    made = convert_amazon(source, tmp_path)
    assert [row["item_id"] for row in rows_of(made, "inter") if row["user_id"] == "CY"] == items
    searched = [row["search_item_ids"] for row in rows_of(made, "search") if row["search_user_id"] == "CY"]
    assert searched == ["B01", "0003"]


def test_the_plain_layout_orders_by_position(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    rows = [f"{user}\t{position}\t{item}" for position, item in enumerate(ITEMS) for user in USERS]
    write(source / "interactions.tsv", ["user_id\tposition\titem_id", *rows])
    items = [f'{item}\t"Quoted" {item}\t{json.dumps(paths)}' for item, paths in PATHS.items()]
    write(source / "items.tsv", ["item_id\ttitle\tcategories_json", *items])
    made = convert_amazon(source, tmp_path)

    assert made.name == "amazon"
    assert [tuple(row.values()) for row in rows_of(made, "inter")][:4] == [
        ("ANN", item, str(position)) for position, item in enumerate(ITEMS)
    ]
    assert searches_of(made) == sorted(
        (user, drawn(QUERIES[item], user, item), str(position), item)
        for position, item in enumerate(ITEMS)
        for user in USERS
        if QUERIES.get(item)
    )
    assert rows_of(made, "item")[0]["title"] == "'Quoted' 0003"


def test_items_with_text_only(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    made = convert_amazon(source_2014(tmp_path / "source"), tmp_path, recipe=Recipe(items_with_text=True))
    assert {row["item_id"] for row in rows_of(made, "inter")} == set(PATHS)
    assert left_out_of(made) == {"the item has neither title nor description": 3}
    with caplog.at_level(logging.WARNING):
        everything = convert_amazon(source_2014(tmp_path / "source"), tmp_path, "everything")
    assert len(rows_of(everything, "inter")) == len(PURCHASES) == len(rows_of(made, "inter")) + 3
    assert "without metadata: 1" in caplog.text


def test_texts_of_unsold_items_are_read_when_asked_for(tmp_path: Path):
    options = Options(words="spaces", all_items=True)
    made = convert_amazon(source_2014(tmp_path / "source"), tmp_path, options=options)
    assert {row["item_id"] for row in rows_of(made, "item")} == {*PATHS, "UNSOLD"}


def test_searches_go_with_the_purchases_that_the_core_leaves_out(tmp_path: Path):
    # 0003 is bought once; all else twice at least.
    purchases = [purchase for purchase in PURCHASES if purchase[1] != "0003" or purchase[0] == "ANN"]
    options = Options(words="spaces", filters=Filters(k_core=2))
    made = convert_amazon(source_2014(tmp_path / "source", purchases), tmp_path, options=options)
    assert {row["item_id"] for row in rows_of(made, "inter")} == {"B01", "B02", "B04"}
    assert {row[3] for row in searches_of(made)} == {"B01"}


BAD_REVIEWS: dict[str, tuple[Callable[[dict], str | bytes], str]] = {
    "JSON cut off": (lambda review: json.dumps(review)[:-9], "not JSON"),
    "no object": (lambda review: "[1, 2]", "reviewerID is missing"),
    "no user": (lambda review: json.dumps(review | {"reviewerID": ""}), "reviewerID is missing"),
    "null item": (lambda review: json.dumps(review | {"asin": None}), "asin is missing"),
    "white space": (lambda review: json.dumps(review | {"asin": "B0 1"}), "asin contains white space"),
    "no time": (lambda review: json.dumps({**review, "unixReviewTime": None}), "unixReviewTime is missing"),
    "word": (lambda review: json.dumps(review | {"unixReviewTime": "June"}), "unixReviewTime is not a number"),
    "not finite": (lambda review: json.dumps(review | {"overall": "inf"}), "overall is not a number"),
    "negative": (lambda review: json.dumps(review | {"unixReviewTime": -5}), "between 1995 and 2100 in seconds"),
    "milliseconds": (
        lambda review: json.dumps(review | {"unixReviewTime": START * 1000}),
        "between 1995 and 2100 in seconds",
    ),
    "Latin-1": (lambda review: json.dumps(review, ensure_ascii=False).encode("latin-1"), "not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_REVIEWS)
def test_a_broken_review_is_an_error_or_is_counted(tmp_path: Path, case: str):
    source = source_2014(tmp_path / "source")
    broken, problem = BAD_REVIEWS[case]
    line = broken(review_2014("ANN", "B02", START + 5 * DAY))
    path = source / "reviews_Electronics_5.json.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    raw = line if isinstance(line, bytes) else line.encode()
    # An empty line counts as a line, and not as a review.
    path.write_bytes(gzip.compress(b"".join([*lines[:4], b"\n", raw + b"\r\n", *lines[4:]])))

    with pytest.raises(DataError, match=f"reviews_Electronics_5.json.gz, line 6: .*{problem}.*--bad-rows skip"):
        convert_amazon(source, tmp_path)
    made = convert_amazon(source, tmp_path, options=SKIP)
    assert len(rows_of(made, "inter")) == len(PURCHASES)
    ((found, rows),) = left_out_of(made).items()
    assert problem in found and rows == 1


BAD_METADATA = {
    "code": ("__import__('os').abort()", "neither JSON nor a Python literal"),
    "nested": ("[" * 100_000, "neither JSON nor a Python literal"),
    "cut off": (repr({"asin": "B01", "title": "Cut"})[:-2], "neither JSON nor a Python literal"),
    "no record": ("'text'", "not a record"),
    "no id": (repr({"title": "Lost"}), "asin is missing"),
    "other texts": (repr({"asin": "B01", "title": "Else"}), "duplicate item with different texts"),
}


@pytest.mark.parametrize("case", BAD_METADATA)
def test_broken_metadata_is_an_error_or_is_counted(tmp_path: Path, case: str):
    source = source_2014(tmp_path / "source")
    line, problem = BAD_METADATA[case]
    write(source / "meta_Electronics.json", [*metadata_2014(), line])
    with pytest.raises(DataError, match=f"meta_Electronics.json.gz, line 5: {problem}"):
        convert_amazon(source, tmp_path)
    made = convert_amazon(source, tmp_path, options=SKIP)
    assert left_out_of(made) == {next(iter(left_out_of(made))): 1}
    assert rows_of(made, "item")[1]["title"] == "Title's B01"


def test_metadata_that_repeats_an_item_word_for_word_is_counted(tmp_path: Path):
    source = source_2014(tmp_path / "source")
    write(source / "meta_Electronics.json", [*metadata_2014(), metadata_2014()[1]])
    made = convert_amazon(source, tmp_path)
    assert left_out_of(made) == {"duplicate item with the same texts": 1}
    assert len(rows_of(made, "item")) == 3


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ANN_9 0 B01 1 ", "the query number is not a line of query_text.txt.gz"),
        ("ANN 0 B01 1", "not <user>_<query> 0 <item> <0 or 1>"),
        ("ANN_0 0 B01", "not <user>_<query> 0 <item> <0 or 1>"),
    ],
)
def test_a_broken_row_of_the_published_queries(tmp_path: Path, line: str, problem: str):
    source = source_2014(tmp_path / "source")
    add_published_queries(source)
    write(source / "test.qrels", ["CY_1 0 B01 1 ", line])
    with pytest.raises(DataError, match=f"test.qrels.gz, line 2: {problem}"):
        convert_amazon(source, tmp_path)
    made = convert_amazon(source, tmp_path, options=SKIP)
    assert left_out_of(made) == {problem: 1}


def test_published_queries_of_another_category(tmp_path: Path):
    source = source_2014(tmp_path / "source")
    add_published_queries(source)
    for name in ("train.qrels", "test.qrels"):
        write(source / name, ["DAN_1 0 B01 1 "])
    with pytest.raises(DataError, match="none of its purchases has a review"):
        convert_amazon(source, tmp_path)


def test_a_compressed_file_cut_short_is_always_an_error(tmp_path: Path):
    source = source_2014(tmp_path / "source")
    for name in ("reviews_Electronics_5.json.gz", "meta_Electronics.json.gz"):
        whole = (source / name).read_bytes()
        (source / name).write_bytes(whole[:-20])
        with pytest.raises(DataError, match=f"{name}: the compressed file is incomplete"):
            convert_amazon(source, tmp_path, options=SKIP)
        (source / name).write_bytes(whole[:30] + b"\xff" * 20 + whole[50:])
        with pytest.raises(DataError, match=f"{name}: the compressed file is damaged"):
            convert_amazon(source, tmp_path, options=SKIP)
        (source / name).write_bytes(whole)
    assert not list(tmp_path.glob(".converting*"))


def test_a_missing_column_and_ragged_rows(tmp_path: Path):
    source = source_2023_core(tmp_path / "source")
    rows = [f"{user},{item},4.0,{time * 1000}" for user, item, time in PURCHASES]
    write(source / "Electronics.csv", ["user_id,parent_asin,rating", *(row.rsplit(",", 1)[0] for row in rows)])
    with pytest.raises(DataError, match="line 1: no column 'timestamp'"):
        convert_amazon(source, tmp_path, options=SKIP)
    write(source / "Electronics.csv", ["user_id,parent_asin,rating,timestamp", *rows, "ANN,B01,4.0"])
    with pytest.raises(DataError, match=f"line {len(rows) + 2}: not JSON, or a row that is shorter"):
        convert_amazon(source, tmp_path)
    assert len(rows_of(convert_amazon(source, tmp_path, options=SKIP), "inter")) == len(rows)


def test_seconds_in_reviews_of_2023(tmp_path: Path):
    source = source_2023(tmp_path / "source")
    review = review_2023("ANN", "B01", START) | {"timestamp": START}
    with open(source / "Electronics.jsonl", "a") as file:
        file.write(json.dumps(review) + "\n")
    with pytest.raises(DataError, match="line 13: timestamp is not a time between 1995 and 2100 in milliseconds"):
        convert_amazon(source, tmp_path)


def test_half_a_character_spoils_no_review(tmp_path: Path):
    source = source_2014(tmp_path / "source")
    lines = [json.dumps(review_2014(*purchase) | {"reviewText": "\ud83d"}) for purchase in PURCHASES]
    write(source / "reviews_Electronics_5.json", lines)
    write(source / "meta_Electronics.json", [repr({"asin": "B01", "title": "A \ud83d B"})])
    made = convert_amazon(source, tmp_path)
    assert len(rows_of(made, "inter")) == len(PURCHASES)
    assert [row["title"] for row in rows_of(made, "item")] == ["A B"]


def test_files_that_are_missing_or_ambiguous(tmp_path: Path):
    with pytest.raises(DataError, match="folder not found"):
        convert_amazon(tmp_path / "nowhere", tmp_path)
    source = tmp_path / "source"
    source.mkdir()
    with pytest.raises(DataError, match="no reviews file"):
        convert_amazon(source, tmp_path)
    write(source / "reviews_Electronics_5.json", [])
    with pytest.raises(DataError, match="no metadata file.*meta_Electronics.json.gz"):
        convert_amazon(source, tmp_path)
    write(source / "meta_Electronics.json", metadata_2014())
    with pytest.raises(DataError, match="the file is empty"):
        convert_amazon(source, tmp_path)
    write(source / "reviews_Electronics_5.json", ['{"stars": 3}'])
    with pytest.raises(DataError, match="line 1: the first lines are not reviews of a known edition"):
        convert_amazon(source, tmp_path)
    source_2014(source)
    write(source / "query_text.txt", ["kindle"])
    with pytest.raises(DataError, match=r"no train.qrels.gz"):
        convert_amazon(source, tmp_path)
    (source / "query_text.txt.gz").unlink()
    with pytest.raises(DataError, match="no published queries"):
        convert_amazon(source, tmp_path, recipe=Recipe(queries_from="published"))
    write(source / "reviews_Books_5.json", [json.dumps(review_2014(*purchase)) for purchase in PURCHASES])
    with pytest.raises(DataError, match="several categories"):
        convert_amazon(source, tmp_path)
    assert convert_amazon(source, tmp_path, category="Electronics").name == "amazon-electronics"
    write(source / "Electronics.csv", ["user_id,parent_asin,rating,timestamp"])
    with pytest.raises(DataError, match="several reviews files"):
        convert_amazon(source, tmp_path, category="Electronics")


def test_an_edition_can_be_named(tmp_path: Path):
    source = source_2014(tmp_path / "source")
    with pytest.raises(DataError, match="line 1: user_id is missing"):
        convert_amazon(source, tmp_path, edition="2023")
    with pytest.raises(SettingError, match="edition must be one of"):
        convert_amazon(source, tmp_path, edition="1999")
    assert convert_amazon(source, tmp_path, edition="2018").is_dir()


@pytest.mark.parametrize(
    "setting",
    [
        {"queries_from": "nowhere"},
        {"queries_per_purchase": "two"},
        {"search_probability": 1.5},
        {"description_length": -1},
        {"seed": -1},
    ],
)
def test_settings_that_cannot_be_used(setting: dict):
    with pytest.raises(SettingError, match=next(iter(setting))):
        Recipe(**setting)


def test_large_files_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = convert_amazon(source_2014(tmp_path / "source"), tmp_path / "a")
    monkeypatch.setattr("dataset_converters.amazon.source_files._BLOCK_BYTES", 97)
    in_blocks = convert_amazon(tmp_path / "source", tmp_path / "b")
    for suffix in ("inter", "item", "search", "query"):
        name = f"{whole.name}.{suffix}"
        assert (whole / name).read_bytes() == (in_blocks / name).read_bytes()


def test_names_of_datasets():
    assert default_name("CDs_and_Vinyl") == "amazon-cds"
    assert default_name("Toys_and_Games") == "amazon-toys-and-games"


def test_command_line(tmp_path: Path):
    app = typer.Typer()
    app.command("amazon")(amazon)
    source = source_2014(tmp_path / "source")
    arguments = ["--input", str(source), "--output", str(tmp_path), "--name", "shop", "--queries-per-purchase", "all"]
    result = CliRunner().invoke(app, [*arguments, "--description-length", "8", "--min-searches", "1"])
    assert result.exit_code == 0, result.output
    made = tmp_path / "shop"
    assert result.stdout.strip() == str(made)
    assert rows_of(made, "item")[1]["description"] == "It's big"
    counts = itertools.groupby(row[0] for row in searches_of(made))
    assert {user: len(list(rows)) for user, rows in counts} == dict.fromkeys(USERS, 3)
    record = json.loads((made / "shop.json").read_text())
    assert record["made_from"]["settings"]["queries_per_purchase"] == "all"
    assert AS_WORDS.words == record["made_from"]["options"]["words"]
