"""Converter of KuaiSAR and KuaiSAR-small: search and recommendation logs of the same users of a short-video app.

Clicked recommendations are the interactions. Each search session is a search. Its keyword, a list of word ids, is the
query, and its clicked results are the items. An item's title is its caption, which uses the same word ids.

https://kuaisar.github.io, Sun et al., CIKM 2023.
"""

import dataclasses
import logging
from pathlib import Path

import duckdb

from dataset_converters.bad_rows import BadRows
from dataset_converters.choices import AS_WORDS, FEEDBACK, KUAISAR, LANGUAGES, KuaiSARReading, Options
from dataset_converters.conversion import convert
from dataset_converters.delimited import handle_bad_csv_rows, load_csv
from dataset_converters.workspace import count, run
from recbole_gserec.errors import DataError

logger = logging.getLogger(__name__)

#: Item types that are recommended. Searches also return other types.
RECOMMENDED_TYPES = ("VIDEO", "IMAGE_ATLAS")

_FILES = ("rec_inter.csv", "src_inter.csv", "item_features.csv")
_LAYOUT = f"--input must be the unpacked folder of KuaiSAR.zip or KuaiSAR_v2.zip, with {', '.join(_FILES)}."
_LEVELS = ("first", "second", "third", "fourth")
# Times must lie between the years 1973 and 5138, so that seconds or microseconds are an error.
_MILLISECONDS = "coalesce({0} BETWEEN 1e11 AND 1e14, false)"
_LIST = r"^\s*\[?\s*(-?\d+([\s,]+-?\d+)*)?\s*\]?\s*$"


def convert_kuaisar(
    output_dir: str | Path,
    source: str | Path,
    name: str = KUAISAR,
    reading: KuaiSARReading | None = None,
    *,
    options: Options | None = None,
) -> Path:
    """Make a search-extended dataset from KuaiSAR or KuaiSAR-small.

    Args:
        output_dir: Folder of all datasets (RecBole's ``data_path``).
        source: Folder with ``rec_inter.csv``, ``src_inter.csv`` and ``item_features.csv``, plain or as ``.csv.gz``.
        name: Name of the new dataset.
        reading: How to interpret the logs.
        options: Options of the conversion.

    Returns:
        The dataset's folder ``<output_dir>/<name>``. An existing identical dataset is kept.

    Raises:
        DataError: If the source is missing or malformed, or the output folder has other content.
        SettingError: If an option is invalid.
    """
    reading, options = reading or KuaiSARReading(), options or AS_WORDS
    paths = _find_files(Path(source))

    def read(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
        return [
            *_read_interactions(connection, paths["rec_inter.csv"], reading, options.bad_rows),
            *_read_searches(connection, paths["src_inter.csv"], reading, options.bad_rows),
            *_read_items(connection, paths["item_features.csv"], reading, options),
        ]

    return convert(output_dir, name, "kuaisar", paths, read, options, settings=dataclasses.asdict(reading))


def _find_files(folder: Path) -> dict[str, Path]:
    """Find the files in the folder, or in its only subfolder that contains them."""
    inside = sorted(path for path in folder.glob("*/") if _in_folder(path, _FILES[0])) if folder.is_dir() else []
    if len(inside) == 1 and not _in_folder(folder, _FILES[0]):
        folder = inside[0]
    found = {}
    for name in _FILES:
        path = _in_folder(folder, name)
        if path is None:
            raise DataError(folder / name, "file not found", _LAYOUT)
        found[name] = path
    return found


def _in_folder(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read_interactions(
    connection: duckdb.DuckDBPyConnection, path: Path, reading: KuaiSARReading, action: str
) -> list[BadRows]:
    """Fill ``interactions`` and return the rows that do not become interactions."""
    labels = FEEDBACK if reading.positive == "any" else () if reading.positive == "shown" else (reading.positive,)
    load_csv(
        connection,
        path,
        "recommendations",
        {
            "user": _id("user_id"),
            "item": _id("item_id"),
            "time": _seconds("timestamp"),
            "positive": " OR ".join(f"{_number(label)} > 0" for label in labels) or "true",
        },
        {
            **_missing_ids("user_id", "item_id"),
            "timestamp is not a time in milliseconds": f"NOT {_MILLISECONDS.format(_number('timestamp'))}",
            **{f"{label} is not a number of 0 or more": _not_a_count(label) for label in labels},
        },
        ["user_id", "item_id", "timestamp", *labels],
    )
    left_out = handle_bad_csv_rows(connection, path, "recommendations", action)
    run(
        connection,
        """
        CREATE TABLE interactions AS
        SELECT user, item, time, rowid AS source_row FROM recommendations WHERE positive
        """,
        label="Interactions",
    )
    feedback = " or ".join(labels)
    left_out += _counted(connection, path, f"recommendation without {feedback}", "recommendations", "NOT positive")
    connection.execute("DROP TABLE recommendations")
    return left_out


def _read_searches(
    connection: duckdb.DuckDBPyConnection, path: Path, reading: KuaiSARReading, action: str
) -> list[BadRows]:
    """Fill ``searches`` with one search per session of a user. Different words or times make different searches."""
    types = ", ".join(f"'{kind}'" for kind in RECOMMENDED_TYPES)
    kept_type = f"coalesce(item_type IN ({types}), false)" if reading.recommended_types_only else "true"
    load_csv(
        connection,
        path,
        "results",
        {
            "user": _id("user_id"),
            "session": _id("search_session_id"),
            "time": _seconds("search_session_timestamp"),
            "words": _words("keyword"),
            "item": _id("item_id"),
            "clicked": f"{_number('click_cnt')} > 0",
            "kept_type": kept_type,
        },
        {
            **_missing_ids("user_id", "search_session_id", "item_id"),
            "search_session_timestamp is not a time in milliseconds": (
                f"NOT {_MILLISECONDS.format(_number('search_session_timestamp'))}"
            ),
            "keyword is not a list of numbers": f"NOT coalesce(regexp_matches(keyword, '{_LIST}'), false)",
            "click_cnt is not a number of 0 or more": _not_a_count("click_cnt"),
        },
        [
            *("user_id", "search_session_id", "search_session_timestamp", "keyword", "item_id", "click_cnt"),
            *(["item_type"] if reading.recommended_types_only else []),
        ],
    )
    left_out = handle_bad_csv_rows(connection, path, "results", action)
    run(
        connection,
        """
        CREATE TABLE sessions AS
        SELECT user, session, time, words, min(rowid) AS source_row,
            list(item ORDER BY rowid) FILTER (WHERE clicked AND kept_type) AS items
        FROM results GROUP BY user, session, time, words
        """,
        label="Searches",
    )
    connection.execute(
        """
        CREATE TABLE searches AS
        SELECT user, words AS query, time, coalesce(items, []) AS items, source_row FROM sessions
        """
    )
    _log_split_sessions(connection)
    problem = f"clicked result of another type than {' and '.join(RECOMMENDED_TYPES)}"
    left_out += _counted(connection, path, problem, "results", "clicked AND NOT kept_type")
    connection.execute("DROP TABLE results; DROP TABLE sessions")
    return left_out


def _log_split_sessions(connection: duckdb.DuckDBPyConnection) -> None:
    split = count(
        connection,
        "SELECT count(*) FROM (SELECT user, session FROM sessions GROUP BY user, session HAVING count(*) > 1)",
    )
    if split:
        logger.info(
            "%s search sessions have several keywords or times; each combination becomes a search.", f"{split:,}"
        )


def _read_items(
    connection: duckdb.DuckDBPyConnection, path: Path, reading: KuaiSARReading, options: Options
) -> list[BadRows]:
    """Fill ``items`` with the texts of the items in the events, or of all items."""
    categories = [f"{level}_level_category{LANGUAGES[reading.category_language]}" for level in _LEVELS]
    load_csv(
        connection,
        path,
        "features",
        {
            "item": _id("item_id"),
            "title": f"coalesce({_words('caption')}, '')",
            "categories": f"concat_ws(' ', {', '.join(map(_category, categories))})",
        },
        _missing_ids("item_id"),
        ["item_id", "caption", *categories],
    )
    connection.execute(
        """
        CREATE TEMP TABLE mentioned AS SELECT item FROM interactions UNION SELECT unnest(items) FROM searches
        """
    )
    wanted = "true" if options.all_items else "item IN (SELECT item FROM mentioned) OR problem IS NOT NULL"
    run(
        connection,
        f"CREATE TABLE texts AS SELECT rowid AS row, item, title, categories, problem FROM features WHERE {wanted}",
        label="Items",
    )
    connection.execute(
        """
        UPDATE texts SET problem = 'duplicate item'
        FROM (SELECT item, min(row) AS first FROM texts GROUP BY item HAVING count(*) > 1) AS repeated
        WHERE texts.item = repeated.item AND texts.row > repeated.first
        """
    )
    left_out = handle_bad_csv_rows(connection, path, "texts", options.bad_rows, rejects="features", row="row")
    connection.execute(
        """
        CREATE TABLE items AS SELECT item, title, categories FROM texts;
        DROP TABLE features; DROP TABLE texts; DROP TABLE mentioned
        """
    )
    return left_out


def _counted(
    connection: duckdb.DuckDBPyConnection, path: Path, problem: str, table: str, condition: str
) -> list[BadRows]:
    """Count valid rows that are left out, so that the counts cover all rows of the file."""
    rows = count(connection, f"SELECT count(*) FROM {table} WHERE {condition}")
    return [BadRows(path.name, problem, rows, ())] if rows else []


def _id(column: str) -> str:
    """SQL for an id. Floats such as ``7.0``, from tables with missing values, become whole numbers again."""
    return f"if(ends_with({column}, '.0'), left({column}, -2), {column})"


def _missing_ids(*columns: str) -> dict[str, str]:
    missing = {f"{column} is missing": f"coalesce({column}, '') = ''" for column in columns}
    spaces = {f"{column} contains white space": f"regexp_matches({column}, '[\\s\\pZ]')" for column in columns}
    return missing | spaces


def _number(column: str) -> str:
    # Without trim(), DuckDB's CSV reader would convert the column itself and raise its own errors.
    return f'try_cast(trim("{column}") AS DOUBLE)'


def _seconds(column: str) -> str:
    return f"{_number(column)} / 1000"


def _not_a_count(column: str) -> str:
    number = _number(column)
    return f"NOT coalesce({number} >= 0 AND isfinite({number}), false)"


def _words(column: str) -> str:
    """SQL for the numbers of a list such as ``[20, 34, 3]``, joined by spaces."""
    return f"trim(regexp_replace({column}, '[\\[\\],\\s]+', ' ', 'g'))"


def _category(column: str) -> str:
    return f"CASE WHEN lower(trim({column})) NOT IN ('', 'empty', 'unknown', '空', '未知') THEN trim({column}) END"
