"""The default dataset: its format, its searches, its determinism, and what happens when it cannot be made."""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import dataset_converters.writer as atomic_writer
from dataset_converters.ml_100k import convert_ml_100k, draw_searches, shipped_ml_100k
from recbole_gserec.cli.convert import app
from recbole_gserec.errors import DataError, SettingError

SUFFIXES = ("inter", "item", "search", "query")
REPORTS = ("statistics.json", "statistics.md", "statistics.pdf", "statistics.png")


def rows_of(folder: Path, suffix: str) -> list[dict[str, str]]:
    """Read an atomic file with nothing but string methods."""
    text = (folder / f"{folder.name}.{suffix}").read_bytes().decode()
    assert text.endswith("\n") and "\r" not in text and '"' not in text
    header, *lines = text.removesuffix("\n").split("\n")
    fields = header.split("\t")
    assert all(line.count("\t") == len(fields) - 1 for line in lines)
    return [dict(zip(fields, line.split("\t"), strict=True)) for line in lines]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_ml_100k(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def tables(made: Path) -> dict[str, list[dict[str, str]]]:
    return {suffix: rows_of(made, suffix) for suffix in SUFFIXES}


@pytest.fixture
def small_source(tmp_path: Path) -> Path:
    """Ten users with five films each, out of order, with ties and unusual films."""
    folder = tmp_path / "source"
    folder.mkdir()
    films = [
        "1\tFirst\t1995\tDrama War",
        "2\tSecond\t1922\tSci-Fi",
        "3\tunkonwn\tunkonwn\tunknown",
        "4\tFourth (1995)\tV\tDrama",
    ]
    (folder / "ml-100k.item").write_text(
        "\n".join(["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq", *films]) + "\n"
    )
    rows = [
        f"{user}\t{film}\t3\t{time}"
        for film, time in zip("3142", (9, 5, 9, 7), strict=True)
        for user in range(10, 0, -1)
    ]
    (folder / "ml-100k.inter").write_text(
        "\n".join(["user_id:token\titem_id:token\trating:float\ttimestamp:float", *rows]) + "\n"
    )
    return folder


def test_headers(tables):
    assert list(tables["inter"][0]) == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    assert list(tables["item"][0]) == [
        "item_id:token",
        "title:token_seq",
        "categories:token_seq",
        "release_year:token",
    ]
    assert list(tables["search"][0]) == [
        "search_user_id:token",
        "search_query_id:token",
        "search_timestamp:float",
        "search_item_ids:token_seq",
    ]
    assert list(tables["query"][0]) == ["query_id:token", "query_words:token_seq"]


def test_counts(tables):
    users = {row["user_id:token"] for row in tables["inter"]}
    searching = {row["search_user_id:token"] for row in tables["search"]}
    assert [len(tables[suffix]) for suffix in SUFFIXES] == [100_000, 1682, 25_785, 352]
    assert (len(users), len(users - searching), searching - users) == (943, 142, set())


def test_interactions_are_those_of_movielens_in_time_order(tables):
    source = (shipped_ml_100k() / "ml-100k.inter").read_text().splitlines()[1:]
    # sorted() is stable, so ties in time keep the order of the file.
    expected = sorted((line.split("\t") for line in source), key=lambda cells: (int(cells[0]), int(cells[3])))
    assert [list(row.values()) for row in tables["inter"]] == expected


def test_searches_are_interactions(tables):
    interactions = [(row["user_id:token"], row["timestamp:float"], row["item_id:token"]) for row in tables["inter"]]
    searches = [
        (row["search_user_id:token"], row["search_timestamp:float"], row["search_item_ids:token_seq"])
        for row in tables["search"]
    ]
    # In the same order, each interaction at most once: a subsequence.
    remaining = iter(interactions)
    assert all(search in remaining for search in searches)


@pytest.mark.parametrize(
    ("film", "title", "query"),
    [
        ("1", "Toy Story", "animation children's comedy 1990s"),
        ("50", "Star Wars", "action adventure romance sci-fi war 1970s"),
        ("98", "Silence of the Lambs, The", "drama thriller 1990s"),
        ("132", "Wizard of Oz, The", "adventure children's drama musical 1930s"),
        ("267", "unkonwn", "unknown"),
        ("1412", "Land Before Time III: The Time of the Great Giving (1995)", "animation children's"),
    ],
)
def test_query_is_genres_and_decade(tables, film, title, query):
    words = {row["query_id:token"]: row["query_words:token_seq"] for row in tables["query"]}
    titles = {row["item_id:token"]: row["title:token_seq"] for row in tables["item"]}
    used = {words[row["search_query_id:token"]] for row in tables["search"] if row["search_item_ids:token_seq"] == film}
    assert titles[film] == title
    assert used == {query}


def test_ids_refer_to_rows(tables):
    films = [row["item_id:token"] for row in tables["item"]]
    queries = [row["query_id:token"] for row in tables["query"]]
    assert len(set(films)) == len(films)
    assert len({row["query_words:token_seq"] for row in tables["query"]}) == len(set(queries)) == len(queries)
    assert {row["search_query_id:token"] for row in tables["search"]} == set(queries)
    assert {row["item_id:token"] for row in tables["inter"]} <= set(films)
    assert all(row["release_year:token"].isdigit() or row["release_year:token"] == "unknown" for row in tables["item"])


def test_same_seed_same_bytes(made, tmp_path):
    again = convert_ml_100k(tmp_path)
    other = convert_ml_100k(tmp_path, name="other", seed=1)
    for suffix in SUFFIXES:
        assert (again / f"{again.name}.{suffix}").read_bytes() == (made / f"{made.name}.{suffix}").read_bytes()
    assert (other / "other.inter").read_bytes() == (made / f"{made.name}.inter").read_bytes()
    assert (other / "other.search").read_bytes() != (made / f"{made.name}.search").read_bytes()


def test_draws_follow_beta():
    """Searches per user are beta-binomial: check the mean, and the share of users who never or always search."""
    n_users, n_each = 20_000, 4
    searched = draw_searches(np.repeat(np.arange(n_users), n_each), seed=3).reshape(n_users, n_each)
    # With p ~ Beta(a, b): E[p] = a / (a + b), E[(1-p)^4] and E[p^4] as ratios of rising factorials.
    never = (1.5 * 2.5 * 3.5 * 4.5) / (2 * 3 * 4 * 5)
    always = (0.5 * 1.5 * 2.5 * 3.5) / (2 * 3 * 4 * 5)
    counts = searched.sum(1)
    assert searched.mean() == pytest.approx(0.25, abs=0.01)
    assert (counts == 0).mean() == pytest.approx(never, abs=0.015)
    assert (counts == n_each).mean() == pytest.approx(always, abs=0.01)


def test_draws_leave_global_generator_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    draw_searches(np.arange(5), seed=0)
    assert (np.random.get_state()[1] == before).all()


def test_record_says_how_it_was_made(made):
    record = json.loads((made / f"{made.name}.json").read_text())
    assert record["made_from"]["settings"]["seed"] == 2025
    assert set(record["made_from"]["source"]) == {"ml-100k.inter", "ml-100k.item"}
    assert record["rows"] == {"inter": 100_000, "item": 1682, "search": 25_785, "query": 352}
    assert set(record["files"]) == {f"{made.name}.{suffix}" for suffix in SUFFIXES}


def test_line_ends_of_the_source_do_not_matter(small_source, tmp_path):
    first = convert_ml_100k(tmp_path / "a", source=small_source)
    for file in small_source.iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    second = convert_ml_100k(tmp_path / "b", source=small_source)
    assert {file.name: file.read_bytes() for file in first.iterdir()} == {
        file.name: file.read_bytes() for file in second.iterdir()
    }


def test_ties_keep_the_order_of_the_file(small_source, tmp_path):
    rows = rows_of(convert_ml_100k(tmp_path, source=small_source), "inter")
    by_user = collections.defaultdict(list)
    for row in rows:
        by_user[row["user_id:token"]].append(row["item_id:token"])
    assert list(by_user) == [str(user) for user in range(1, 11)]
    assert set(map(tuple, by_user.values())) == {("1", "2", "3", "4")}


def test_finished_work_is_not_repeated(small_source, tmp_path, monkeypatch):
    folder = convert_ml_100k(tmp_path, source=small_source)
    (folder / f"{folder.name}.code").write_text("made later from it")
    monkeypatch.setattr(atomic_writer, "_write_rows", lambda *_: pytest.fail("written again"))
    assert convert_ml_100k(tmp_path, source=small_source) == folder


def test_other_content_is_never_overwritten(small_source, tmp_path):
    folder = convert_ml_100k(tmp_path, source=small_source)
    with pytest.raises(DataError, match="other settings"):
        convert_ml_100k(tmp_path, source=small_source, seed=1)
    (folder / f"{folder.name}.search").write_text("edited")
    with pytest.raises(DataError, match=r"\.search: has changed since"):
        convert_ml_100k(tmp_path, source=small_source)
    (folder / f"{folder.name}.json").unlink()
    with pytest.raises(DataError, match="not a complete dataset"):
        convert_ml_100k(tmp_path, source=small_source)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="not a complete dataset"):
        convert_ml_100k(tmp_path, name="file", source=small_source)
    assert (folder / f"{folder.name}.search").read_text() == "edited"


@pytest.mark.parametrize("n_files", range(4))
def test_interrupted_leaves_nothing(small_source, tmp_path, monkeypatch, n_files):
    write, written = atomic_writer._write_rows, []

    def interrupted(*arguments):
        if len(written) == n_files:
            raise KeyboardInterrupt
        written.append(arguments)
        write(*arguments)

    monkeypatch.setattr(atomic_writer, "_write_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_ml_100k(tmp_path / "dataset", source=small_source)
    assert not (tmp_path / "dataset").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_killed_then_started_again(small_source, tmp_path):
    script = f"""
        import os, signal
        import dataset_converters.writer as atomic_writer
        from dataset_converters.ml_100k import convert_ml_100k
        write = atomic_writer._write_rows
        def killed(file, path, columns):
            write(file, path, columns)
            if path.suffix == ".search":
                os.kill(os.getpid(), signal.SIGKILL)
        atomic_writer._write_rows = killed
        convert_ml_100k({str(tmp_path / "dataset")!r}, source={str(small_source)!r})
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "dataset" / "ml-100k-search").exists()
    folder = convert_ml_100k(tmp_path / "dataset", source=small_source)
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        f"{folder.name}.{suffix}" for suffix in (*SUFFIXES, *REPORTS, "json")
    )


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("inter", "rating:float", "stars:float", "ml-100k.inter, line 1: the header is not"),
        ("inter", "timestamp:float", "timestamp:token", "ml-100k.inter, line 1: the header is not"),
        ("inter", "10\t3\t3\t9\n", "10\t3\t3\n", "ml-100k.inter, line 2: 3 columns instead of 4"),
        ("inter", "10\t3\t3\t9\n", "10\t3\t3\tsoon\n", "ml-100k.inter, line 2: timestamp is 'soon'"),
        ("inter", "10\t3\t3\t9\n", "10\t3\t3\t\n", "ml-100k.inter, line 2: timestamp is missing"),
        ("inter", "9\t3\t3\t9\n", "Ann\t3\t3\t9\n", "ml-100k.inter, line 3: user_id 'Ann' is not a whole number"),
        ("inter", "9\t3\t3\t9\n", "9\t77\t3\t9\n", "ml-100k.inter, line 3: film 77 is not in ml-100k.item"),
        ("item", "2\tSecond", "1\tSecond", "ml-100k.item, line 3: film 1 appears twice"),
        ("item", "class:token_seq", "genres:token_seq", "ml-100k.item, line 1: the header is not"),
    ],
)
def test_malformed_source_is_one_clear_line(small_source, tmp_path, file, old, new, message):
    path = small_source / f"ml-100k.{file}"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError) as error:
        convert_ml_100k(tmp_path / "dataset", source=small_source)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "dataset").exists()


def test_missing_or_empty_source(small_source, tmp_path):
    with pytest.raises(DataError, match="file not found"):
        convert_ml_100k(tmp_path, source=tmp_path / "nowhere")
    path = small_source / "ml-100k.inter"
    path.write_text(path.read_text().split("\n")[0] + "\n")
    with pytest.raises(DataError, match="no rows"):
        convert_ml_100k(tmp_path, source=small_source)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a\nb"])
def test_name_must_be_a_folder(small_source, tmp_path, name):
    with pytest.raises(SettingError, match="is not a valid dataset name"):
        convert_ml_100k(tmp_path, name=name, source=small_source)


def test_seed_must_not_be_negative(small_source, tmp_path):
    with pytest.raises(SettingError, match="-1"):
        convert_ml_100k(tmp_path, seed=-1, source=small_source)


def test_command(small_source, tmp_path):
    options = ["--output", str(tmp_path / "dataset"), "--name", "mine", "--seed", "7", "--input", str(small_source)]
    result = CliRunner().invoke(app, ["ml-100k", *options])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "dataset" / "mine" / "mine.json").read_text())
    assert record["made_from"]["settings"]["seed"] == 7


def test_command_help_names_the_options():
    result = CliRunner().invoke(app, ["ml-100k", "--help"], env={"COLUMNS": "120", "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    assert all(option in result.output for option in ("--output", "--name", "--seed", "--input"))


def test_writer_cleans_text_and_numbers(tmp_path):
    path = tmp_path / "x.item"
    atomic_writer.write_atomic_file(
        path,
        {
            "item_id:token": np.array([1, 2, 3]),
            "title:token_seq": np.array(
                [" a\tb\r\n c\u00a0d\x00 ", '"Weird Al" 12"', 'Vinyl 12" \u00e9'], dtype=object
            ),
            "whole:float": np.array([1732668760025.0, 0.0, -3.0]),
            "part:float": np.array([0.1, 1e-7, 1732475484.5]),
        },
    )
    assert path.read_text(encoding="utf-8").split("\n") == [
        "item_id:token\ttitle:token_seq\twhole:float\tpart:float",
        "1\ta b c d\t1732668760025\t0.1",
        "2\t'Weird Al' 12'\t0\t1e-7",
        '3\tVinyl 12" \u00e9\t-3\t1732475484.5',
        "",
    ]


def test_writer_takes_a_table(tmp_path):
    table = pd.DataFrame({"item_id:token": ["a", "b"], "title:token_seq": ["Blue  kettle", ""], "price:float": [2, 3]})
    atomic_writer.write_atomic_file(tmp_path / "new" / "x.item", table)
    assert (tmp_path / "new" / "x.item").read_text() == (
        "item_id:token\ttitle:token_seq\tprice:float\na\tBlue kettle\t2\nb\t\t3\n"
    )


def test_writer_names_the_final_file(tmp_path):
    with pytest.raises(DataError) as error:
        atomic_writer.write_dataset(tmp_path / "x", {"inter": {"t:float": [1.0, float("nan")]}}, {})
    assert error.value.path == tmp_path / "x" / "x.inter"
    assert list(tmp_path.iterdir()) == []


def test_writer_writes_many_and_no_rows(tmp_path):
    path = tmp_path / "x.inter"
    atomic_writer.write_atomic_file(path, {"user_id:token": np.arange(150_000), "t:float": np.arange(150_000) / 2})
    assert np.array_equal(np.loadtxt(path, skiprows=1), np.stack([np.arange(150_000), np.arange(150_000) / 2], 1))
    atomic_writer.write_atomic_file(path, {"user_id:token": np.array([], dtype=object)})
    assert path.read_text() == "user_id:token\n"


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("user_id:token", ["a", "b\tc"]),
        ("user_id:token", ["a", "b\nc"]),
        ("user_id:token", ["a", '"b']),
        ("user_id:token", ["a", None]),
        ("t:float", [0.0, float("inf")]),
        ("t:float", [0.0, float("nan")]),
    ],
)
def test_writer_refuses_what_readers_would_misread(tmp_path, header, values):
    array = np.array(values, dtype=np.float64 if "float" in header else object)
    with pytest.raises(DataError, match=header.split(":")[0]):
        atomic_writer.write_atomic_file(tmp_path / "x.inter", {header: array})
    assert list(tmp_path.iterdir()) == []
