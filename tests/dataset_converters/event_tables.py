"""Events as plain Python, put into the tables of a conversion, and atomic files read back as plain Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa

from dataset_converters.choices import Options
from dataset_converters.conversion import convert


class Interaction(NamedTuple):
    user: str | None
    item: str | None
    time: float | None


class Search(NamedTuple):
    user: str | None
    query: str | None
    time: float | None
    items: tuple[str | None, ...] | None


def fill(
    connection: duckdb.DuckDBPyConnection,
    interactions: Sequence[Interaction],
    searches: Sequence[Search] = (),
    items: Iterable[str] = (),
) -> None:
    """Make the tables that a converter makes; places are those in the sequences."""
    tables = {
        "interactions": (interactions, Interaction._fields, (pa.string(), pa.string(), pa.float64())),
        "searches": (searches, Search._fields, (pa.string(), pa.string(), pa.float64(), pa.list_(pa.string()))),
    }
    for name, (rows, fields, types) in tables.items():
        columns = list(zip(*rows, strict=True)) or [()] * len(fields)
        table = pa.table(
            {field: pa.array(column, kind) for field, column, kind in zip(fields, columns, types, strict=True)}
            | {"source_row": pa.array(range(len(rows)), pa.int64())}
        )
        make_table(connection, name, table)
    items = list(items)
    texts = {"item": pa.array(items, pa.string()), "title": pa.array([f"Title {item}" for item in items], pa.string())}
    make_table(connection, "items", pa.table(texts))


def make_table(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    connection.register("given", table)
    connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM given")
    connection.unregister("given")


def left(connection: duckdb.DuckDBPyConnection) -> tuple[list[Interaction], list[Search]]:
    """What the tables hold, in the order of the places."""
    interactions = connection.execute('SELECT "user", item, time FROM interactions ORDER BY source_row').fetchall()
    searches = connection.execute('SELECT "user", query, time, items FROM searches ORDER BY source_row').fetchall()
    return (
        [Interaction(*row) for row in interactions],
        [Search(*row[:3], tuple(row[3])) for row in searches],
    )


def convert_events(
    output: Path,
    interactions: Sequence[Interaction],
    searches: Sequence[Search] = (),
    items: Iterable[str] = (),
    options: Options | None = None,
    name: str = "toy",
    settings: Mapping[str, object] | None = None,
) -> Path:
    """Make a dataset of events, whose source is an empty file."""
    source = output.parent / "source.txt"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.touch()

    def read(connection: duckdb.DuckDBPyConnection) -> list:
        fill(connection, interactions, searches, items)
        return []

    return convert(output, name, "events", {"source.txt": source}, read, options or Options(), settings)


def rows_of(folder: Path, suffix: str) -> list[tuple[str, ...]]:
    """The rows of an atomic file, read with nothing but string methods; without the header."""
    text = (folder / f"{folder.name}.{suffix}").read_bytes().decode()
    return [tuple(line.split("\t")) for line in text.removesuffix("\n").split("\n")[1:]]


def searches_of(folder: Path) -> list[tuple[str, str, str, str]]:
    """User, words, time and items of each search."""
    words = dict(rows_of(folder, "query"))
    return [(user, words[query], time, items) for user, query, time, items in rows_of(folder, "search")]


def left_out(folder: Path) -> dict[tuple[str, str], int]:
    """How many rows of each file were left out for each problem."""
    record = json.loads((folder / f"{folder.name}.json").read_text(encoding="utf-8"))
    return {(entry["file"], entry["problem"]): entry["rows"] for entry in record["left_out"]}
