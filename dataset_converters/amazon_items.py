"""Metadata of Amazon's items: JSON or Python literals, a line each, of which only those of needed items are parsed."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import duckdb
import pyarrow as pa

from dataset_converters.amazon_files import Edition
from dataset_converters.amazon_lines import batches_of_lines, first_line
from dataset_converters.amazon_queries import queries_of_paths
from dataset_converters.amazon_text import category_paths, plain_text, shortened
from dataset_converters.bad_rows import BadRows, settle
from dataset_converters.workspace import only_row, run
from recbole_gserec.errors import DataError

_TABLE_COLUMNS = {"item_id": "item_id", "title": "title", "categories_json": "categories"}
# As a tree, a literal takes some hundred times its length.
_LONGEST_LITERAL = 2 << 20
_TEXTS = ("title", "categories", "description", "brand")
_SCHEMA = pa.schema(
    [
        ("line", pa.int64()),
        ("item", pa.string()),
        *((name, pa.string()) for name in _TEXTS),
        ("queries", pa.list_(pa.string())),
        ("problem", pa.string()),
    ]
)
_REMEDIES = {"the item a second time": "Keep one of the lines."}


def read_items(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    edition: Edition,
    bad_rows: str,
    *,
    all_items: bool,
    description_length: int,
) -> list[BadRows]:
    """Fill the tables ``item_texts`` (``item, title, categories, description, brand, queries``) and ``items``.

    Args:
        connection: Of the workspace, with the table ``interactions``.
        path: File of metadata.
        edition: Its edition.
        bad_rows: ``error`` or ``skip``. A line that repeats an item word for word is left out either way.
        all_items: Read items without an interaction too.
        description_length: Most characters of a description; 0: all.

    Returns:
        What was left out.

    Raises:
        DataError: If the file cannot be read, or a line cannot be used and the action is ``error``.
    """
    needed = None
    if not all_items:
        needed = {item for (item,) in connection.execute("SELECT DISTINCT item FROM interactions").fetchall()}
    connection.execute(
        "CREATE TABLE described (line BIGINT, item VARCHAR, title VARCHAR, categories VARCHAR, description VARCHAR, "
        "brand VARCHAR, queries VARCHAR[], problem VARCHAR, file VARCHAR)"
    )
    for rows in _described(path, edition, needed, description_length):
        connection.register("rows", rows)
        connection.execute("INSERT INTO described SELECT *, $file FROM rows", {"file": path.name})
    same = _leave_out_repeated(connection, path)
    left_out = settle(connection, "described", {path.name: path}, bad_rows, _REMEDIES)
    run(
        connection,
        f"CREATE TABLE item_texts AS SELECT item, {', '.join(_TEXTS)}, queries FROM described",
        label="Storing items",
    )
    connection.execute("DROP TABLE described")
    connection.execute(f"CREATE VIEW items AS SELECT item, {', '.join(_TEXTS)} FROM item_texts")
    return same + left_out


def _leave_out_repeated(connection: duckdb.DuckDBPyConnection, path: Path) -> list[BadRows]:
    """Take lines out that repeat an item; where the texts differ, they are a problem."""
    run(
        connection,
        f"""
        CREATE TEMP TABLE repeated AS
        SELECT line, texts = first_texts AS same
        FROM (
            SELECT line, texts, row_number() OVER by_item AS n, first_value(texts) OVER by_item AS first_texts
            FROM (
                SELECT line, item, md5(concat_ws(chr(31), {", ".join(_TEXTS)})) AS texts
                FROM described WHERE problem IS NULL
            )
            WINDOW by_item AS (PARTITION BY item ORDER BY line)
        )
        WHERE n > 1
        """,
        label="Comparing items",
    )
    connection.execute(
        """
        UPDATE described SET problem = 'the item a second time, with other texts'
        WHERE line IN (SELECT line FROM repeated WHERE NOT same)
        """
    )
    rows, lines = only_row(
        connection, "SELECT count(*), list_slice(list_sort(list(line)), 1, 5) FROM repeated WHERE same"
    )
    connection.execute("DELETE FROM described WHERE line IN (SELECT line FROM repeated WHERE same)")
    return [BadRows(path.name, "the item a second time, with the same texts", rows, tuple(lines))] if rows else []


def _described(path: Path, edition: Edition, needed: Set[str] | None, description_length: int) -> Iterator[pa.Table]:
    """Rows of the needed items, a table for each block of the file."""
    is_table = edition.name == "plain"
    parse = _table_parser(path) if is_table else parse_record
    mention = None if is_table else _mention_of(edition.item)
    for batch in batches_of_lines(path):
        columns = (batch[name].to_pylist() for name in ("line", "text", "readable"))
        rows = [
            _row(line, text if readable else None, parse, edition.item, needed, description_length)
            for line, text, readable in zip(*columns, strict=True)
            if _may_be_needed(text, mention, needed) and not (is_table and line == 1)
        ]
        yield pa.Table.from_pylist([row for row in rows if row], _SCHEMA)


def _mention_of(key: str) -> re.Pattern:
    """Finds the values of the item's key, or of one that ends like it, in a record that is not parsed yet."""
    return re.compile(rf"""{key}['"]\s*:\s*u?['"]([^'"]+)['"]""")


def _may_be_needed(text: str, mention: re.Pattern | None, needed: Set[str] | None) -> bool:
    """Whether a line has to be parsed: it mentions a needed item as its own, or no item at all."""
    if mention is None or needed is None:
        return True
    mentioned = mention.findall(text)
    return not mentioned or not needed.isdisjoint(mentioned)


def _row(
    line: int,
    text: str | None,
    parse: Callable[[str], dict],
    key: str,
    needed: Set[str] | None,
    description_length: int,
) -> dict | None:
    """A row of the schema; None for an item that is not needed."""
    if text is None:
        return {"line": line, "problem": "not UTF-8 text"}
    try:
        record = parse(text)
    except ValueError as error:
        return {"line": line, "problem": str(error)}
    item = record.get(key)
    if not isinstance(item, str) or not item.strip():
        return {"line": line, "problem": f"{key} is missing"}
    if needed is not None and item not in needed:
        return None
    return {"line": line, "item": item, **texts_of(record, description_length)}


def parse_record(text: str) -> dict:
    """One item's metadata, which is JSON (2018, 2023) or a Python literal (2014); no code in it is ever run.

    Raises:
        ValueError: If it is neither.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        try:
            record = ast.literal_eval(_short(text.strip()))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise ValueError("neither JSON nor a Python literal") from None
    if not isinstance(record, dict):
        raise ValueError("not a record of keys and values")
    return record


def _short(text: str) -> str:
    """The text, unless its tree would take gigabytes."""
    if len(text) > _LONGEST_LITERAL:
        raise ValueError
    return text


def texts_of(record: dict, description_length: int) -> dict:
    """Title, categories, description, brand and queries of an item.

    Args:
        record: Metadata of any edition: ``categories`` or ``category``; ``brand`` or ``store``; ``description``, in
            whose place the ``features`` (2023) or ``feature`` (2018) stand where it is empty.
        description_length: Most characters of a description; 0: all.
    """
    paths = category_paths(record.get("categories") or record.get("category"))
    description = plain_text(record.get("description")) or plain_text(record.get("features") or record.get("feature"))
    return {
        "title": plain_text(record.get("title")),
        "categories": _distinct_words(paths),
        "description": shortened(description, description_length),
        "brand": plain_text(record.get("brand") or record.get("store")).removeprefix("by "),
        "queries": queries_of_paths(paths),
    }


def _distinct_words(paths: list[list[str]]) -> str:
    """Words of all paths in order, each once whatever its case."""
    words = (word.strip("&,;()/") for path in paths for category in path for word in category.split())
    distinct: dict[str, str] = {}
    for word in filter(None, words):
        distinct.setdefault(word.lower(), word)
    return " ".join(distinct.values())


def _table_parser(path: Path) -> Callable[[str], dict]:
    """Parser of a row of the plain layout."""
    names = first_line(path).split("\t")
    for column in _TABLE_COLUMNS:
        if column not in names:
            raise DataError(path, f"no column '{column}'", f"The header has to name {', '.join(_TABLE_COLUMNS)}.", 1)

    def parse(text: str) -> dict:
        cells = text.split("\t")
        if len(cells) != len(names):
            raise ValueError("a row that is shorter or longer than its header")
        record = {_TABLE_COLUMNS.get(name, name): cell for name, cell in zip(names, cells, strict=True)}
        try:
            record["categories"] = json.loads(record["categories"] or "[]")
        except ValueError:
            raise ValueError("categories_json is not JSON") from None
        return record

    return parse
