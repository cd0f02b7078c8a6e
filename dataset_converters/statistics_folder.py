"""Statistics of an existing dataset, computed from its atomic files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from dataset_converters.statistics import GROUPS, Statistics, collect_statistics
from dataset_converters.workspace import count, workspace
from recbole_gserec.data.atomic_files import field_types, read_columns

_INTER = {"user": "user_id", "item": "item_id", "time": "timestamp"}
_SEARCH = {
    "user": "search_user_id",
    "query": "search_query_id",
    "time": "search_timestamp",
    "items": "search_item_ids",
}
_QUERY = {"query_id": "query_id", "words": "query_words"}
_MAY_BE_EMPTY = ("items", "words")


def collect_from_folder(
    folder: str | Path, groups: Sequence[int] = GROUPS, *, memory: str = "2GB", threads: int | None = None
) -> Statistics:
    """Compute the statistics of a dataset from its files, with the same result as at its conversion.

    Args:
        folder: The dataset's folder, which has the dataset's name. ``.search``, ``.query`` and ``.item`` may be
            missing.
        groups: As for :func:`dataset_converters.statistics.collect_statistics`.
        memory: Memory limit of the database. More data goes to the system's temporary folder.
        threads: Number of database threads. The default is one per processor.

    Raises:
        DataError: If a file is malformed or ``.inter`` is missing.
    """
    folder = Path(folder)
    prefix = folder / folder.resolve().name
    with workspace(tempfile.gettempdir(), memory, threads) as connection:
        _load(connection, "interactions", Path(f"{prefix}.inter"), _INTER)
        _load(connection, "search_rows", Path(f"{prefix}.search"), _SEARCH, may_be_missing=True)
        _load(connection, "query_rows", Path(f"{prefix}.query"), _QUERY, may_be_missing=True)
        _load(connection, "items", Path(f"{prefix}.item"), {"item": "item_id"}, may_be_missing=True)
        # Only queries of the searches count. The file may contain others.
        connection.execute(
            """
            CREATE TABLE searches AS
            SELECT user, query, time, list_filter(string_split(items, ' '), lambda x: x <> '') AS items
            FROM search_rows;
            CREATE TABLE queries AS
            SELECT query AS query_id, coalesce(words, '') AS words
            FROM (SELECT DISTINCT query FROM searches) searched
            LEFT JOIN query_rows ON query_rows.query_id = searched.query
            """
        )
        return collect_statistics(connection, groups)


def _load(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    path: Path,
    columns: Mapping[str, str],
    *,
    may_be_missing: bool = False,
) -> None:
    """Create a table from some fields of an atomic file.

    Args:
        connection: Connection to the workspace.
        table: Name of the new table.
        path: The file.
        columns: Field of each table column.
        may_be_missing: Create an empty table if the file does not exist.
    """
    kinds = {name: "DOUBLE" if name == "time" else "VARCHAR" for name in columns}
    if may_be_missing and not path.is_file():
        connection.execute(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in kinds.items())})")
        return
    try:
        _load_fast(connection, table, path, columns, kinds)
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error:
        # The slow reader either reports the wrong line or reads what DuckDB cannot.
        connection.register("rows_read", read_columns(path, list(columns.values())))
        _make_table(connection, table, columns, "rows_read")
        connection.unregister("rows_read")
    required = [name for name in columns if name not in _MAY_BE_EMPTY]
    bad = " OR ".join("NOT isfinite(time)" if name == "time" else f"{name} = ''" for name in required)
    if count(connection, f"SELECT count(*) FROM {table} WHERE coalesce({bad}, true)"):
        read_columns(path, list(columns.values()), required=[columns[name] for name in required])


def _load_fast(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    path: Path,
    columns: Mapping[str, str],
    kinds: Mapping[str, str],
) -> None:
    wanted = {field: kinds[name] for name, field in columns.items()}
    types = {field: wanted.get(field, "VARCHAR") for field in field_types(path)}
    rows = connection.read_csv(
        str(path),
        header=True,
        sep="\t",
        quotechar="",
        escapechar="",
        columns=types,
        auto_detect=False,
    )
    connection.register("rows_read", rows)
    _make_table(connection, table, columns, "rows_read")
    connection.unregister("rows_read")


def _make_table(connection: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str], rows: str) -> None:
    select = ", ".join(
        f'"{field}" AS {name}' if name == "time" else f"coalesce(\"{field}\", '') AS {name}"
        for name, field in columns.items()
    )
    connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT {select} FROM {rows}")
