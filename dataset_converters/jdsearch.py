"""Converter of JDsearch: histories of clicks, carts, follows and purchases at JD.com, with the queries behind them.

Events without a query are interactions. Consecutive events of one query are a search with its clicks. The last query of
a user, with the labels of its candidates, is a search too.

https://github.com/rucliujn/JDsearch, Liu et al., SIGIR 2023.
"""

import dataclasses
from collections import Counter
from pathlib import Path

import duckdb

from dataset_converters.bad_rows import BadRows
from dataset_converters.choices import AS_WORDS, HISTORY_TYPES, JDSEARCH, JDsearchReading, Options
from dataset_converters.conversion import convert
from dataset_converters.delimited import find_files, handle_bad_csv_rows, load_csv, load_items, missing_ids
from dataset_converters.workspace import count, only_row, run

_FILES = ("user_behavior_data.txt", "product_meta_data.txt")
_LAYOUT = f"--input must be the unpacked folder of JDsearch.tar.gz, with {' and '.join(_FILES)}."
_HISTORY = ("history_qry_list", "history_wid_list", "history_type_list", "history_time_list")
_LEVELS = range(1, 5)
# Types of the labels of candidates above 0.
_LABELS = {1: "CLICK", 2: "CART", 3: "ORD"}
# A history longer than this does not fit into a line (text_lines.LONGEST_LINE).
_LONGEST_HISTORY = 10_000_000
# About 600,000 events, so that sorting them takes little memory.
_USERS_AT_ONCE = 4096

_NUMBER = r"\d+(\.\d+)?"
_ID = r"[^_\s\pZ]+"


def convert_jdsearch(
    output_dir: str | Path,
    source: str | Path,
    name: str = JDSEARCH,
    reading: JDsearchReading | None = None,
    *,
    options: Options | None = None,
) -> Path:
    """Make a search-extended dataset from JDsearch.

    Args:
        output_dir: Folder of all datasets (RecBole's ``data_path``).
        source: Folder with ``user_behavior_data.txt`` and ``product_meta_data.txt``, plain or as ``.txt.gz``.
        name: Name of the new dataset.
        reading: How to interpret the histories.
        options: Options of the conversion.

    Returns:
        The dataset's folder ``<output_dir>/<name>``. An existing identical dataset is kept.

    Raises:
        DataError: If the source is missing or malformed, or the output folder has other content.
        SettingError: If an option is invalid.
    """
    reading, options = reading or JDsearchReading(), options or AS_WORDS
    paths = find_files(Path(source), _FILES, _LAYOUT)

    def read(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
        return [
            *_read_histories(connection, paths["user_behavior_data.txt"], reading, options.bad_rows),
            *_read_items(connection, paths["product_meta_data.txt"], options),
        ]

    settings = dataclasses.asdict(reading) | {"types": sorted(set(reading.types))}
    return convert(output_dir, name, "jdsearch", paths, read, options, settings=settings)


def _read_histories(
    connection: duckdb.DuckDBPyConnection, path: Path, reading: JDsearchReading, action: str
) -> list[BadRows]:
    """Fill ``interactions`` and ``searches``, a part of the users at a time."""
    load_csv(
        connection,
        path,
        "histories",
        {
            # The number is taken before bad rows are removed.
            "user": "row_number() OVER ()",
            **{
                column: f"coalesce({column}, '')"
                for column in ("query", "candidate_wid_list", "candidate_label_list", *_HISTORY)
            },
        },
        _problems(),
        ["query", "candidate_wid_list", "candidate_label_list", *_HISTORY],
        delimiter="\t",
    )
    left_out = handle_bad_csv_rows(connection, path, "histories", action, delimiter="\t")
    connection.execute(
        """
        CREATE TABLE interactions (user VARCHAR, item VARCHAR, type VARCHAR, time DOUBLE, source_row BIGINT);
        CREATE TABLE searches (user VARCHAR, query VARCHAR, time DOUBLE, items VARCHAR[], source_row BIGINT)
        """
    )
    last_user = only_row(connection, "SELECT max(user) FROM histories")[0] or 0
    dropped: Counter[str] = Counter()
    for first in range(1, last_user + 1, _USERS_AT_ONCE):
        _read_events(connection, first, reading)
        dropped += _fill_tables(connection, reading)
    if reading.drop_last_search:
        dropped["last query of a user"] = count(connection, f"SELECT count(*) FROM histories WHERE {_HAS_QUERY}")
    connection.execute("DROP TABLE histories; DROP TABLE IF EXISTS events")
    return left_out + [BadRows(path.name, problem, rows, ()) for problem, rows in dropped.items() if rows]


def _problems() -> dict[str, str]:
    history, labels = _length("history_wid_list"), _length("candidate_label_list")
    n_queries = _length("history_qry_list")
    of_type = f"({'|'.join(HISTORY_TYPES)})"
    return {
        "history_wid_list is not a list of ids": _not_a_list("history_wid_list", _ID),
        f"history_type_list is not a list of {', '.join(HISTORY_TYPES)}": _not_a_list("history_type_list", of_type),
        "history_time_list is not a list of numbers of 0 or more": _not_a_list("history_time_list", _NUMBER),
        "candidate_wid_list is not a list of ids": _not_a_list("candidate_wid_list", _ID),
        "candidate_label_list is not a list of numbers": _not_a_list("candidate_label_list", _NUMBER),
        "history_qry_list and history_wid_list differ in length": f"{n_queries} <> {history}",
        "history_type_list and history_wid_list differ in length": f"{_length('history_type_list')} <> {history}",
        "history_time_list is neither as long as history_wid_list nor one longer": (
            f"{_length('history_time_list')} - {history} NOT IN (0, 1)"
        ),
        "candidate_label_list and candidate_wid_list differ in length": f"{labels} <> {_length('candidate_wid_list')}",
    }


def _not_a_list(column: str, element: str) -> str:
    return f"NOT regexp_full_match(coalesce({column}, ''), '({element}(_{element})*)?')"


def _length(column: str) -> str:
    """SQL for the length of a list in a cell. An empty cell is an empty list."""
    return f"if(coalesce({column}, '') = '', 0, len({column}) - len(replace({column}, '_', '')) + 1)"


def _query(text: str) -> str:
    """SQL for the words of a query, joined by spaces; NULL without a query."""
    return f"nullif(nullif(trim(replace({text}, chr(24), ' ')), '-1'), '')"


_HAS_QUERY = f"{_query('query')} IS NOT NULL"


def _read_events(connection: duckdb.DuckDBPyConnection, first: int, reading: JDsearchReading) -> None:
    """Fill ``events`` with the histories of some users, and with their last queries and its clicks.

    ``position`` orders the events of a user. A last query is an event without item.
    """
    labels = " ".join(f"WHEN {label} THEN '{kind}'" for label, kind in _LABELS.items())
    last = f"""
        UNION ALL
        SELECT user, n_events + 1, {_query("query")}, NULL, NULL, last_gap, total FROM lists WHERE {_HAS_QUERY}
        UNION ALL
        SELECT user, n_events + 1 + listed, {_query("query")}, item, CASE label {labels} END, 0, total
        FROM (
            SELECT user, n_events, query, total, unnest(string_split(candidate_wid_list, '_')) AS item,
                unnest(string_split(candidate_label_list, '_'))::DOUBLE AS label,
                generate_subscripts(string_split(candidate_wid_list, '_'), 1) AS listed
            FROM lists WHERE {_HAS_QUERY} AND candidate_wid_list <> ''
        ) WHERE label > 0
    """
    zero = " - total" if reading.time_zero == "last" else ""
    run(
        connection,
        f"""
        CREATE OR REPLACE TEMP TABLE events AS
        WITH lists AS (
            SELECT *, {_length("history_wid_list")} AS n_events, list_sum(gaps) AS total,
                coalesce(gaps[n_events + 1], 0) AS last_gap
            FROM (
                SELECT *,
                    if(history_time_list = '', [0::DOUBLE], string_split(history_time_list, '_')::DOUBLE[]) AS gaps
                FROM histories WHERE user BETWEEN {first} AND {first + _USERS_AT_ONCE - 1}
            )
        ), joined AS (
            SELECT user, position, {_query("query")} AS query, item, type, gap, total
            FROM (
                SELECT user, total, unnest(string_split(history_qry_list, '_')) AS query,
                    unnest(string_split(history_wid_list, '_')) AS item,
                    unnest(string_split(history_type_list, '_')) AS type, unnest(gaps[1:n_events]) AS gap,
                    generate_subscripts(gaps[1:n_events], 1) AS position
                FROM lists WHERE n_events > 0
            )
            {"" if reading.drop_last_search else last}
        )
        SELECT user, position, query, item, type, sum(gap) OVER history{zero} AS time
        FROM joined
        WINDOW history AS (PARTITION BY user ORDER BY position ROWS UNBOUNDED PRECEDING)
        """,
        label=f"Histories from user {first:,}",
    )


def _fill_tables(connection: duckdb.DuckDBPyConnection, reading: JDsearchReading) -> Counter[str]:
    """Add the users in ``events`` to ``interactions`` and ``searches``.

    Returns:
        The number of events that are left out, by their problem.
    """
    types = ", ".join(f"'{kind}'" for kind in reading.types)
    of_interactions = "item IS NOT NULL" if reading.searched_too else "query IS NULL"
    row = f"user * {_LONGEST_HISTORY}"
    connection.execute(
        f"""
        INSERT INTO interactions
        SELECT user::VARCHAR, item, type, time, {row} + position
        FROM events WHERE {of_interactions} AND type IN ({types})
        """
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE results AS
        SELECT user, search, query, item, max(time) AS time, min(position) AS position, count(*) AS events
        FROM (
            SELECT *, count(*) FILTER (new) OVER (PARTITION BY user ORDER BY position) AS search
            FROM (
                SELECT *, query IS DISTINCT FROM lag(query) OVER history
                    OR time - lag(time) OVER history > {reading.search_gap!r} AS new
                FROM events WHERE query IS NOT NULL
                WINDOW history AS (PARTITION BY user ORDER BY position)
            )
        ) GROUP BY user, search, query, item
        """
    )
    connection.execute(
        f"""
        INSERT INTO searches
        SELECT user::VARCHAR, query, max(time),
            coalesce(list(item ORDER BY position) FILTER (item IS NOT NULL), []), {row} + min(position)
        FROM results GROUP BY user, search, query
        """
    )
    other_type = f"{of_interactions} AND type NOT IN ({types})"
    return Counter(
        {
            f"behaviour of another type than {' and '.join(sorted(set(reading.types)))}": count(
                connection, f"SELECT count(*) FROM events WHERE {other_type}"
            ),
            "repeated behaviour toward an item of the same search": count(
                connection, "SELECT coalesce(sum(events - 1), 0)::BIGINT FROM results WHERE item IS NOT NULL"
            ),
        }
    )


def _read_items(connection: duckdb.DuckDBPyConnection, path: Path, options: Options) -> list[BadRows]:
    """Fill ``items`` with the texts of the products in the events, or of all products."""
    categories = ", ".join(f"nullif({_words(f'cate_name_{level}')}, '')" for level in _LEVELS)
    texts = {
        "title": _words("name"),
        "categories": f"concat_ws(' ', {categories})",
        "brand": _words("brand_name"),
    }
    required = ["wid", "name", "brand_name", *(f"cate_name_{level}" for level in _LEVELS)]
    return load_items(connection, path, "wid", texts, missing_ids("wid"), required, options, delimiter="\t")


def _words(column: str) -> str:
    return f"trim(replace(coalesce({column}, ''), chr(24), ' '))"
