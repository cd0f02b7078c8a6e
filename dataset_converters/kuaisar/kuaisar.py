"""Converter of KuaiSAR and KuaiSAR-small: search and recommendation logs of the same users of a short-video app.

Clicked recommendations are the interactions. Each search session is a search. Its keyword, a list of word ids, is the
query, and its clicked results are the items. An item's title is its caption, which uses the same word ids.

https://kuaisar.github.io, Sun et al., CIKM 2023.
"""

import dataclasses
import logging
from pathlib import Path

import duckdb

from dataset_converters.bad_rows import BadRows, count_left_out
from dataset_converters.choices import AS_WORDS, FEEDBACK, KUAISAR, LANGUAGES, KuaiSARReading, Options
from dataset_converters.conversion import convert
from dataset_converters.delimited import (
    find_files,
    handle_bad_csv_rows,
    load_csv,
    load_items,
    missing_ids,
    not_a_count,
    number_in,
)
from dataset_converters.workspace import count, run

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
    paths = find_files(Path(source), _FILES, _LAYOUT)

    def read(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
        return [
            *_read_interactions(connection, paths["rec_inter.csv"], reading, options.bad_rows),
            *_read_searches(connection, paths["src_inter.csv"], reading, options.bad_rows),
            *_read_items(connection, paths["item_features.csv"], reading, options),
        ]

    return convert(output_dir, name, "kuaisar", paths, read, options, settings=dataclasses.asdict(reading))


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
            "positive": " OR ".join(f"{number_in(label)} > 0" for label in labels) or "true",
        },
        {
            **missing_ids("user_id", "item_id"),
            "timestamp is not a time in milliseconds": f"NOT {_MILLISECONDS.format(number_in('timestamp'))}",
            **{f"{label} is not a number of 0 or more": not_a_count(label) for label in labels},
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
    left_out += count_left_out(
        connection, path.name, f"recommendation without {feedback}", "recommendations", "NOT positive"
    )
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
            "clicked": f"{number_in('click_cnt')} > 0",
            "kept_type": kept_type,
        },
        {
            **missing_ids("user_id", "search_session_id", "item_id"),
            "search_session_timestamp is not a time in milliseconds": (
                f"NOT {_MILLISECONDS.format(number_in('search_session_timestamp'))}"
            ),
            "keyword is not a list of numbers": f"NOT coalesce(regexp_matches(keyword, '{_LIST}'), false)",
            "click_cnt is not a number of 0 or more": not_a_count("click_cnt"),
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
    left_out += count_left_out(connection, path.name, problem, "results", "clicked AND NOT kept_type")
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
    texts = {
        "title": f"coalesce({_words('caption')}, '')",
        "categories": f"concat_ws(' ', {', '.join(map(_category, categories))})",
    }
    required = ["item_id", "caption", *categories]
    return load_items(connection, path, _id("item_id"), texts, missing_ids("item_id"), required, options)


def _id(column: str) -> str:
    """SQL for an id. Floats such as ``7.0``, from tables with missing values, become whole numbers again."""
    return f"if(ends_with({column}, '.0'), left({column}, -2), {column})"


def _seconds(column: str) -> str:
    return f"{number_in(column)} / 1000"


def _words(column: str) -> str:
    """SQL for the numbers of a list such as ``[20, 34, 3]``, joined by spaces."""
    return f"trim(regexp_replace({column}, '[\\[\\],\\s]+', ' ', 'g'))"


def _category(column: str) -> str:
    return f"CASE WHEN lower(trim({column})) NOT IN ('', 'empty', 'unknown', '空', '未知') THEN trim({column}) END"
