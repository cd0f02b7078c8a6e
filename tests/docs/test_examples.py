"""What pages show of files is what their scripts and commands write."""

from __future__ import annotations

import csv
import runpy

import pytest

from recbole_gserec.errors import DataError
from tests.docs.pages import ROOT, blocks_of, write_shown_files
from tests.docs.workplace import link_examples, run_command

PAGE = ROOT / "docs" / "tutorial.md"


def test_logs_are_those_shown(tmp_path):
    runpy.run_path(str(ROOT / "docs" / "examples" / "shop_logs.py"))["main"](tmp_path / "logs")
    shown = [block for block in blocks_of(PAGE) if block.language == "csv"]
    assert len(shown) == 3
    for block in shown:
        name = block.before.split("`")[1]
        assert (tmp_path / name).read_text().startswith(block.text), name
    rows = {}
    for role in ("interactions", "searches", "items"):
        with open(tmp_path / "logs" / f"{role}.csv", newline="") as file:
            rows[role] = list(csv.DictReader(file))
    customers = {row["customer_id"] for row in rows["interactions"]}
    assert {row["customer_id"] for row in rows["searches"]} < customers
    counts = f"{len(customers)} customers, {len(rows['items'])} items, {len(rows['interactions']):,} interactions and"
    assert f"{counts} {len(rows['searches']):,} searches" in " ".join(PAGE.read_text().split())


def test_searches_are_those_shown(tmp_path, monkeypatch):
    """The example of the page on logs: its files, its command, and what comes of them."""
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "converters" / "logs.md"
    write_shown_files(page, tmp_path)
    blocks = blocks_of(page)
    run_command(blocks[0].commands[0])
    (shown,) = (block.text for block in blocks if block.language == "text")
    assert (tmp_path / "dataset" / "shop" / "shop.search").read_text() == shown


def test_a_converter_of_ones_own_gives_what_is_shown(tmp_path, monkeypatch):
    """The page on converters shows its example as it is; what comes of its files is worked out by hand."""
    monkeypatch.chdir(tmp_path)
    link_examples()
    page = ROOT / "docs" / "adding_a_converter.md"
    write_shown_files(page, tmp_path)
    (script,) = (block.text for block in blocks_of(page) if block.not_run and "sys.argv" in block.text)
    assert script == (ROOT / "docs" / "examples" / "toyshop.py").read_text()
    (command,) = (block.commands[0] for block in blocks_of(page) if block.language == "bash")
    run_command(command)
    made = {suffix: tmp_path / "dataset" / "toyshop" / f"toyshop.{suffix}" for suffix in ("inter", "search", "query")}
    assert made["search"].read_text() in [block.text for block in blocks_of(page)]
    assert made["query"].read_text().splitlines()[1:] == ["1\t", "2\tdoll", "3\tred car"]
    clicks = [line.split("\t") for line in (tmp_path / "clicks.tsv").read_text().splitlines()[1:]]
    assert made["inter"].read_text().splitlines()[1:] == ["\t".join(row[:3]) for row in clicks]


def test_a_converter_of_ones_own_names_bad_rows(tmp_path):
    page = ROOT / "docs" / "adding_a_converter.md"
    write_shown_files(page, tmp_path)
    convert = runpy.run_path(str(ROOT / "docs" / "examples" / "toyshop.py"))["convert_toyshop"]
    clicks = tmp_path / "clicks.tsv"
    good = clicks.read_text()
    for old, new, problem in (
        ("1709287320", "soon", "line 3: time is not a number"),
        ("\tkite\t", "\t\t", "line 6: item is missing"),
        ("\t1709380980\t", "", "line 7: too few columns"),
        ("user\titem", "user\tsku", "line 1: no column item"),
    ):
        clicks.write_text(good.replace(old, new))
        with pytest.raises(DataError, match=rf"clicks\.tsv, {problem}"):
            convert(tmp_path / "dataset", tmp_path)
