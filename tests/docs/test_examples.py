"""What pages show of files is what their scripts and commands write."""

from __future__ import annotations

import csv
import runpy

from tests.docs.pages import ROOT, blocks_of
from tests.docs.workplace import run_command

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
    blocks = blocks_of(ROOT / "docs" / "converters" / "logs.md")
    for block in blocks:
        if block.language == "csv":
            (tmp_path / block.before.strip("`")).write_text(block.text)
    run_command(blocks[0].commands[0])
    (shown,) = (block.text for block in blocks if block.language == "text")
    assert (tmp_path / "dataset" / "shop" / "shop.search").read_text() == shown
