"""The statistics of a dataset with searches (Table 1 and Figure 1 of GSERec), from tables or from its folder."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from dataset_converters.workspace import count, workspace
from recbole_gserec.files import field_types, read_columns

#: Upper bounds of the user groups by number of searches. Users above the last bound form one more group.
GROUPS = (0, 5, 10, 20, 50)

# Times within these years count as seconds or milliseconds since 1970.
_CLOCK = tuple(datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (1990, 2100))


@dataclass(frozen=True)
class Spread:
    """Distribution of a number. Quartiles are interpolated between two values if needed."""

    mean: float
    lowest: float
    lower_quartile: float
    median: float
    upper_quartile: float
    highest: float


@dataclass(frozen=True)
class TimeRange:
    """First and last time, also as UTC dates (ISO 8601) if they look like seconds or milliseconds since 1970."""

    first: float
    last: float
    first_date: str | None
    last_date: str | None


@dataclass(frozen=True)
class Group:
    """Users with a similar number of searches.

    Args:
        label: Label of the group, such as ``6-10``.
        fewest: Lower bound of the number of searches.
        most: Upper bound of the number of searches. None for the last group.
        users: Number of users in the group.
        interactions: Number of interactions of these users.
    """

    label: str
    fewest: int
    most: int | None
    users: int
    interactions: int


@dataclass(frozen=True)
class Statistics:
    """Statistics of a dataset. ``dataclasses.asdict`` turns them into plain JSON.

    Args:
        users: Number of users with interactions or searches.
        items: Number of items in interactions or clicked in searches.
        queries: Number of queries with different words.
        searches: Number of searches: the paper's "#Interaction-S", if it counts searches.
        clicks: Number of clicks in searches: the paper's "#Interaction-S", if it counts clicks.
        interactions: Number of interactions: the paper's "#Interaction-R".
        users_with_searches: Number of users with at least one search.
        users_without_searches: Number of users with interactions only.
        users_who_only_search: Number of users with searches only.
        items_interacted: Number of items in interactions.
        items_only_searched: Number of items clicked in searches that are in no interaction.
        items_with_text: Number of items with a row in the ``.item`` file.
        searches_without_clicks: Number of searches without a clicked item.
        queries_without_words: Number of queries without words, such as ``???``.
        words_per_query: Distribution over the different queries.
        interactions_per_user: Distribution over the users who interact.
        searches_per_user: Distribution over all users.
        interaction_times: Time range of the interactions.
        search_times: Time range of the searches. A different unit from the interactions is visible here.
        tied_interactions: Share of interactions with the same user and time as another interaction.
        searches_at_an_interaction: Share of searches with the same user and time as an interaction. The model does not
            see these searches for that interaction.
        interactions_after_a_search: Share of interactions with an earlier search of the same user.
        density: Number of interactions divided by the number of pairs of a user and an item that have interactions.
        users_by_searches: Users grouped by number of searches, as in the paper's Figure 1.
    """

    users: int
    items: int
    queries: int
    searches: int
    clicks: int
    interactions: int
    users_with_searches: int
    users_without_searches: int
    users_who_only_search: int
    items_interacted: int
    items_only_searched: int
    items_with_text: int
    searches_without_clicks: int
    queries_without_words: int
    words_per_query: Spread | None
    interactions_per_user: Spread | None
    searches_per_user: Spread | None
    interaction_times: TimeRange | None
    search_times: TimeRange | None
    tied_interactions: float | None
    searches_at_an_interaction: float | None
    interactions_after_a_search: float | None
    density: float | None
    users_by_searches: tuple[Group, ...]


def collect_statistics(connection: duckdb.DuckDBPyConnection, groups: Sequence[int] = GROUPS) -> Statistics:
    """Compute the statistics of a dataset.

    Args:
        connection: Connection to a database with the tables ``interactions``, ``searches`` and ``items`` of a
            conversion (:mod:`dataset_converters.conversion`), and ``queries`` (``query_id, words``).
        groups: Upper bounds of the user groups by number of searches, ascending.
    """
    connection.execute(_USERS)
    connection.execute(_ITEMS)
    users, users_with_searches, users_who_only_search, interactions, searches = _row(connection, _COUNT_USERS)
    items, items_interacted, items_with_text = _row(connection, _COUNT_ITEMS)
    clicks, searches_without_clicks = _row(connection, _COUNT_CLICKS)
    queries, queries_without_words = _row(
        connection, "SELECT count(*), count(*) FILTER (WHERE words = '') FROM queries"
    )
    pairs = (users - users_who_only_search) * items_interacted
    found = Statistics(
        users=users,
        items=items,
        queries=queries,
        searches=searches,
        clicks=clicks,
        interactions=interactions,
        users_with_searches=users_with_searches,
        users_without_searches=users - users_with_searches,
        users_who_only_search=users_who_only_search,
        items_interacted=items_interacted,
        items_only_searched=items - items_interacted,
        items_with_text=items_with_text,
        searches_without_clicks=searches_without_clicks,
        queries_without_words=queries_without_words,
        words_per_query=_spread(connection, "len(list_filter(string_split(words, ' '), lambda x: x <> ''))", "queries"),
        interactions_per_user=_spread(connection, "interactions", "users_counted WHERE interactions > 0"),
        searches_per_user=_spread(connection, "searches", "users_counted"),
        interaction_times=_time_range(connection, "interactions"),
        search_times=_time_range(connection, "searches"),
        tied_interactions=_share(_row(connection, _TIED)[0], interactions),
        searches_at_an_interaction=_share(_row(connection, _AT_AN_INTERACTION)[0], searches),
        interactions_after_a_search=_share(_row(connection, _AFTER_A_SEARCH)[0], interactions),
        density=_share(interactions, pairs),
        users_by_searches=_users_by_searches(connection, groups),
    )
    connection.execute("DROP TABLE users_counted; DROP TABLE items_counted")
    return found


_USERS = """
    CREATE OR REPLACE TEMP TABLE users_counted AS
    SELECT user, sum(interactions)::BIGINT AS interactions, sum(searches)::BIGINT AS searches
    FROM (
        SELECT user, count(*) AS interactions, 0 AS searches FROM interactions GROUP BY user
        UNION ALL
        SELECT user, 0, count(*) FROM searches GROUP BY user
    ) GROUP BY user
"""
_ITEMS = """
    CREATE OR REPLACE TEMP TABLE items_counted AS
    SELECT item, bool_or(interacted) AS interacted
    FROM (
        SELECT DISTINCT item, true AS interacted FROM interactions
        UNION ALL
        SELECT DISTINCT unnest(items), false FROM searches
    ) GROUP BY item
"""
_COUNT_USERS = """
    SELECT count(*), count(*) FILTER (WHERE searches > 0), count(*) FILTER (WHERE interactions = 0),
        coalesce(sum(interactions), 0)::BIGINT, coalesce(sum(searches), 0)::BIGINT
    FROM users_counted
"""
_COUNT_ITEMS = """
    SELECT count(*), count(*) FILTER (WHERE interacted), count(*) FILTER (WHERE item IN (SELECT item FROM items))
    FROM items_counted
"""
_COUNT_CLICKS = (
    "SELECT coalesce(sum(len(items)), 0)::BIGINT, count(*) FILTER (WHERE coalesce(len(items), 0) = 0) FROM searches"
)
_TIED = """
    SELECT coalesce(sum(n), 0)::BIGINT
    FROM (SELECT count(*) AS n FROM interactions GROUP BY user, time HAVING count(*) > 1)
"""
_AT_AN_INTERACTION = "SELECT count(*) FROM searches SEMI JOIN interactions USING (user, time)"
_AFTER_A_SEARCH = """
    SELECT count(*) FROM interactions
    JOIN (SELECT user, min(time) AS first FROM searches GROUP BY user) USING (user)
    WHERE first < time
"""


def _row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple:
    return connection.execute(sql).fetchall()[0]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _spread(connection: duckdb.DuckDBPyConnection, value: str, table: str) -> Spread | None:
    numbers = _row(
        connection,
        f"""
        SELECT avg(x), min(x)::DOUBLE, quantile_cont(x, 0.25), median(x), quantile_cont(x, 0.75), max(x)::DOUBLE
        FROM (SELECT {value} AS x FROM {table})
        """,
    )
    return None if numbers[0] is None else Spread(*numbers)


def _time_range(connection: duckdb.DuckDBPyConnection, table: str) -> TimeRange | None:
    first, last = _row(connection, f"SELECT min(time), max(time) FROM {table}")
    if first is None:
        return None
    for unit in (1, 1000):
        if _CLOCK[0] * unit <= first <= last < _CLOCK[1] * unit:
            dates = (datetime.fromtimestamp(time / unit, UTC) for time in (first, last))
            return TimeRange(first, last, *(date.isoformat(timespec="seconds") for date in dates))
    return TimeRange(first, last, None, None)


def _users_by_searches(connection: duckdb.DuckDBPyConnection, groups: Sequence[int]) -> tuple[Group, ...]:
    bounds = list(groups)
    if not bounds or bounds[0] < 0 or any(low >= high for low, high in zip(bounds, bounds[1:], strict=False)):
        raise ValueError(f"groups {bounds} must be ascending numbers of at least 0")
    found = []
    for fewest, most in zip([0, *(bound + 1 for bound in bounds)], [*bounds, None], strict=True):
        within = f"searches BETWEEN {fewest} AND {most}" if most is not None else f"searches >= {fewest}"
        users, interactions = _row(
            connection,
            f"SELECT count(*), coalesce(sum(interactions), 0)::BIGINT FROM users_counted WHERE {within}",
        )
        found.append(Group(_label(fewest, most), fewest, most, users, interactions))
    return tuple(found)


def _label(fewest: int, most: int | None) -> str:
    if most is None:
        return f">{fewest - 1}"
    return f"{fewest}" if fewest == most else f"{fewest}-{most}"


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
        groups: As for :func:`dataset_converters.statistics.statistics.collect_statistics`.
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
