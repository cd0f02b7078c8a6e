"""The conversion steps shared by all converters, from logs to a finished dataset.

A converter reads its source into three database tables. This module filters them, splits queries into words, computes
statistics and writes the atomic files.

``interactions``: ``user VARCHAR, item VARCHAR, time DOUBLE, source_row BIGINT``, and optional columns, which are
written to ``.inter`` too. ``source_row`` is the row's position in the source. It orders interactions of equal time.

``searches``: ``user VARCHAR, query VARCHAR, time DOUBLE, items VARCHAR[], source_row BIGINT``. ``query`` is the text of
the query. ``items`` are the clicked items in order, or empty.

``items``: ``item VARCHAR``, and text columns such as ``title`` and ``categories``. Each item has one row.
"""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa

from dataset_converters.bad_rows import BadRows, check_bad_rows_action, check_tables
from dataset_converters.choices import Options
from dataset_converters.filters import Step, apply_filters
from dataset_converters.query_words import split_queries, words_of_texts
from dataset_converters.statistics import collect_statistics, print_report, write_report
from dataset_converters.workspace import run, workspace
from dataset_converters.writer import Stream, already_made, check_name, write_dataset
from recbole_gserec.errors import DataError
from recbole_gserec.files import remove_abandoned, sha256_of_file

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 65536
# Options that do not affect the files.
_RESOURCES = ("memory", "threads")
# Numeric ids come first, ordered as numbers. Other ids follow in alphabetical order.
_BY_ID = "try_cast({0} AS HUGEINT) NULLS LAST, {0}"


def convert(
    output_dir: str | Path,
    name: str,
    converter: str,
    sources: Mapping[str, Path],
    read: Callable[[duckdb.DuckDBPyConnection], list[BadRows]],
    options: Options,
    settings: Mapping[str, object] | None = None,
    *,
    digest: Callable[[Path], str] = sha256_of_file,
    searches_from_interactions: bool = False,
    mixed_units: bool = False,
) -> Path:
    """Convert a source to a dataset.

    Args:
        output_dir: Folder of all datasets (RecBole's ``data_path``).
        name: Name of the new dataset.
        converter: Name of the converter, for the dataset's record.
        sources: Source files, keyed by their names in the record.
        read: Function that fills the tables ``interactions``, ``searches`` and ``items`` and returns the rows it left
            out.
        options: Options of the conversion.
        settings: All other settings that affect the result, as plain JSON values.
        digest: Hash function for the source files in the record.
        searches_from_interactions: Whether the searches were made from interactions
            (:func:`dataset_converters.filters.apply_filters`).
        mixed_units: Whether interactions and searches may have times in different units.

    Returns:
        The dataset's folder ``<output_dir>/<name>``. An existing identical dataset is kept.

    Raises:
        DataError: If the source cannot be used, the filters remove all interactions, or the folder has other content.
        SettingError: If an option is invalid.
    """
    check_name(name)
    words_of_texts([], options.words)
    check_bad_rows_action(options.bad_rows)
    folder = Path(output_dir) / name
    remove_abandoned(folder.parent)
    made_from = {
        "converter": converter,
        "settings": dict(settings or {}),
        "options": {key: value for key, value in dataclasses.asdict(options).items() if key not in _RESOURCES},
        "source": _digests(sources, digest),
    }
    if already_made(folder, made_from):
        logger.info("%s already exists.", folder)
        return folder
    with workspace(folder.parent, options.memory, options.threads) as connection:
        bad_rows = read(connection)
        check_tables(connection, _common_folder(sources.values()), mixed_units=mixed_units)
        steps = apply_filters(
            connection, options.filters, searches_from_interactions=searches_from_interactions, words=options.words
        )
        if not steps[-1].interactions:
            raise DataError(folder, f"no interactions are left ({_format_steps(steps)})", "Use weaker filters.")
        split_queries(connection, "searches", options.words)
        _number_queries(connection)
        statistics = collect_statistics(connection)
        report = {
            "steps": [dataclasses.asdict(step) for step in steps],
            "left_out": [dataclasses.asdict(bad) for bad in bad_rows],
        }
        write_dataset(
            folder,
            _tables(connection, options.all_items),
            made_from,
            report=report,
            write_more=lambda aside: write_report(aside, name, statistics, steps, bad_rows),
        )
    # Programs that did not ask for log output get no report either.
    if logger.isEnabledFor(logging.INFO):
        print_report(name, statistics, steps, bad_rows)
    logger.info("Made %s", folder)
    return folder


def _digests(sources: Mapping[str, Path], digest: Callable[[Path], str]) -> dict[str, str]:
    for path in sources.values():
        if not path.is_file():
            raise DataError(path, "file not found", "Check --input.")
    return {name: digest(path) for name, path in sources.items()}


def _number_queries(connection: duckdb.DuckDBPyConnection) -> None:
    """Create ``queries`` (``query_id, words``) from the kept searches, and ``query_ids`` (``query, query_id``).

    Queries with the same words are one query. The ids number the queries in alphabetical order, so they do not depend
    on the order of the source rows.
    """
    run(
        connection,
        """
        CREATE TABLE queries AS
        SELECT row_number() OVER (ORDER BY words) AS query_id, words FROM (
            SELECT DISTINCT words FROM query_texts WHERE query IN (SELECT coalesce(query, '') FROM searches)
        )
        """,
        label="Numbering queries",
    )
    run(
        connection,
        """
        CREATE TABLE query_ids AS SELECT query, query_id FROM query_texts JOIN queries USING (words)
        """,
    )


def _tables(connection: duckdb.DuckDBPyConnection, all_items: bool) -> dict[str, Stream]:
    """The rows of each atomic file, as streams that are read during writing."""
    mentioned = "(SELECT item FROM interactions UNION SELECT unnest(items) FROM searches)"
    more = [(name, kind) for name, kind, *_ in connection.execute("DESCRIBE interactions").fetchall()]
    more = [(name, kind) for name, kind in more if name not in ("user", "item", "time", "source_row")]
    texts = [name for name, *_ in connection.execute("DESCRIBE items").fetchall() if name != "item"]
    selects = {
        "inter": f"""
            SELECT user AS "user_id:token", item AS "item_id:token", {"".join(map(_extra, more))}
                time AS "timestamp:float"
            FROM interactions ORDER BY {_BY_ID.format("user")}, time, source_row
        """,
        "item": f"""
            SELECT item AS "item_id:token"{"".join(map(_text, texts))}
            FROM items {"" if all_items else f"WHERE item IN {mentioned}"} ORDER BY {_BY_ID.format("item")}
        """,
        "search": f"""
            SELECT user AS "search_user_id:token", query_id::VARCHAR AS "search_query_id:token",
                time AS "search_timestamp:float",
                array_to_string(coalesce(items, []), ' ') AS "search_item_ids:token_seq"
            FROM searches JOIN query_ids ON coalesce(searches.query, '') = query_ids.query
            ORDER BY {_BY_ID.format("user")}, time, source_row
        """,
        "query": """
            SELECT query_id::VARCHAR AS "query_id:token", words AS "query_words:token_seq" FROM queries
            ORDER BY queries.query_id
        """,
    }
    return {suffix: partial(_stream, connection, select) for suffix, select in selects.items()}


def _stream(connection: duckdb.DuckDBPyConnection, select: str) -> pa.RecordBatchReader:
    return connection.sql(select).to_arrow_reader(_ROWS_AT_ONCE)


def _extra(column: tuple[str, str]) -> str:
    """SQL for an optional column of the interactions: a token for text, otherwise a float."""
    name, kind = column
    if kind == "VARCHAR":
        return f'"{name}" AS "{name}:token", '
    return f'"{name}"::DOUBLE AS "{name}:float", '


def _text(name: str) -> str:
    """SQL for an item column: a text, or another type if its name has one (``release_year:token``)."""
    return f""", coalesce("{name}"::VARCHAR, '') AS "{name if ":" in name else name + ":token_seq"}\""""


def _common_folder(files: Iterable[Path]) -> Path:
    """The folder that contains all source files, for messages about tables made from several of them."""
    folders = list(dict.fromkeys(path.parent for path in files))
    return folders[0] if len(folders) == 1 else Path(os.path.commonpath([folder.absolute() for folder in folders]))


def _format_steps(steps: list[Step]) -> str:
    return "; ".join(f"{step.name}: {step.interactions:,} interactions, {step.searches:,} searches" for step in steps)
