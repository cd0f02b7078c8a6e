"""Logs of any format to a dataset: every event arrives, every bad row is told of."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dataset_converters.choices import NO_QUERY, Options
from dataset_converters.logs import sql_tables
from dataset_converters.logs.log_settings import LogSettings
from dataset_converters.logs.logs import convert_logs, explain_logs
from recbole_gserec.cli.convert import logs
from recbole_gserec.errors import DataError, SettingError
from tests.dataset_converters.logs_helpers import FORMATS, INTERACTIONS, SEARCHES, Read, written

DOCS = Path(__file__).parents[3] / "docs" / "converters" / "logs.md"
T = 1_700_000_000
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(logs)

MISSING = {"nan", "null", "none", "na", "n/a", "undefined"}
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
IDS = st.text(st.characters(exclude_categories=["Z", "C"], codec="utf-8"), min_size=1, max_size=5).filter(
    lambda text: text[0] not in '"#<[{(' and text.lower() not in MISSING and not text.startswith(("\\N", "-", "1."))
)


def run(*arguments: object):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes small logs, with what is given instead of their text."""

    def make(interactions: str | bytes = "", searches: str | bytes = "", suffix: str = "csv") -> tuple[Path, Path]:
        texts = {
            "interactions": interactions or f"user,item,time\nann,a,{T}\nann,b,{T + 1}\nann,c,{T + 2}\n",
            "searches": searches or f"user,query,time,clicked\nann,red shoe,{T},a b\n",
        }
        for name, text in texts.items():
            path = tmp_path / f"{name}.{suffix if texts[name] in (interactions, searches) else 'csv'}"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            texts[name] = path
        return texts["interactions"], texts["searches"]

    return make


def examples() -> dict[str, str]:
    """The files of the documentation."""
    return dict(re.findall(r"`(\w+\.csv)`\n\n```csv\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL))


def test_the_documented_example(tmp_path):
    assert set(examples()) == {"interactions.csv", "searches.csv", "items.csv"}
    for name, text in examples().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = re.search(r"gserec convert logs (--interactions .*)", DOCS.read_text(encoding="utf-8")).group(1)
    arguments = [tmp_path / word if word.endswith(".csv") else word for word in command.split()]
    arguments[-1] = tmp_path / "dataset"
    reported = run(*arguments, "--dry-run")
    assert reported.exit_code == 0 and not (tmp_path / "dataset").exists()
    for part in ("user=customer_id, item=sku, time=ts", "dates in ISO 8601", "80.0% of them with clicks", "2 of 2"):
        assert part in reported.stdout
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "dataset" / "shop"
    assert done.stdout.splitlines()[-1] == str(folder)
    expected = re.search(r"```text\n(search_user_id.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL).group(1)
    assert (folder / "shop.search").read_text() == expected
    assert (folder / "shop.query").read_text().splitlines()[1:] == [
        "1\tbulb warm white", "2\tdesk lamp", "3\telectric kettle", "4\ttea cups",
    ]  # fmt: skip
    assert (folder / "shop.inter").read_text().splitlines()[1:3] == [
        "ann\tkettle\t1709287500",
        "ann\tteapot\t1709371800",
    ]
    assert "kettle\tElectric kettle, 1.7 l\tKitchen" in (folder / "shop.item").read_text().splitlines()
    record = json.loads((folder / "shop.json").read_text())
    assert record["made_from"]["settings"]["columns"]["searches"]["items"] == ["clicked"]
    assert set(record["made_from"]["source"]) == {
        "interactions/interactions.csv", "searches/searches.csv", "items/items.csv",
    }  # fmt: skip
    # A second time there is nothing to do.
    assert run(*arguments).exit_code == 0
    assert "note:" not in reported.stdout
    assert run(*arguments, "--dry-run").stdout.splitlines()[-1].startswith(f"note: {folder} exists")


def test_the_documented_columns(tmp_path):
    text = re.search(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL).group(1)
    (tmp_path / "columns.yaml").write_text(text)
    (tmp_path / "interactions.csv").write_text(f"wer,was,wann\nann,a,{T}\nann,b,{T}\nann,c,{T}\n")
    (tmp_path / "searches.tsv").write_text(f"user\ttitle\tbrand\ttime\tclicked_items\nann\tred shoe\tacme\t{T}\ta\n")
    (tmp_path / "items.jsonl").write_text('{"sku": "a", "name": "Shoe", "level1": "Wear", "level2": "Shoes"}\n')
    done = run("--input", tmp_path, "--columns", tmp_path / "columns.yaml", "--output", tmp_path / "out", "--name", "x")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out/x/x.query").read_text().splitlines()[1:] == ["1\tred shoe acme"]
    assert (tmp_path / "out/x/x.item").read_text().splitlines()[1:] == ["a\tShoe\tWear Shoes"]


@pytest.mark.parametrize("kind", FORMATS)
@given(
    interactions=st.lists(st.tuples(IDS, IDS, st.integers(T, T + 10**6)), min_size=1, max_size=5),
    searches=st.lists(
        st.tuples(IDS, TEXTS, st.integers(T, T + 10**6), st.lists(IDS, max_size=3)), min_size=1, max_size=4
    ),
)
@settings(
    deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_every_format_gives_the_events_that_were_written(tmp_path, kind, interactions, searches):
    read = Read(
        written(tmp_path / f"a.{kind}", INTERACTIONS, interactions),
        written(tmp_path / f"b.{kind}", SEARCHES, searches),
        allow_disjoint_times=True,
    )
    assert read.bad() == read.bad("searches") == {}
    assert read.interactions == interactions
    nothing = {"", *map(str.lower, NO_QUERY)}
    assert read.searches == [
        (user, "" if query.strip().lower() in nothing else query.strip(), time, items)
        for user, query, time, items in searches
    ]
    if not kind.startswith("parquet"):
        assert read.lines["interactions"] == list(
            range(2 if "sv" in kind else 1, len(interactions) + 1 + ("sv" in kind))
        )


@given(
    kinds=st.lists(
        st.sampled_from(["good", "wide", "narrow", "no user", "no item", "space", "soon", "ms", "quote"]), max_size=12
    ),
    breaks=st.lists(st.integers(0, 2), min_size=12, max_size=12),
    blanks=st.lists(st.integers(0, 2), min_size=12, max_size=12),
)
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bad_rows_are_counted_with_their_true_lines(tmp_path, kinds, breaks, blanks):
    rows = {
        "good": ("u,i,{t},{note}", None),
        "wide": ("u,i,{t},{note},more", "the row has 5 cells, not 4"),
        "narrow": ("u,i,{t}", "the row has 3 cells, not 4"),
        "no user": (",i,{t},{note}", "user is missing"),
        "no item": ("u, ,{t},{note}", "item is missing"),
        "space": ("u,i j,{t},{note}", "item contains white space"),
        "soon": ("u,i,soon,{note}", "time is neither a number nor an ISO 8601 date"),
        "ms": (
            "u,i,{t}000,{note}",
            "time is in another unit: milliseconds since 1970, but most are seconds since 1970",
        ),
        "quote": ('u,"i"j,{t},', "its quotation marks do not match"),
    }
    # Good rows first, so that most times are seconds, and cells are known to be quoted.
    text = "\n\nuser,item,time,note\n" + "".join(f'u,good,{T},"x"\n' for _ in range(13))
    good, bad, counts = list(range(4, 17)), [], {}
    for kind, lines, blank in zip(kinds, breaks, blanks, strict=False):
        text += "\n" * blank
        line = text.count("\n") + 1
        row, problem = rows[kind]
        text += row.format(t=T, note='"' + "\n" * lines + '"') + "\n"
        if problem is None:
            good.append(line)
        else:
            bad.append(line)
            counts[problem] = counts.get(problem, 0) + 1
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "b.csv").write_text(f"user,query,time,clicked_items\nu,q,{T},i\n")
    read = Read(tmp_path / "a.csv", tmp_path / "b.csv")
    assert read.bad() == counts
    assert read.lines["interactions"] == good
    # The first five of each kind are named.
    assert set(read.bad_lines()) <= set(bad) and len(read.bad_lines()) == sum(min(n, 5) for n in counts.values())
    assert read.interpretations["interactions"].rows == len(good) + len(bad)


def test_the_first_bad_row_is_an_error_or_all_are_left_out(files, tmp_path):
    text = f'user,item,time\nann,"a\n",{T}\nann,b\nann,c,{T}\nann,d,{T}\nann,e,-5\n'
    interactions, searches = files(text)
    with pytest.raises(DataError, match=r"s.csv, line 4: the row has 2 cells, not 3 \(2 bad rows in total\)"):
        convert_logs(tmp_path / "out", "x", interactions, searches)
    assert "would be rejected: 2 bad rows" in explain_logs(interactions, searches)
    made = convert_logs(tmp_path / "out", "x", interactions, searches, options=Options(bad_rows="skip"))
    assert json.loads((made / "x.json").read_text())["left_out"] == [
        {"file": "interactions.csv", "problem": "the row has 2 cells, not 3", "rows": 1, "lines": [4]},
        {"file": "interactions.csv", "problem": "time is negative", "rows": 1, "lines": [7]},
    ]
    assert (made / "x.inter").read_text().splitlines()[1:] == [f"ann\t{item}\t{T}" for item in "acd"]


def test_json_rows_that_cannot_be_used(files):
    lines = [
        "",
        '{"user": "ann", "item": 1.0, "time": 1700000000}',
        '{"user": "ann"',
        "[1]",
        '{"user": "ann", "item": 7}',
        '{"user": "ann", "item": "\\ud800", "time": 1700000000}',
        '{"user": null, "item": 1, "time": NaN}',
    ]
    interactions, searches = files("\n".join(lines), suffix="jsonl")
    read = Read(interactions, searches)
    assert read.interactions == [("ann", "1.0", T)]
    problems = ["not JSON", "not a JSON object", "not text in utf-8", "time is missing", "user is missing"]
    assert read.bad() == dict.fromkeys(problems, 1)
    assert read.bad_lines() == [3, 4, 5, 6, 7]


def test_ids_stay_as_they_are_written(files):
    items = ["007", "7", "12345678901234567890123", "1e5", "1.0", "ümläut", "中文", "a,b", 'a"b']
    rows = "".join('ann,"{}",{}\n'.format(item.replace('"', '""'), T) for item in items)
    interactions, searches = files("user,item,time\n" + rows)
    assert [item for _, item, _ in Read(interactions, searches).interactions] == items


def test_parquet_types(tmp_path, files):
    _, searches = files()
    moments = pa.array([T, T + 1, None], pa.timestamp("s"))
    table = {
        "user": pa.array([1.0, 2.0, None], pa.float64()),
        "item": pa.array([b"a", b"b", b"c"], pa.binary()),
        "time": moments,
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    read = Read(tmp_path / "a.parquet", searches)
    assert read.interactions == [("1", "a", T), ("2", "b", T + 1)]
    assert read.bad() == {"user is missing": 1} and read.bad_lines() == [3]
    for unit, zone in (("ms", "Asia/Shanghai"), ("us", None), ("ns", None)):
        table |= {"time": moments.cast(pa.timestamp(unit, zone)), "item": pa.array([10**18, 2, 3]).dictionary_encode()}
        pq.write_table(pa.table(table), tmp_path / "a.parquet")
        assert Read(tmp_path / "a.parquet", searches).interactions == [("1", str(10**18), T), ("2", "2", T + 1)]
    clicks = pa.array([[1, 2], [], None], pa.list_(pa.int64()))
    log = {"user": ["1", "2", "3"], "query": ["a", None, "c"], "time": [T, T, T], "clicked_items": clicks}
    pq.write_table(pa.table(log), tmp_path / "b.parquet")
    assert [row[1::2] for row in Read(tmp_path / "a.parquet", tmp_path / "b.parquet").searches] == [
        ("a", ["1", "2"]), ("", []), ("c", []),
    ]  # fmt: skip


def test_a_row_a_click(files):
    text = (
        "user,query,time,clicked_item_id\n"
        f"ann,shoe,{T},b\nbob,shoe,{T},c\nann,shoe,{T},a\nann,shoe,{T + 1},a\nann,hat,{T + 1},\nann,shoe,{T},b\n"
    )
    read = Read(*files(searches=text))
    assert read.searches == [
        ("ann", "shoe", T, ["b", "a", "b"]),
        ("bob", "shoe", T, ["c"]),
        ("ann", "shoe", T + 1, ["a"]),
        ("ann", "hat", T + 1, []),
    ]
    assert (
        str(read.interpretations["searches"].form)
        == "one row per click; rows of the same user, query, time are one search"
    )


@pytest.mark.parametrize("rows_at_once", [1, 3, 1_000_000])
def test_a_row_a_result_with_an_id_of_the_search(files, monkeypatch, rows_at_once):
    monkeypatch.setattr(sql_tables, "_ROWS_GROUPED_AT_ONCE", rows_at_once)
    text = (
        "user,keyword,time,item_id,clicked,search_id\n"
        f"ann,shoe,{T + 2},c,1,1\nann,shoe,{T + 1},b,0,1\nann,shoe,{T},a,3,1\nann,hat,{T},d,true,1\n"
        f"bob,shoe,{T},e,no,1\nbob,shoe,{T},f,1,\nbob,shoe,{T + 1},g,1,\nbob,shoe,{T},h,maybe,2\n"
    )
    read = Read(*files(searches=text))
    assert read.searches == [
        ("ann", "shoe", T + 2, ["a", "c"]),
        ("ann", "hat", T, ["d"]),
        ("bob", "shoe", T, []),
        ("bob", "shoe", T, ["f"]),
        ("bob", "shoe", T + 1, ["g"]),
    ]
    assert read.bad("searches") == {"click is neither a number nor yes or no": 1}


def test_lists_by_the_name_of_one_item_and_flags_by_the_name_of_a_list(files):
    text = f"user,query,time,{{}}\nann,shoe,{T},\"['a', 'b']\"\n"
    read = Read(*files(searches=text.format("clicked_item_id")))
    assert read.searches == [("ann", "shoe", T, ["a", "b"])]
    assert read.interpretations["searches"].columns["items"] == ("clicked_item_id",)
    # They may have been shown.
    for columns in ({}, {"searches": {"item": ("item_id",)}}):
        with pytest.raises(DataError, match="contains lists of items.* items=item_id"):
            Read(*files(searches=text.format("item_id")), columns=columns)
    with pytest.raises(DataError, match="contains click flags, not the clicked items"):
        Read(*files(searches=f"user,query,time,clicked\nann,shoe,{T},1\nann,hat,{T},0\n"))


def test_clicks_taken_for_searches_are_warned_of(files):
    read = Read(*files(searches=f"user,query,time,clicked_items\nann,shoe,{T},a\nann,shoe,{T},b\n"))
    assert len(read.searches) == 2 and "if each row is a click" in read.warnings[0]


def test_searches_without_clicks(files):
    read = Read(*files(searches=f"user,query,time\nann,shoe,{T}\n"), columns={"searches": {"items": ("-",)}})
    assert read.searches == [("ann", "shoe", T, [])]


def test_no_search_at_all(files, tmp_path):
    interactions, searches = files(searches="user,query,time,clicked_items\n")
    assert Read(interactions, searches).warnings == ["The log has no searches."]
    made = convert_logs(tmp_path / "out", "x", interactions, searches)
    assert (made / "x.search").read_text().count("\n") == 1
    with pytest.raises(DataError, match="no rows below the header"):
        Read(*files("user,item,time\n"))


def test_units_of_both_files_become_seconds(files):
    read = Read(*files(searches=f"user,query,time,clicked_items\nann,shoe,{T}500,a\n"))
    assert read.searches[0][2] == T + 0.5
    assert [str(read.interpretations[role].clock) for role in ("interactions", "searches")] == [
        "seconds since 1970", "milliseconds since 1970",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("searches", "problem"),
    [
        (
            f"user,query,time,clicked_items\nann,shoe,{T + 10**6},a\n",
            "do not overlap in time: interactions from 2023-11-14",
        ),
        ("user,query,time,clicked_items\nann,shoe,5,a\n", "are not comparable: .* searches have positions"),
    ],
)
def test_times_that_do_not_fit_together_are_refused(files, searches, problem):
    paths = files(searches=searches)
    with pytest.raises(DataError, match=problem):
        Read(*paths)
    assert re.search(f"would be rejected: .*{problem}", explain_logs(*paths))


def test_disjoint_and_unlikely_times_can_be_accepted(files):
    late = files(searches="user,query,time,clicked_items\nann,shoe,2100-01-01,a\nann,shoe,1980-01-01,a\n")
    assert Read(*late).warnings == [
        "1 time of searches is before 1990: check units and time zones.",
        "1 time of searches is in the future: check units and time zones.",
    ]
    read = Read(*files(searches="user,query,time,clicked_items\nann,shoe,1995-01-01,a\n"), allow_disjoint_times=True)
    assert read.warnings[0].startswith("The two logs do not overlap")
    positions = "user,item,time\nann,a,1\nann,b,2\n", "user,query,time,clicked_items\nann,shoe,2,a\n"
    assert Read(*files(*positions)).interactions == [("ann", "a", 1), ("ann", "b", 2)]


def test_users_in_common_are_none(files):
    assert Read(*files(searches=f"user,query,time,clicked_items\n17,shoe,{T},a\n")).warnings == [
        "No user is in both logs: check that both write user ids in the same form."
    ]


def test_white_space_in_item_ids(files, tmp_path):
    interactions = f"user,item,time\nann,red shoe,{T}\nann, hat ,{T}\nann,a\u00a0b,{T}\n"
    searches = f'user,query,time,clicked_items\nann,shoe,{T},"[""red shoe"", ""hat""]"\n'
    paths = files(interactions, searches)
    read = Read(*paths)
    assert read.interactions == [("ann", "hat", T)] and read.bad() == {"item contains white space": 2}
    assert read.bad("searches") == {"clicked item contains white space": 1}
    items = tmp_path / "items.csv"
    items.write_text("item,title\nred shoe,Red shoe\n")
    read = Read(*paths, items, replace_spaces=True)
    assert [item for _, item, _ in read.interactions] == ["red_shoe", "hat", "a_b"]
    assert read.searches[0][3] == ["red_shoe", "hat"] and read.items == [("red_shoe", "Red shoe")]
    items.write_text("item,title\nred_shoe,Red shoe\n")
    with pytest.raises(DataError, match="items 'red shoe' and 'red_shoe' would both become 'red_shoe'"):
        Read(*paths, items, replace_spaces=True)


def test_items_given_twice(files, tmp_path):
    items = tmp_path / "items.csv"
    items.write_text("item,title,category\na,A,\nb,B,x\na,A,\n,C,\nc,,\n")
    read = Read(*files(), items)
    assert read.items == [("a", "A", ""), ("b", "B", "x"), ("c", "", "")]
    assert read.bad("items") == {"item is missing": 1, "duplicate item": 1}
    assert read.bad_lines("items") == [4, 5]


@pytest.mark.parametrize(
    ("text", "encoding", "bad"),
    [
        ("ann,é", "latin-1", {}),
        ("ann,é", "utf-8", {"not text in utf-8": 1}),
        ("ann,中文", "gbk", {}),
        ("ann,x", "utf-16", {}),
    ],
)
def test_encodings(files, text, encoding, bad):
    written_in = "latin-1" if bad else encoding
    paths = files(f"user,item,time\nann,a,{T}\n{text},{T}\n".encode(written_in))
    searches = paths[1]
    searches.write_bytes(searches.read_text().encode(encoding))
    read = Read(*paths, encoding=encoding)
    assert read.bad() == bad
    assert [f"{user},{item}" for user, item, _ in read.interactions] == ["ann,a", *([] if bad else [text])]


@pytest.mark.parametrize("encoding", ["none such", "hex"])
def test_encodings_that_are_none(files, encoding):
    with pytest.raises(SettingError, match=f"unknown encoding '{encoding}'"):
        Read(*files(), encoding=encoding)
    with pytest.raises(DataError, match="not text in utf-16"):
        Read(*files(), encoding="utf-16")


def test_byte_order_marks(files):
    assert len(Read(*files(f"\ufeffuser,item,time\nann,a,{T}\n")).interactions) == 1
    with pytest.raises(DataError, match="UTF-16"):
        Read(*files(f"user,item,time\nann,a,{T}\n".encode("utf-16")))


def test_parts_are_one_log(files, tmp_path):
    _, searches = files()
    parts = tmp_path / "parts"
    (parts / "day=2").mkdir(parents=True)
    (parts / "day=1.csv").write_text(f"user,item,time\nann,a,{T}\n")
    (parts / "day=2" / "0.jsonl").write_text(f'{{"time": {T}, "item": "b", "user": "ann"}}\nbad\n')
    (parts / "_SUCCESS").write_text("")
    read = Read(parts, searches)
    assert read.interactions == [("ann", "a", T), ("ann", "b", T)]
    assert [(bad.file, bad.lines) for bad in read.interpretations["interactions"].bad_rows] == [("day=2/0.jsonl", (2,))]
    assert len(Read(Path(f"{parts}/*.csv"), searches).interactions) == 1
    (parts / "day=3.csv").write_text(f"user,sku,time\nann,a,{T}\n")
    with pytest.raises(DataError, match=r"day=3.csv: no column 'item', which the first file has"):
        Read(parts, searches)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((f"part-0.{suffix}", b"") for suffix in ("csv", "jsonl", "csv.gz", "csv.zst", "parquet")),
        *(("part-0.csv.gz", gzip.compress(content, mtime=0)) for content in (b"", b" \n\n")),
        *(("part-0.csv", content) for content in (b"\n", b"\xef\xbb\xbf", b"\xff\xfe")),
    ],
)
def test_parts_that_hold_nothing_are_left_out(files, tmp_path, caplog, name, content):
    _, searches = files()
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}|parts: .*empty"):
        Read(parts, searches)
    (parts / f"part-2-{name}").write_bytes(content)
    with pytest.raises(DataError, match=r"parts: all 2 files are empty"):
        Read(parts, searches)
    (parts / "part-1.csv").write_text("user,item,time\n" + "".join(f"ann,{item},{T}\n" for item in "abc"))
    reported = f"2 of the files of interactions are empty and left out: {name}, part-2-{name}."
    assert Read(parts, searches).warnings == [reported]
    assert f"warning: {reported}" in explain_logs(parts, searches)
    made = convert_logs(tmp_path / "out", "x", parts, searches)
    assert f"warning: {reported}" in caplog.messages
    assert len((made / "x.inter").read_text().splitlines()) == 4


def test_many_empty_parts_are_a_short_warning(files, tmp_path):
    _, searches = files()
    (tmp_path / "parts").mkdir()
    for number in range(2000):
        (tmp_path / "parts" / f"{number:04}.csv").touch()
    (tmp_path / "parts" / "a.csv").write_text(f"user,item,time\nann,a,{T}\n")
    (warning,) = Read(tmp_path / "parts", searches).warnings
    assert warning.endswith(
        "2,000 of the files of interactions are empty and left out: 0000.csv, 0001.csv, 0002.csv and 1,997 more."
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_times_of_two_columns(files, tmp_path, kind):
    _, searches = files()
    rows = [
        ("ann", "a", "2023-11-14", "22:13:20"),
        ("ann", "b", "2023-11-14", "22:13:21.5"),
        ("ann", "c", "2023-11-14", ""),
    ]
    path = written(tmp_path / f"log.{kind}", ("user", "item", "day", "clock"), rows)
    read = Read(path, searches, columns={"interactions": {"time": ("day", "clock")}})
    assert read.interactions == [("ann", "a", T), ("ann", "b", T + 1.5)]
    assert read.bad() == {"time is missing": 1}
    counted = [("ann", "a", "2023-11-14", 80_000_000), ("ann", "b", "2023-11-14", 80_000_250)]
    path = written(tmp_path / f"counted.{kind}", ("user", "item", "day", "ms"), counted)
    columns = {"interactions": {"time": ("day", "ms")}, "searches": {"time": ("time",)}}
    asked = Read(path, searches, columns=columns)
    assert asked.bad() == {"time is a day and a number without a known unit": 2}
    (tmp_path / "searches.jsonl").write_text(
        '{"user": "ann", "query": "q", "time": "2023-11-14T22:13:20Z", "clicked_items": "a"}'
    )
    read = Read(path, tmp_path / "searches.jsonl", columns=columns, time_unit="ms")
    assert read.interactions == [("ann", "a", T), ("ann", "b", T + 0.25)]
    assert str(read.interpretations["interactions"].clock) == (
        "days, and the time since the start of the day in ms, in UTC if they have no zone"
    )


def test_two_columns_are_named_by_a_plus_and_proposed(files, tmp_path):
    interactions, searches = files(
        "user,item,date,time\nann,a,2023-11-14,22:13\nann,b,2023-11-14,22:14\nann,c,2023-11-14,22:15\n"
    )
    with pytest.raises(
        DataError, match=r"several columns may be the time: date, time.*, or join both: time=date\+time"
    ):
        Read(interactions, searches)
    arguments = ["--interactions", interactions, "--searches", searches, "--output", tmp_path / "out"]
    done = run(*arguments, "--interaction-columns", "time=date+time", "--name", "x")
    assert done.exit_code == 0, done.output
    rows = (tmp_path / "out" / "x" / "x.inter").read_text().splitlines()[1:]
    assert [row.split("\t")[2] for row in rows] == [str(T - 20), str(T + 40), str(T + 100)]
    asked = run(*arguments, "--interaction-columns", "user=user+item", "--name", "y")
    assert "user of interactions must be one column" in str(asked.exception)


def test_hours_that_clocks_show_twice_are_warned_of(files, caplog, tmp_path):
    hours = ["2024-10-27 02:30:00", "2024-10-27 02:40:00", "2024-10-27 04:00:00", "2024-10-27T02:50:00+02:00"]
    logs = files(
        "user,item,time\n" + "".join(f"ann,i{n},{hour}\n" for n, hour in enumerate(hours)),
        f"user,query,time,clicked\nann,q,{hours[0]},i1\n",
    )
    convert_logs(tmp_path / "out", "x", *logs, settings=LogSettings(time_zone="Europe/Berlin"))
    warnings = [message for message in caplog.messages if "Europe/Berlin" in message and "twice" in message]
    reported = [warning.removeprefix("warning: ").split(",")[0] for warning in warnings]
    assert reported == ["2 times of interactions", "1 time of searches"]
    assert all("second of the two" in warning for warning in warnings)
    assert Read(*logs, time_zone="UTC").warnings == []


def test_texts_without_names_of_columns(files):
    columns = {"interactions": {"user": ("column1",), "item": ("column2",), "time": ("column3",)}}
    assert len(Read(*files(f"ann,a,{T}\nann,b,{T}\n"), columns=columns).interactions) == 2
    with pytest.raises(DataError, match="The columns are column1, column2, column3"):
        Read(*files(f"ann,a,{T}\n"))


def test_dialects_can_be_said(files):
    text = f"user#item#time\nann#'a#b'#{T}\n"
    assert Read(
        *files(text, f"user#query#time#clicked_items\nann#x#{T}#a\n"), delimiter="#", quote="'"
    ).interactions == [("ann", "a#b", T)]
    with pytest.raises(SettingError, match="must be a single character"):
        LogSettings(delimiter="::")


@pytest.mark.parametrize("kind", ["csv.gz", "csv.zst", "parquet"])
def test_files_cut_short_are_errors_whatever_is_done_about_bad_rows(files, tmp_path, kind):
    _, searches = files()
    rows = [(f"u{n}", f"i{n * 7919 % 10007}", T + n) for n in range(3000)]
    path = written(tmp_path / f"log.{kind}", INTERACTIONS, rows)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match="damaged or incomplete|not a complete Parquet file"):
        convert_logs(tmp_path / "out", "x", path, searches, options=Options(bad_rows="skip"))
    assert not (tmp_path / "out" / "x").exists() and not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("log.csv", b"", "the file is empty"),
        ("log.csv.gz", b"user,item", "damaged"),
        ("log.json", b'[{"user": 1}]', "the file is a JSON array"),
        ("log.jsonl", b"user,item,time\n", "none of the first lines is a JSON object"),
        ("log.xlsx", b"x", "unknown file format"),
        ("log.parquet", b"x", "not a complete Parquet file"),
        ("log.csv", b"user,user,item,time\na,b,c,1\n", "several columns may be the user: user, user"),
    ],
)
def test_files_that_are_no_logs(files, tmp_path, name, data, problem):
    _, searches = files()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=problem):
        Read(tmp_path / name, searches)


def test_files_that_are_not_there(files, tmp_path):
    interactions, searches = files()
    with pytest.raises(DataError, match="file not found"):
        Read(tmp_path / "none.csv", searches)
    searches.unlink()
    for arguments in (["--input", tmp_path], ["--interactions", interactions]):
        done = run(*arguments)
        assert isinstance(done.exception, SettingError) and "Give --searches FILE" in str(done.exception)
    (tmp_path / "interactions.csv.gz").write_bytes(gzip.compress(b"x", mtime=0))
    assert "several files for interactions" in str(run("--input", tmp_path).exception)


def test_the_order_of_equal_times_and_the_record_do_not_depend_on_the_folder(files, tmp_path):
    rows = "".join(f"ann,{item},{T}\n" for item in "zyxwv")
    interactions, searches = files("user,item,time\n" + rows)
    made = convert_logs(tmp_path / "out", "x", interactions, searches)
    assert [line.split("\t")[1] for line in (made / "x.inter").read_text().splitlines()[1:]] == list("zyxwv")
    (tmp_path / "moved").mkdir()
    moved = [path.rename(tmp_path / "moved" / path.name) for path in (interactions, searches)]
    assert convert_logs(tmp_path / "out", "x", *moved) == made
    with pytest.raises(DataError, match="with other settings"):
        convert_logs(tmp_path / "out", "x", *moved, settings=LogSettings(replace_spaces=True))


def test_a_search_is_not_seen_before_its_last_click(tmp_path):
    interactions = written(tmp_path / "i.csv", INTERACTIONS, [("ann", "a", 1_700_000_000), ("ann", "b", 1_700_000_300)])
    rows = [
        ("ann", "tea", 1_700_000_050, "S", "a", 1),
        ("ann", "tea", 1_700_000_300, "S", "b", 1),
        ("ann", "tea", 1_700_000_400, "S", "c", 0),
        ("ann", "cup", 1_700_000_060, "T", "d", 0),
        ("ann", "cup", 1_700_000_070, "T", "e", 0),
    ]
    searches = written(tmp_path / "s.csv", ("user_id", "query", "timestamp", "search_id", "item_id", "click"), rows)
    assert Read(interactions, searches).searches == [
        ("ann", "tea", 1_700_000_300, ["a", "b"]),
        ("ann", "cup", 1_700_000_060, []),
    ]


def test_folders_that_look_like_a_column_or_a_pattern(tmp_path):
    for folder, user in (("user_id=1", "bob"), ("user_id=[1]", "ann")):
        (tmp_path / folder).mkdir()
        path = written(tmp_path / folder / "i.parquet", INTERACTIONS, [(user, "a", 1_700_000_000)])
    searches = written(tmp_path / "s.csv", SEARCHES, [("ann", "tea", 1_700_000_000, "a")])
    assert Read(path, searches).interactions == [("ann", "a", 1_700_000_000)]
