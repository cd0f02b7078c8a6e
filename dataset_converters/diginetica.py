"""Converter of Diginetica: searches, page views and purchases in sessions of a shop (CIKM Cup 2016, Track 2).

Views of product pages are interactions. Each query, of words or of a category, is a search with its clicked results.

https://competitions.codalab.org/competitions/11161
"""

import dataclasses
import logging
from pathlib import Path

import duckdb

from dataset_converters.bad_rows import BadRows, count_left_out, mark_repeated
from dataset_converters.choices import AS_WORDS, DIGINETICA, DigineticaReading, Options
from dataset_converters.conversion import convert
from dataset_converters.delimited import find_files, handle_bad_csv_rows, load_csv, load_items, not_a_count, number_in
from dataset_converters.workspace import count, run

logger = logging.getLogger(__name__)

_QUERIES, _CLICKS = "train-queries.csv", "train-clicks.csv"
_VIEWS, _PURCHASES = "train-item-views.csv", "train-purchases.csv"
_PRODUCTS, _CATEGORIES = "products.csv", "product-categories.csv"
_FILES = (_QUERIES, _CLICKS, _VIEWS, _PURCHASES, _PRODUCTS, _CATEGORIES)
_LAYOUT = f"--input must be the unpacked folder of dataset-train-diginetica.zip, with {', '.join(_FILES)}."
# A click on a result and the view that it opens are written at about the same time.
_OPENED_SECONDS = 60
_WHITE_SPACE = r"[\s\pZ]"


def convert_diginetica(
    output_dir: str | Path,
    source: str | Path,
    name: str = DIGINETICA,
    reading: DigineticaReading | None = None,
    *,
    options: Options | None = None,
) -> Path:
    """Make a search-extended dataset from Diginetica.

    Args:
        output_dir: Folder of all datasets (RecBole's ``data_path``).
        source: Folder with ``train-queries.csv``, ``train-clicks.csv``, ``train-item-views.csv``,
            ``train-purchases.csv``, ``products.csv`` and ``product-categories.csv``, plain or as ``.csv.gz``.
        name: Name of the new dataset.
        reading: How to interpret the logs.
        options: Options of the conversion.

    Returns:
        The dataset's folder ``<output_dir>/<name>``. An existing identical dataset is kept.

    Raises:
        DataError: If the source is missing or malformed, or the output folder has other content.
        SettingError: If an option is invalid.
    """
    reading, options = reading or DigineticaReading(), options or AS_WORDS
    paths = find_files(Path(source), _FILES, _LAYOUT)

    def read(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
        left_out = [
            bad
            for file, table in ((_QUERIES, "queries_read"), (_VIEWS, "views"), (_PURCHASES, "purchases"))
            for bad in _load_events(connection, paths[file], table, options.bad_rows)
        ]
        left_out += _load_clicks(connection, paths[_CLICKS], options.bad_rows)
        _find_sessions(connection, reading)
        left_out += _fill_searches(connection, paths, reading)
        left_out += _fill_interactions(connection, paths, reading)
        connection.execute("DROP TABLE queries_read; DROP TABLE clicks; DROP TABLE views; DROP TABLE purchases")
        return left_out + _read_items(connection, paths, options)

    return convert(output_dir, name, "diginetica", paths, read, options, settings=dataclasses.asdict(reading))


def _load_events(connection: duckdb.DuckDBPyConnection, path: Path, table: str, action: str) -> list[BadRows]:
    """Create a table of queries, views or purchases: ``session, user, day, after, source_row`` and what is their own.

    ``day`` is the time at which the day of the event began, in seconds since 1970. ``after`` are the seconds since the
    session began. ``user`` is NULL if it is unknown.
    """
    of_queries = {
        "query": _value("queryId"),
        "words": f"coalesce(replace({_value('searchstring.tokens')}, ',', ' '), '')",
        "category": _value("categoryId"),
        "test": f"coalesce(upper({_value('is.test')}) IN ('TRUE', '1'), false)",
    }
    own = of_queries if table == "queries_read" else {"item": _value("itemId")}
    ids = ["sessionId", "queryId" if table == "queries_read" else "itemId"]
    day = "try_cast(trim(eventdate) AS DATE)"
    load_csv(
        connection,
        path,
        table,
        {
            "session": _value("sessionId"),
            "user": _value("userId"),
            "day": f"epoch({day})",
            "after": f"{number_in('timeframe')} / 1000",
            **own,
        },
        {
            **_bad_ids(*ids),
            "userId contains white space": f"regexp_matches({_value('userId')}, '{_WHITE_SPACE}')",
            "timeframe is not a number of 0 or more": not_a_count("timeframe"),
            "eventdate is not a date": f"{day} IS NULL OR NOT isfinite({day})",
        },
        [
            *(*ids, "userId", "timeframe", "eventdate"),
            *(["searchstring.tokens", "categoryId", "is.test"] if table == "queries_read" else []),
        ],
        delimiter=";",
    )
    if table == "queries_read":
        mark_repeated(connection, table, "query", "duplicate queryId")
    return handle_bad_csv_rows(connection, path, table, action, delimiter=";")


def _load_clicks(connection: duckdb.DuckDBPyConnection, path: Path, action: str) -> list[BadRows]:
    """Create ``clicks``: ``query, item, after``."""
    load_csv(
        connection,
        path,
        "clicks",
        {"query": _value("queryId"), "item": _value("itemId"), "after": f"{number_in('timeframe')} / 1000"},
        {**_bad_ids("queryId", "itemId"), "timeframe is not a number of 0 or more": not_a_count("timeframe")},
        ["queryId", "itemId", "timeframe"],
        delimiter=";",
    )
    return handle_bad_csv_rows(connection, path, "clicks", action, delimiter=";")


def _find_sessions(connection: duckdb.DuckDBPyConnection, reading: DigineticaReading) -> None:
    """Create ``sessions`` (``session, start, user``) and give each event its user and time.

    A session starts with its first day, since ``timeframe`` goes on beyond midnight while ``eventdate`` changes.
    """
    connection.execute(
        """
        CREATE TABLE sessions AS
        SELECT session, min(day) AS start, min(user) AS user
        FROM (
            SELECT session, day, user FROM queries_read UNION ALL SELECT session, day, user FROM views
            UNION ALL SELECT session, day, user FROM purchases
        ) GROUP BY session
        """
    )
    # Ids of users and of sessions are numbers from 1, and each has a letter so that they differ.
    user = "'s' || session"
    if reading.users == "user":
        user = f"coalesce('u' || coalesce(events.user, sessions.user), {user})"
    for table in ("queries_read", "views", "purchases"):
        run(
            connection,
            f"""
            CREATE OR REPLACE TABLE {table} AS
            SELECT events.* REPLACE ({user} AS user), start, start + after AS time, events.rowid AS source_row
            FROM {table} AS events JOIN sessions USING (session)
            """,
            label="Sessions",
        )
    connection.execute("DROP TABLE sessions")


def _fill_searches(
    connection: duckdb.DuckDBPyConnection, paths: dict[str, Path], reading: DigineticaReading
) -> list[BadRows]:
    """Fill ``searches`` and ``results``, the clicks of the kept searches with their session and time."""
    queries = paths[_QUERIES].name
    left_out = []
    if not reading.keep_test_queries:
        problem = "test query, whose clicks are not published"
        left_out += count_left_out(connection, queries, problem, "queries_read", "test")
        connection.execute("DELETE FROM queries_read WHERE test")
    if reading.text_queries_only:
        left_out += count_left_out(connection, queries, "query without words", "queries_read", "words = ''")
        connection.execute("DELETE FROM queries_read WHERE words = ''")
    left_out += count_left_out(
        connection,
        paths[_CLICKS].name,
        "click in a query that is not kept",
        "clicks",
        "query NOT IN (SELECT query FROM queries_read)",
    )
    connection.execute(
        """
        CREATE TABLE results AS
        SELECT query, session, item, start + clicks.after AS time, clicks.rowid AS row
        FROM clicks JOIN queries_read USING (query)
        """
    )
    # The ids of words and of categories are numbers, so those of categories have a letter.
    run(
        connection,
        """
        CREATE TABLE searches AS
        SELECT user, CASE WHEN words = '' THEN coalesce('c' || category, '') ELSE words END AS query,
            coalesce(greatest(time, last), time) AS time, coalesce(items, []) AS items, source_row
        FROM queries_read LEFT JOIN (
            SELECT query, max(last) AS last, list(item ORDER BY first, row) AS items
            FROM (
                SELECT query, item, min(time) AS first, max(time) AS last, min(row) AS row
                FROM results GROUP BY query, item
            ) GROUP BY query
        ) USING (query)
        """,
        label="Searches",
    )
    repeated = count(connection, "SELECT count(*) - count(DISTINCT (query, item)) FROM results")
    if repeated:
        left_out.append(BadRows(paths[_CLICKS].name, "repeated click on an item of the same search", repeated, ()))
    return left_out


def _fill_interactions(
    connection: duckdb.DuckDBPyConnection, paths: dict[str, Path], reading: DigineticaReading
) -> list[BadRows]:
    """Fill ``interactions`` from the views and the purchases."""
    left_out = []
    connection.execute(
        f"""
        CREATE TABLE opened AS
        SELECT DISTINCT views.source_row FROM views JOIN results USING (session, item)
        WHERE views.time BETWEEN results.time AND results.time + {_OPENED_SECONDS}
        """
    )
    views, opened = (count(connection, f"SELECT count(*) FROM {table}") for table in ("views", "opened"))
    if reading.interactions == "purchases":
        left_out += count_left_out(connection, paths[_VIEWS].name, "view", "views")
    elif reading.drop_opened_views:
        left_out += count_left_out(connection, paths[_VIEWS].name, "view opened by a click in a search", "opened")
        connection.execute("DELETE FROM views WHERE source_row IN (FROM opened)")
    elif opened:
        logger.info(
            "%s of %s views follow within a minute of a click on the same item in a search. --drop-opened-views leaves "
            "them out.",
            f"{opened:,}",
            f"{views:,}",
        )
    if reading.interactions == "views":
        left_out += count_left_out(connection, paths[_PURCHASES].name, "purchase", "purchases")
    kinds = {"views": "view", "purchases": "purchase"}
    chosen = kinds if reading.interactions == "all" else {reading.interactions: kinds[reading.interactions]}
    # A purchase comes after a view of the same time.
    selects = [
        f"SELECT user, item, '{kind}' AS type, time, {number} AS file, source_row FROM {table}"
        for number, (table, kind) in enumerate(chosen.items())
    ]
    run(
        connection,
        f"""
        CREATE TABLE interactions AS
        SELECT user, item, type, time, row_number() OVER (ORDER BY file, source_row) AS source_row
        FROM ({" UNION ALL ".join(selects)})
        """,
        label="Interactions",
    )
    connection.execute("DROP TABLE opened; DROP TABLE results")
    return left_out


def _read_items(connection: duckdb.DuckDBPyConnection, paths: dict[str, Path], options: Options) -> list[BadRows]:
    """Fill ``items`` with the words of the names and the categories of the items in the events, or of all items."""
    title = f"coalesce(replace({_value('product.name.tokens')}, ',', ' '), '')"
    left_out = load_items(
        connection,
        paths[_PRODUCTS],
        _value("itemId"),
        {"title": title},
        _bad_ids("itemId"),
        ["itemId", "product.name.tokens"],
        options,
        delimiter=";",
    )
    load_csv(
        connection,
        paths[_CATEGORIES],
        "categories_read",
        {"item": _value("itemId"), "category": f"'c' || {_value('categoryId')}"},
        _bad_ids("itemId", "categoryId"),
        ["itemId", "categoryId"],
        delimiter=";",
    )
    left_out += handle_bad_csv_rows(connection, paths[_CATEGORIES], "categories_read", options.bad_rows, delimiter=";")
    connection.execute(
        """
        CREATE OR REPLACE TABLE items AS
        SELECT items.*, coalesce(categories, '') AS categories FROM items LEFT JOIN (
            SELECT item, string_agg(category, ' ' ORDER BY row) AS categories
            FROM (SELECT item, category, min(rowid) AS row FROM categories_read GROUP BY item, category) GROUP BY item
        ) USING (item);
        DROP TABLE categories_read
        """
    )
    return left_out


def _value(column: str) -> str:
    """SQL for a value, NULL if there is none."""
    return f"nullif(nullif(trim(\"{column}\"), ''), 'NA')"


def _bad_ids(*columns: str) -> dict[str, str]:
    missing = {f"{column} is missing": f"{_value(column)} IS NULL" for column in columns}
    spaces = {
        f"{column} contains white space": f"regexp_matches({_value(column)}, '{_WHITE_SPACE}')" for column in columns
    }
    return missing | spaces
