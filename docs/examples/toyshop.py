"""A converter of one's own, complete: searches and clicks of a toy shop in two files with tabs between the cells.

Each click is an interaction. A click that names a search is also a click in that search. The search has the time of its
last click, because a model that sees a search sees all its clicks.
"""

import sys
from pathlib import Path

import duckdb

from dataset_converters import BadRows, Options, convert, handle_bad_csv_rows, load_csv

COLUMNS = {"searches": ["search", "user", "time", "query"], "clicks": ["user", "item", "time", "search"]}
NEEDED = {"searches": ["search", "user"], "clicks": ["user", "item"]}
TIME = "try_cast(trim(time) AS DOUBLE)"


def convert_toyshop(output_dir: Path, source: Path, name: str = "toyshop", options: Options | None = None) -> Path:
    """Make the dataset ``<output_dir>/<name>`` from ``searches.tsv`` and ``clicks.tsv`` in a folder."""
    options = options or Options()
    paths = {table: source / f"{table}.tsv" for table in COLUMNS}

    def read(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
        bad_rows = []
        for table, path in paths.items():
            columns = {column: column for column in COLUMNS[table]} | {"time": TIME}
            problems = {f"{column} is missing": f"{column} IS NULL" for column in NEEDED[table]}
            problems["time is not a number"] = f"NOT coalesce(isfinite({TIME}), false)"
            load_csv(connection, path, f"raw_{table}", columns, problems, COLUMNS[table], delimiter="\t")
            bad_rows += handle_bad_csv_rows(connection, path, f"raw_{table}", options.bad_rows, delimiter="\t")
        connection.execute(
            """
            CREATE TABLE interactions AS SELECT user, item, time, rowid AS source_row FROM raw_clicks;
            CREATE TABLE searches AS
                SELECT user, query, coalesce(last, time) AS time, coalesce(items, []) AS items,
                    raw_searches.rowid AS source_row
                FROM raw_searches LEFT JOIN (
                    SELECT search, list(item ORDER BY rowid) AS items, max(time) AS last FROM raw_clicks GROUP BY search
                ) USING (search);
            CREATE TABLE items (item VARCHAR);
            DROP TABLE raw_clicks;
            DROP TABLE raw_searches;
            """
        )
        return bad_rows

    return convert(output_dir, name, "toyshop", {path.name: path for path in paths.values()}, read, options)


if __name__ == "__main__":
    print(convert_toyshop(Path(sys.argv[2]), Path(sys.argv[1])))
