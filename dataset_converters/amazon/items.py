"""Metadata of Amazon's items, one JSON object or Python literal a line, and plain text from it."""

import ast
import html
import json
import re
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import duckdb
import pyarrow as pa

from dataset_converters.amazon.queries import queries_of_paths
from dataset_converters.amazon.source_files import Edition, batches_of_lines, first_line
from dataset_converters.bad_rows import BadRows, handle_bad_rows
from dataset_converters.workspace import only_row, run
from recbole_gserec.errors import DataError

_TAG = re.compile(r"<(?:!--.*?--|/?[a-zA-Z][^>]*)>", re.DOTALL)
# Some titles of 2018 are scripts of the web page. The authors of the edition advise to detect them by this word.
_SCRIPT = "getTime"


def plain_text(value: object) -> str:
    """Clean a title, description or name: remove markup and repeated white space.

    Args:
        value: A text, a list of texts, or another value, which is printed. None gives the empty text.
    """
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(filter(None, map(plain_text, value)))
    text = value if isinstance(value, str) else str(value)
    if _SCRIPT in text:
        return ""
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    # Remove unpaired surrogates, which are valid in JSON but not in UTF-8.
    text = text if text.isascii() else text.encode("utf-8", "ignore").decode()
    return " ".join(text.split())


def shorten(text: str, length: int) -> str:
    """Cut a text after at most ``length`` characters, between words. 0 keeps the whole text."""
    if not length or len(text) <= length:
        return text
    start, space, _ = text[: length + 1].rpartition(" ")
    return start if space else text[:length]


def category_paths(value: object) -> list[list[str]]:
    """Category paths of an item, from the broadest category to the narrowest.

    Args:
        value: A list of paths (2014), one path (2018, 2023), or nothing. Paths are cut at the first markup, because in
            2018 some paths continue with pieces of the web page.
    """
    if not isinstance(value, list) or not value:
        return []
    paths = value if isinstance(value[0], list) else [value]
    return [_clean_path(path) for path in paths if isinstance(path, list)]


def _clean_path(path: list) -> list[str]:
    categories = []
    for category in map(str, path):
        if _TAG.search(category):
            break
        categories.append(plain_text(category))
    return [category for category in categories if category]


_TABLE_COLUMNS = {"item_id": "item_id", "title": "title", "categories_json": "categories"}
# A parsed literal needs about a hundred times its length in memory.
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
_ADVICE = {"duplicate item": "Keep one of the lines."}


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
        connection: Connection to the workspace, with the table ``interactions``.
        path: File of the metadata.
        edition: Edition of the file.
        bad_rows: ``error`` or ``skip``. Exact duplicates are left out in both cases.
        all_items: Also read items without interactions.
        description_length: Maximum length of a description in characters; 0 for no limit.

    Returns:
        The lines left out.

    Raises:
        DataError: If the file cannot be read, or ``bad_rows`` is ``error`` and a line is bad.
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
    left_out = handle_bad_rows(connection, "described", {path.name: path}, bad_rows, _ADVICE)
    run(
        connection,
        f"CREATE TABLE item_texts AS SELECT item, {', '.join(_TEXTS)}, queries FROM described",
        label="Storing items",
    )
    connection.execute("DROP TABLE described")
    connection.execute(f"CREATE VIEW items AS SELECT item, {', '.join(_TEXTS)} FROM item_texts")
    return same + left_out


def _leave_out_repeated(connection: duckdb.DuckDBPyConnection, path: Path) -> list[BadRows]:
    """Remove exact duplicates of items. Duplicates with different texts get a ``problem``."""
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
        UPDATE described SET problem = 'duplicate item with different texts'
        WHERE line IN (SELECT line FROM repeated WHERE NOT same)
        """
    )
    rows, lines = only_row(
        connection, "SELECT count(*), list_slice(list_sort(list(line)), 1, 5) FROM repeated WHERE same"
    )
    connection.execute("DELETE FROM described WHERE line IN (SELECT line FROM repeated WHERE same)")
    return [BadRows(path.name, "duplicate item with the same texts", rows, tuple(lines))] if rows else []


def _described(path: Path, edition: Edition, needed: Set[str] | None, description_length: int) -> Iterator[pa.Table]:
    """Yield the rows of the needed items, one table per block of the file."""
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
    """Pattern that finds the values of the item key, or of a key with the same ending, in an unparsed record."""
    return re.compile(rf"""{key}['"]\s*:\s*u?['"]([^'"]+)['"]""")


def _may_be_needed(text: str, mention: re.Pattern | None, needed: Set[str] | None) -> bool:
    """Whether a line must be parsed, because it mentions a needed item or no item at all."""
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
    """Parse a line to a row of the schema; None if the item is not needed."""
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
    return {"line": line, "item": item, **item_texts_of(record, description_length)}


def parse_record(text: str) -> dict:
    """Parse one item's metadata: JSON (2018, 2023) or a Python literal (2014). Code is never executed.

    Raises:
        ValueError: If the text is neither.
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
    """Return the text, or raise ValueError if parsing it would need gigabytes."""
    if len(text) > _LONGEST_LITERAL:
        raise ValueError
    return text


def item_texts_of(record: dict, description_length: int) -> dict:
    """Extract the title, categories, description, brand and queries of an item.

    Args:
        record: Metadata of any edition, with the keys ``categories`` or ``category``, ``brand`` or ``store``, and
            ``description``. If the description is empty, ``features`` (2023) or ``feature`` (2018) replaces it.
        description_length: Maximum length of a description in characters; 0 for no limit.
    """
    paths = category_paths(record.get("categories") or record.get("category"))
    description = plain_text(record.get("description")) or plain_text(record.get("features") or record.get("feature"))
    return {
        "title": plain_text(record.get("title")),
        "categories": _distinct_words(paths),
        "description": shorten(description, description_length),
        "brand": plain_text(record.get("brand") or record.get("store")).removeprefix("by "),
        "queries": queries_of_paths(paths),
    }


def _distinct_words(paths: list[list[str]]) -> str:
    """Words of all paths in order, without duplicates. Upper and lower case count as equal."""
    words = (word.strip("&,;()/") for path in paths for category in path for word in category.split())
    distinct: dict[str, str] = {}
    for word in filter(None, words):
        distinct.setdefault(word.lower(), word)
    return " ".join(distinct.values())


def _table_parser(path: Path) -> Callable[[str], dict]:
    """Return a parser for rows of the plain layout."""
    names = first_line(path).split("\t")
    for column in _TABLE_COLUMNS:
        if column not in names:
            raise DataError(
                path, f"no column '{column}'", f"The header needs the columns {', '.join(_TABLE_COLUMNS)}.", 1
            )

    def parse(text: str) -> dict:
        cells = text.split("\t")
        if len(cells) != len(names):
            raise ValueError("row is shorter or longer than the header")
        record = {_TABLE_COLUMNS.get(name, name): cell for name, cell in zip(names, cells, strict=True)}
        try:
            record["categories"] = json.loads(record["categories"] or "[]")
        except ValueError:
            raise ValueError("categories_json is not JSON") from None
        return record

    return parse
