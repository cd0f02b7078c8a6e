"""Reading of Amazon reviews as interactions, from JSON lines or tables separated by commas or tabs."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from dataset_converters.amazon.source_files import Edition, batches_of_lines, first_line
from dataset_converters.bad_rows import BadRows, handle_bad_rows
from dataset_converters.workspace import run
from recbole_gserec.errors import DataError

# Amazon opened in 1995. A value outside this range has another unit or is not a time.
_FIRST_TIME, _LAST_TIME = "epoch(DATE '1995-01-01')", "epoch(DATE '2100-01-01')"
_NO_ID = r"[\s\x00-\x1f\x7f]|^\""
_ADVICE = {
    "not UTF-8": "Convert the file to UTF-8.",
    "not JSON": "Give one JSON object per line.",
}
# An unpaired surrogate, which Python writes into JSON but DuckDB refuses to read.
_HALF_CHARACTER = r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"


def read_reviews(connection: duckdb.DuckDBPyConnection, path: Path, edition: Edition, bad_rows: str) -> list[BadRows]:
    """Fill the table ``interactions``. ``source_row`` is the line number.

    Args:
        connection: Connection to the workspace.
        path: File of the reviews.
        edition: Edition of the file.
        bad_rows: ``error`` or ``skip``.

    Returns:
        The rows left out.

    Raises:
        DataError: If a column is missing, or ``bad_rows`` is ``error`` and a row is bad.
    """
    keys = [key for key in (edition.user, edition.item, edition.rating, edition.time) if key]
    is_json = first_line(path).lstrip().startswith("{")
    fields = _fields_of_json(keys) if is_json else _fields_of_table(path, keys)
    batches = batches_of_lines(path) if is_json else _below_header(path)
    connection.execute(
        'CREATE TABLE reviews ("user" VARCHAR, item VARCHAR, rating DOUBLE, time DOUBLE, file VARCHAR, line BIGINT, '
        "problem VARCHAR)"
    )
    insert = f"INSERT INTO reviews {_select(fields, edition)}"
    for batch in batches:
        connection.register("lines", batch)
        connection.execute(insert, {"file": path.name})
    left_out = handle_bad_rows(connection, "reviews", {path.name: path}, bad_rows, _ADVICE)
    rating = "rating, " if edition.rating else ""
    run(
        connection,
        f'CREATE TABLE interactions AS SELECT "user", item, {rating}time, line AS source_row FROM reviews',
        label="Storing interactions",
    )
    connection.execute("DROP TABLE reviews")
    return left_out


def _fields_of_json(keys: list[str]) -> str:
    """SQL for the values of the keys in ``text``, as a list of strings; NULL if the text is not JSON."""
    paths = ", ".join(f"'$.{key}'" for key in keys)
    repaired = f"regexp_replace(text, '{_HALF_CHARACTER}', '?', 'g')"
    return f"""
        CASE WHEN json_valid(text) THEN json_extract_string(text, [{paths}])
             WHEN contains(text, '\\u') AND json_valid({repaired}) THEN json_extract_string({repaired}, [{paths}]) END
    """


def _fields_of_table(path: Path, keys: list[str]) -> str:
    """SQL for the values of the columns in ``text``, as a list of strings; NULL if the number of cells is wrong."""
    header = first_line(path)
    delimiter = "\t" if "\t" in header else ","
    names = [name.strip('"') for name in header.split(delimiter)]
    for key in keys:
        if key not in names:
            raise DataError(path, f"no column '{key}'", f"The header needs the columns {', '.join(keys)}.", line=1)
    cells = ", ".join(f"trim(string_split(text, '{delimiter}')[{names.index(key) + 1}], '\"')" for key in keys)
    return f"CASE WHEN len(string_split(text, '{delimiter}')) = {len(names)} THEN [{cells}] END"


def _below_header(path: Path) -> Iterator[pa.Table]:
    at_start = True
    for batch in batches_of_lines(path):
        yield batch.slice(1) if at_start and len(batch) else batch
        at_start = at_start and not len(batch)


def _select(fields: str, edition: Edition) -> str:
    """SQL that selects rows of ``reviews`` from ``lines``."""
    rating = "fields[3]" if edition.rating else "'0'"
    time = "fields[4]" if edition.rating else "fields[3]"
    missing = {edition.user: "fields[1]", edition.item: "fields[2]", edition.time: time}
    if edition.rating:
        missing[edition.rating] = rating
    problems = [
        ("NOT readable", "not UTF-8 text"),
        ("fields IS NULL", "not JSON, or a row that is shorter or longer than the header"),
        *((f"coalesce(trim({value}), '') = ''", f"{key} is missing") for key, value in missing.items()),
        *(
            (f"regexp_matches({missing[key]}, '{_NO_ID}')", f"{key} contains white space or a quotation mark")
            for key in (edition.user, edition.item)
        ),
        *(
            (f"coalesce(isfinite(TRY_CAST({value} AS DOUBLE)), false) = false", f"{key} is not a number")
            for key, value in missing.items()
            if key in (edition.rating, edition.time)
        ),
        _impossible_time(edition),
    ]
    cases = " ".join(f"WHEN {condition} THEN '{problem}'" for condition, problem in problems)
    return f"""
        SELECT fields[1], fields[2], TRY_CAST({rating} AS DOUBLE), time, $file, line, CASE {cases} END
        FROM (
            SELECT *, TRY_CAST({time} AS DOUBLE) / {edition.units_per_second or 1} AS time
            FROM (SELECT line, readable, {fields} AS fields FROM lines)
        )
    """


def _impossible_time(edition: Edition) -> tuple[str, str]:
    if edition.units_per_second is None:
        return "time < 0", f"{edition.time} is negative"
    unit = {1: "seconds", 1000: "milliseconds"}[edition.units_per_second]
    return (
        f"NOT (time >= {_FIRST_TIME} AND time < {_LAST_TIME})",
        f"{edition.time} is not a time between 1995 and 2100 in {unit} since 1970",
    )
