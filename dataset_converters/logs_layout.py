"""How a file of a log is laid out: its columns, and what has to be known to read its rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import duckdb

from dataset_converters import logs_csv, logs_json
from dataset_converters.logs_columns import is_usual, shown
from dataset_converters.logs_csv import Dialect
from dataset_converters.logs_files import LogFile, opened, refuse_utf16
from dataset_converters.workspace import one_file
from recbole_gserec.errors import DataError

_SAMPLE_CHARACTERS = 1 << 18
_SAMPLE_OBJECTS = 1000


@dataclass(frozen=True)
class Layout:
    """One file.

    Args:
        file: The file.
        columns: Names of its columns, in order.
        dialect: Of separated text.
        header: Whether the first row of separated text has the names; otherwise they are ``column1``, ``column2``, ...
        types: Of the columns of a Parquet file.
    """

    file: LogFile
    columns: tuple[str, ...]
    dialect: Dialect | None = None
    header: bool = False
    types: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.dialect is not None:
            return f"text {self.dialect}, {'with' if self.header else 'without'} a header"
        return "Parquet" if self.types else "JSON Lines"


def inspect(
    file: LogFile,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    quote: str | None = None,
    names: Iterable[str] = (),
) -> Layout:
    """Find out how a file is laid out, from its beginning.

    Args:
        file: The file.
        encoding: Of a text.
        delimiter: Of separated text, if it is known.
        quote: Of separated text, if it is known; the empty string says that nothing is quoted.
        names: Names of columns that the user gives, in lower case.

    Raises:
        DataError: If the file is empty, damaged or of another format.
    """
    if file.kind == "parquet":
        return _inspect_parquet(file)
    with opened(file, encoding) as (text, _):
        # Separated rows are read to the end of a line, so that the sample cuts none.
        sample = text.read(_SAMPLE_CHARACTERS) + text.readline()
    refuse_utf16(file, encoding)
    if not sample.strip():
        raise DataError(file.path, "the file is empty", "Give a file with rows.")
    if file.kind == "json":
        return _inspect_json(file, sample, encoding)
    return _inspect_csv(file, sample, delimiter, quote, set(names))


def _inspect_csv(file: LogFile, sample: str, delimiter: str | None, quote: str | None, names: set[str]) -> Layout:
    dialect = logs_csv.detect(sample, delimiter, quote)
    first = logs_csv.first_row(sample, dialect)
    if first is None:
        raise DataError(file.path, "no row of it can be read", "Give separated text, or --quote and --delimiter.")
    cells = [cell.strip() for cell in first]
    numbered = tuple(f"column{number}" for number in range(1, len(cells) + 1))
    named_by_user = names & {cell.lower() for cell in cells}
    # Who names columns by their numbers says that they have no names.
    by_number = bool(names & set(numbered)) and not named_by_user
    if named_by_user or (not by_number and logs_csv.has_header(cells, is_usual)):
        return Layout(file, tuple(cells), dialect, header=True)
    return Layout(file, numbered, dialect, header=False)


def _inspect_json(file: LogFile, sample: str, encoding: str) -> Layout:
    if sample.lstrip().startswith("["):
        remedy = "Give JSON Lines, one object a line (jq -c '.[]' makes them)."
        raise DataError(file.path, "one JSON array", remedy)
    with opened(file, encoding) as (text, _):
        names = logs_json.names(itertools.islice(text, _SAMPLE_OBJECTS))
    if not names:
        raise DataError(file.path, "none of its first lines is a JSON object", "Give JSON Lines, one object a line.")
    return Layout(file, tuple(names))


def _inspect_parquet(file: LogFile) -> Layout:
    with duckdb.connect() as connection:
        try:
            # A folder named user=bob would otherwise take the place of the file's own column.
            select = "SELECT * FROM read_parquet(?, hive_partitioning = false)"
            described = connection.execute(f"DESCRIBE {select}", [one_file(file.path)]).fetchall()
        except duckdb.Error as error:
            raise damaged_parquet(file, error) from None
    types = {name: kind for name, kind, *_ in described}
    return Layout(file, tuple(types), types=types)


def damaged_parquet(file: LogFile, error: duckdb.Error) -> DataError:
    """The error of a Parquet file that the database cannot read."""
    return DataError(file.path, f"not a whole Parquet file ({str(error).splitlines()[0]})", "Get it again.")


def place_of(layout: Layout, column: str) -> int:
    """The index of a column.

    Raises:
        DataError: If it is not there, or twice.
    """
    found = [index for index, name in enumerate(layout.columns) if name == column]
    if len(found) == 1:
        return found[0]
    if found:
        remedy = "Give each column a name of its own."
        raise DataError(layout.file.path, f"two columns are named '{shown(column)}'", remedy)
    columns = ", ".join(map(shown, layout.columns))
    problem = f"there is no column '{shown(column)}', as in the first file"
    raise DataError(layout.file.path, problem, f"The columns are {columns}.")
