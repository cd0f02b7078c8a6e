"""KuaiSAR: what becomes an interaction, a search and an item, in which order and unit, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dataset_converters.choices import Filters, KuaiSARReading, Options
from dataset_converters.kuaisar.kuaisar import convert_kuaisar
from recbole_gserec.cli.convert import kuaisar
from recbole_gserec.errors import DataError, SettingError
from tests.dataset_converters.event_tables import left_out, searches_of

REC = "user_id,item_id,playing_time,duration_ms,time,timestamp,click,forward,like,follow,search,search_item_related"
SRC = "user_id,search_session_id,search_session_time,search_session_timestamp,keyword,search_source,item_id,click_cnt,item_type"  # noqa: E501
LEVELS = ("first", "second", "third", "fourth")
ITEM = ",".join(
    [
        *("item_id", "caption", "author_id", "item_type", "upload_time", "upload_type"),
        *(f"{level}_level_category_{part}" for level in LEVELS for part in ("id", "name")),
        *(f"{level}_level_category_name_en" for level in LEVELS),
    ]
)
# 2023-05-22 21:58:52.919 in Beijing, in milliseconds.
START = 1684763932919
ALL = Options(words="spaces", filters=Filters(min_interactions=0, search_only_users=True))
SKIP = Options(words="spaces", bad_rows="skip", filters=ALL.filters)


@pytest.fixture(autouse=True)
def _without_report(monkeypatch):
    """Statistics and their figures are tested elsewhere, and take most of the time."""
    monkeypatch.setattr("dataset_converters.conversion.write_report", lambda *_, **__: None)


def rec(user, item, time=START, click=1, forward=0, like=0, follow=0):
    return f"{user},{item},60792.0,45400.0,2023-05-22 21:58:52,{time},{click},{forward},{like},{follow},0,0"


def src(user, session, item, click=0, time=START, keyword="[20, 34, 3]", kind="VIDEO"):
    return f'{user},{session},2023-05-22 21:58:52,{time},"{keyword}",USER_INPUT,{item},{click},{kind}'


def feature(item, caption="[1, 213, 24]", names=("搞笑", "搞笑段子"), names_en=("Funny", "Funny joke")):
    names, names_en = (*names, *["空"] * 3)[:4], (*names_en, *["empty"] * 3)[:4]
    levels = ",".join(f"9,{name}" for name in names)
    return f'{item},"{caption}",10,NORMAL,2023-04-22,LongImport,{levels},{",".join(names_en)}'


def source_of(folder: Path, recs=(), srcs=(), features=(), suffix="") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"rec_inter.csv": (REC, recs), "src_inter.csv": (SRC, srcs), "item_features.csv": (ITEM, features)}
    for name, (header, rows) in tables.items():
        text = "\n".join([header, *rows, ""]).encode()
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(text) if suffix else text)
    return folder


def rows_of(folder: Path, suffix: str) -> list[list[str]]:
    text = (folder / f"{folder.name}.{suffix}").read_text(encoding="utf-8")
    return [line.split("\t") for line in text.removesuffix("\n").split("\n")][1:]


NOT_CLICKED = ("rec_inter.csv", "recommendation without click")


def test_clicks_become_interactions_in_seconds_in_the_order_of_time_then_file(tmp_path):
    recs = [
        rec(7, 30, START + 81),
        rec(7, 12, click=0, like=1),
        rec(10, 9, "1.684763932919e+12"),
        rec(7, 11, f"{START}.0"),
        rec(7, 10),
    ]
    source = source_of(tmp_path / "raw", recs)
    made = convert_kuaisar(tmp_path / "dataset", source, options=ALL)
    assert rows_of(made, "inter") == [
        ["7", "11", "1684763932.919"],
        ["7", "10", "1684763932.919"],
        ["7", "30", "1684763933"],
        ["10", "9", "1684763932.919"],
    ]
    assert left_out(made) == {NOT_CLICKED: 1}


@pytest.mark.parametrize(
    ("positive", "items"),
    [("click", "1"), ("forward", "2"), ("like", "3"), ("follow", "4"), ("any", "1234"), ("shown", "12345")],
)
def test_feedback_that_counts(tmp_path, positive, items):
    recs = [rec(7, 1), rec(7, 2, click=0, forward=1), rec(7, 3, click=0, like=1), rec(7, 4, click=0, follow=2)]
    source = source_of(tmp_path / "raw", [*recs, rec(7, 5, click=0)])
    made = convert_kuaisar(tmp_path / "dataset", source, reading=KuaiSARReading(positive=positive), options=ALL)
    assert "".join(item for _, item, _ in rows_of(made, "inter")) == items
    assert sum(left_out(made).values()) == 5 - len(items)


def test_a_session_is_a_search_with_its_clicks_in_the_order_of_the_file(tmp_path):
    srcs = [
        src(7, 1, 50, 1),
        src(7, 1, 41, 0),
        src(8, 1, 60, 2),  # The same number, another user.
        src(7, 2, 51, 0, START + 1000),
        src(7, 1, 9, 3),
        src(7, 3, 52, 1, START - 1, "[]"),
        src(7, 1, 50, 1),
    ]
    source = source_of(tmp_path / "raw", [rec(7, 1)], srcs)
    made = convert_kuaisar(tmp_path / "dataset", source, options=ALL)
    assert searches_of(made) == [
        ("7", "", "1684763932.918", "52"),
        ("7", "20 34 3", "1684763932.919", "50 9 50"),
        ("7", "20 34 3", "1684763933.919", ""),
        ("8", "20 34 3", "1684763932.919", "60"),
    ]


def test_other_words_or_another_time_in_a_session_are_another_search(tmp_path):
    srcs = [
        src(7, 1, 50, 1),
        src(7, 1, 51, 1, keyword="[20,34]"),
        src(7, 1, 52, 1, START + 5),
        src(7, 1, 53, 1, keyword="[20,34,3]"),
        src(7, 1, 54, 1, keyword="[20 34]"),
    ]
    source = source_of(tmp_path / "raw", [rec(7, 1)], srcs)
    made = convert_kuaisar(tmp_path / "dataset", source, options=ALL)
    assert searches_of(made) == [
        ("7", "20 34 3", "1684763932.919", "50 53"),
        ("7", "20 34", "1684763932.919", "51 54"),
        ("7", "20 34 3", "1684763932.924", "52"),
    ]


def test_clicks_on_types_that_are_never_recommended(tmp_path):
    srcs = [
        src(7, 1, 50, 1),
        src(7, 1, 51, 1, kind="USER"),
        src(7, 1, 52, 1, kind="IMAGE_ATLAS"),
        src(7, 2, 53, 1, START + 81, kind="LIVE"),
        src(7, 2, 54, 0, START + 81, kind="LIVE"),
    ]
    source = source_of(tmp_path / "raw", [rec(7, 1)], srcs)
    made = convert_kuaisar(tmp_path / "dataset", source, options=ALL)
    assert [items for *_, items in searches_of(made)] == ["50 51 52", "53"]
    reading = KuaiSARReading(recommended_types_only=True)
    made = convert_kuaisar(tmp_path / "dataset", source, "videos", reading, options=ALL)
    assert [items for *_, items in searches_of(made)] == ["50 52", ""]
    assert left_out(made)["src_inter.csv", "clicked result of another type than VIDEO and IMAGE_ATLAS"] == 2


def test_texts_of_the_mentioned_items(tmp_path):
    features = [
        feature(99),
        feature(50, caption="[]", names=("空",), names_en=("UNKNOWN",)),
        feature(2, names=("美食", "美食教程", "烘焙"), names_en=("Food", "Recipes", "Baking", "Bread")),
    ]
    source = source_of(tmp_path / "raw", [rec(7, 2), rec(7, 3)], [src(7, 1, 50, 1), src(7, 1, 99, 0)], features)
    made = convert_kuaisar(tmp_path / "dataset", source, options=ALL)
    header = (made / "kuaisar.item").read_text(encoding="utf-8").split("\n")[0]
    assert header == "item_id:token\ttitle:token_seq\tcategories:token_seq"
    assert rows_of(made, "item") == [["2", "1 213 24", "Food Recipes Baking Bread"], ["50", "", ""]]
    chinese = convert_kuaisar(tmp_path / "dataset", source, "zh", KuaiSARReading(category_language="zh"), options=ALL)
    assert rows_of(chinese, "item")[0] == ["2", "1 213 24", "美食 美食教程 烘焙"]
    everything = Options(words="spaces", all_items=True, filters=ALL.filters)
    assert len(rows_of(convert_kuaisar(tmp_path / "dataset", source, "all", options=everything), "item")) == 3


def test_files_in_a_folder_inside_compressed_and_with_other_columns(tmp_path):
    recs = ["click,timestamp,item_id,user_id,tab", f"1,{START},2.0,7,x", f"1,{START},3,7.0,y"]
    inside = tmp_path / "raw" / "KuaiSAR_final"
    source_of(inside, [rec(7, 1)], [src(7, 1, 2, 1)], [feature(2)], suffix=".gz")
    (inside / "rec_inter.csv.gz").write_bytes(gzip.compress("\r\n".join(["\ufeff" + recs[0], *recs[1:], ""]).encode()))
    made = convert_kuaisar(tmp_path / "dataset", tmp_path / "raw", options=ALL)
    assert rows_of(made, "inter") == [["7", "2", "1684763932.919"], ["7", "3", "1684763932.919"]]
    assert len(rows_of(made, "item")) == 1
    with pytest.raises(DataError, match="no column forward, like"):
        convert_kuaisar(tmp_path / "dataset", tmp_path / "raw", "any", KuaiSARReading(positive="any"), options=ALL)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_plain_python(tmp_path, seed):
    draw = random.Random(seed)
    recs = [
        rec(draw.randrange(6), draw.randrange(40), START + draw.randrange(5), draw.randrange(2)) for _ in range(300)
    ]
    keywords = ["[]", "[5]", "[20, 34, 3]"]
    srcs = [
        src(
            *(draw.randrange(6), draw.randrange(20), draw.randrange(30, 60), draw.choice([0, 0, 1, 2])),
            *(START + draw.randrange(3), draw.choice(keywords)),
        )
        for _ in range(400)
    ]
    features = [feature(item, f"[{item}, 1]") for item in draw.sample(range(60), 50)]
    made = convert_kuaisar(tmp_path / "dataset", source_of(tmp_path / "raw", recs, srcs, features), options=ALL)

    interactions, sessions = [], {}
    for line, row in enumerate(csv.DictReader([REC, *recs])):
        if int(row["click"]) > 0:
            interactions.append((int(row["user_id"]), int(row["timestamp"]), line, row["item_id"]))
    for line, row in enumerate(csv.DictReader([SRC, *srcs])):
        words = " ".join(str(word) for word in json.loads(row["keyword"]))
        key = (int(row["user_id"]), row["search_session_id"], int(row["search_session_timestamp"]), words)
        first, items = sessions.setdefault(key, (line, []))
        items += [row["item_id"]] * (int(row["click_cnt"]) > 0)
    found = sorted((user, time, first, words, items) for (user, _, time, words), (first, items) in sessions.items())

    times = [f"{time / 1000}" for _, time, _, _ in sorted(interactions)]
    assert rows_of(made, "inter") == [
        [str(user), item, time] for (user, _, _, item), time in zip(sorted(interactions), times, strict=True)
    ]
    assert searches_of(made) == [
        (str(u), words, f"{time / 1000}", " ".join(items)) for u, time, _, words, items in found
    ]
    mentioned = {event[-1] for event in interactions} | {item for *_, items in found for item in items}
    described = {line.split(",")[0] for line in features}
    assert [row[0] for row in rows_of(made, "item")] == sorted(mentioned & described, key=int)
    assert len(recs) == len(interactions) + left_out(made)[NOT_CLICKED]


GOOD = {"rec_inter.csv": rec(7, 1), "src_inter.csv": src(7, 1, 50, 1), "item_features.csv": feature(1)}
BAD_ROWS = [
    ("rec_inter.csv", rec("", 1), "user_id is missing"),
    ("rec_inter.csv", rec(7, ""), "item_id is missing"),
    ("rec_inter.csv", rec(7, "1 2"), "item_id contains white space"),
    ("rec_inter.csv", rec(7, 1, START // 1000), "timestamp is not a time in milliseconds"),
    ("rec_inter.csv", rec(7, 1, -START), "timestamp is not a time in milliseconds"),
    ("rec_inter.csv", rec(7, 1, "2023-05-22"), "timestamp is not a time in milliseconds"),
    ("rec_inter.csv", rec(7, 1, ""), "timestamp is not a time in milliseconds"),
    ("rec_inter.csv", rec(7, 1, click=""), "click is not a number of 0 or more"),
    ("rec_inter.csv", rec(7, 1, click=-1), "click is not a number of 0 or more"),
    ("rec_inter.csv", rec(7, 1) + ",5", "too many columns"),
    ("rec_inter.csv", "7,1", "too few columns"),
    ("src_inter.csv", src(7, 1, 50, 1, START * 1000), "search_session_timestamp is not a time in milliseconds"),
    ("src_inter.csv", src(7, 1, 50, 1, keyword="toys"), "keyword is not a list of numbers"),
    ("src_inter.csv", src(7, 1, 50, 1, keyword=""), "keyword is not a list of numbers"),
    ("src_inter.csv", src(7, 1, 50, 1).replace('"', ""), "too many columns"),
    ("src_inter.csv", src(7, 1, 50, "x"), "click_cnt is not a number of 0 or more"),
    ("src_inter.csv", src(7, "", 50, 1), "search_session_id is missing"),
    ("item_features.csv", feature(""), "item_id is missing"),
    ("item_features.csv", feature(1, caption="[7]"), "duplicate item"),
]


@pytest.mark.parametrize(("file", "row", "problem"), BAD_ROWS)
def test_bad_rows_are_refused_or_counted(tmp_path, file, row, problem):
    tables = {name: [good] for name, good in GOOD.items()}
    tables[file] = [GOOD[file], row, row] if "second" not in problem else [GOOD[file], row]
    source = source_of(tmp_path / "raw", *tables.values())
    with pytest.raises(DataError, match=f"{file}, line 3: {problem}") as error:
        convert_kuaisar(tmp_path / "dataset", source, options=ALL)
    assert "--bad-rows skip" in str(error.value)
    made = convert_kuaisar(tmp_path / "dataset", source, options=SKIP)
    assert left_out(made) == {(file, problem): len(tables[file]) - 1}
    assert rows_of(made, "inter") == [["7", "1", "1684763932.919"]]
    assert searches_of(made) == [("7", "20 34 3", "1684763932.919", "50")]
    assert rows_of(made, "item") == [["1", "1 213 24", "Funny Funny joke"]]


def test_lines_are_those_of_the_file_after_line_breaks_in_values_blank_and_ragged_lines(tmp_path):
    features = [
        feature(1, caption="[1,\n2]"),  # Lines 2 and 3.
        "",
        feature(1),  # Line 5.
        "1,2",
        feature(9, caption="[1,\n2,\n3]"),  # Lines 7 to 9; never mentioned.
        feature(""),  # Line 10.
        feature(1),
    ]
    source = source_of(tmp_path / "raw", [rec(7, 1)], [src(7, 1, 50, 1)], features)
    with pytest.raises(DataError, match=r"line 5: duplicate item \(4 bad rows in total\)"):
        convert_kuaisar(tmp_path / "dataset", source, options=ALL)
    made = convert_kuaisar(tmp_path / "dataset", source, options=SKIP)
    record = json.loads((made / "kuaisar.json").read_text())
    assert {entry["problem"]: entry["lines"] for entry in record["left_out"]} == {
        "duplicate item": [5, 11],
        "item_id is missing": [10],
        "too few columns": [6],
    }
    assert rows_of(made, "item") == [["1", "1 2", "Funny Funny joke"]]


def test_wrong_encoding_has_its_line(tmp_path):
    source = source_of(tmp_path / "raw", [rec(7, 1)], [src(7, 1, 50, 1)], [feature(1)])
    with (source / "item_features.csv").open("ab") as file:
        file.write(feature(50).encode("gb18030") + b"\n" + feature(7).encode() + b"\n")
    reading = KuaiSARReading(category_language="zh")
    with pytest.raises(DataError, match="item_features.csv, line 3: characters that are not UTF-8. Convert the file"):
        convert_kuaisar(tmp_path / "dataset", source, reading=reading, options=ALL)
    made = convert_kuaisar(tmp_path / "dataset", source, reading=reading, options=SKIP)
    assert left_out(made) == {("item_features.csv", "characters that are not UTF-8"): 1}


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(DataError, match="rec_inter.csv: file not found. --input must be the unpacked folder"):
        convert_kuaisar(tmp_path / "dataset", tmp_path / "elsewhere")
    source = source_of(tmp_path / "raw", [rec(7, i) for i in range(900)], [src(7, 1, 50, 1)], [feature(1)], ".gz")
    file = source / "rec_inter.csv.gz"
    whole = file.read_bytes()
    for size in (len(whole) - 9, len(whole) // 2, 20):
        file.write_bytes(whole[:size])
        with pytest.raises(DataError, match="rec_inter.csv.gz: not a complete gzip file"):
            convert_kuaisar(tmp_path / "dataset", source, options=SKIP)
    (source / "rec_inter.csv.gz").unlink()
    (source / "rec_inter.csv").write_text(REC.replace("timestamp,", "") + "\n")
    with pytest.raises(DataError, match="rec_inter.csv, line 1: no column timestamp"):
        convert_kuaisar(tmp_path / "dataset", source, options=SKIP)
    (source / "rec_inter.csv").write_text("")
    with pytest.raises(DataError, match="no column user_id, item_id, timestamp, click"):
        convert_kuaisar(tmp_path / "dataset", source, options=SKIP)
    (source / "rec_inter.csv").write_text(REC + "\n")
    with pytest.raises(DataError, match="no interactions are left"):
        convert_kuaisar(tmp_path / "dataset", source, options=SKIP)
    (source / "rec_inter.csv").write_text(REC + "\n" + rec(7, 1) + "\n" + '7,"1' + rec(7, 1)[3:] + "\n")
    with pytest.raises(DataError, match="line 3: unmatched quotation mark"):
        convert_kuaisar(tmp_path / "dataset", source, options=ALL)
    assert not any((tmp_path / "dataset").glob("*")) and not any((tmp_path / "dataset").glob(".*"))


def test_a_long_caption(tmp_path):
    source = source_of(tmp_path / "raw", [rec(7, 1)], [src(7, 1, 50, 1)], [feature(1, f"[{'123456, ' * 400_000}7]")])
    made = convert_kuaisar(tmp_path / "dataset", source, options=ALL)
    assert rows_of(made, "item")[0][1].count(" ") == 400_000


def test_settings_that_cannot_be_used():
    with pytest.raises(SettingError, match="positive must be one of click, forward, like, follow, any, shown"):
        KuaiSARReading(positive="watch")
    with pytest.raises(SettingError, match="category_language must be one of en, zh"):
        KuaiSARReading(category_language="fr")


def test_command(tmp_path):
    app = typer.Typer()
    app.command()(kuaisar)
    recs = [rec(7, item, START + item, click=0, like=1) for item in (1, 2, 3)]
    source = source_of(tmp_path / "raw", recs, [src(7, 1, 50, 1, kind="USER"), src(8, 2, 50, 1)], [feature(1)])
    arguments = ["--input", str(source), "--output", str(tmp_path / "dataset"), "--positive", "like"]
    result = CliRunner().invoke(app, [*arguments, "--recommended-types-only"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    made = tmp_path / "dataset" / "kuaisar"
    assert len(rows_of(made, "inter")) == 3
    # The other user never interacts.
    assert searches_of(made) == [("7", "20 34 3", "1684763932.919", "")]


def test_folders_that_look_like_a_column_or_a_pattern(tmp_path):
    source_of(tmp_path / "user_id=1", [rec(8, item) for item in (1, 2, 3)])
    source = source_of(tmp_path / "user_id=[1]", [rec(7, item) for item in (1, 2, 3)])
    folder = convert_kuaisar(tmp_path / "out", source)
    assert {row[0] for row in rows_of(folder, "inter")} == {"7"}


def test_a_table_saved_with_its_index(tmp_path):
    source = source_of(tmp_path / "raw", [rec(7, item) for item in (1, 2, 3)])
    lines = (source / "rec_inter.csv").read_text().splitlines()
    (source / "rec_inter.csv").write_text("\n".join(f"{i or ''},{line}" for i, line in enumerate(lines)) + "\n")
    assert len(rows_of(convert_kuaisar(tmp_path / "out", source), "inter")) == 3


def test_line_ends_of_two_kinds_are_reported(tmp_path):
    source = source_of(tmp_path / "raw", [rec(7, item) for item in (1, 2, 3)])
    path = source / "rec_inter.csv"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n", 2))
    with pytest.raises(DataError, match="line ends of one kind"):
        convert_kuaisar(tmp_path / "out", source)
