"""Detection of a file's layout: its columns, and its dialect or types."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import duckdb

from dataset_converters import logs_csv, logs_json
from dataset_converters.logs_columns import is_usual_name, printable
from dataset_converters.logs_csv import Dialect
from dataset_converters.logs_files import LogFile, open_text, reject_utf16
from dataset_converters.workspace import escape_pattern
from recbole_gserec.errors import DataError

_SAMPLE_CHARACTERS = 1 << 18
_SAMPLE_OBJECTS = 1000


@dataclass(frozen=True)
class Layout:
    """Layout of one file.

    Args:
        file: The file.
        columns: Column names in order.
        dialect: Dialect of a CSV file.
        header: Whether a CSV file has a header. Otherwise its columns are named ``column1``, ``column2``, ...
        types: Column types of a Parquet file.
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


def inspect_file(
    file: LogFile,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    quote: str | None = None,
    names: Iterable[str] = (),
) -> Layout:
    """Detect the layout of a file from its beginning.

    Args:
        file: The file.
        encoding: Encoding of a text file.
        delimiter: Delimiter of a CSV file, if known.
        quote: Quotation mark of a CSV file, if known. The empty string means no quotes.
        names: Column names requested by the user, in lower case.

    Raises:
        DataError: If the file is empty, damaged or in another format.
    """
    if file.kind == "parquet":
        return _inspect_parquet(file)
    with open_text(file, encoding) as (text, _):
        # The sample ends with a whole line.
        sample = text.read(_SAMPLE_CHARACTERS) + text.readline()
    reject_utf16(file, encoding)
    if not sample.strip():
        raise DataError(file.path, "the file is empty", "Give a file with rows.")
    if file.kind == "json":
        return _inspect_json(file, sample, encoding)
    return _inspect_csv(file, sample, delimiter, quote, set(names))


def _inspect_csv(file: LogFile, sample: str, delimiter: str | None, quote: str | None, names: set[str]) -> Layout:
    dialect = logs_csv.detect_dialect(sample, delimiter, quote)
    first = logs_csv.first_row(sample, dialect)
    if first is None:
        raise DataError(file.path, "no row can be read", "Use a CSV file, or set --quote and --delimiter.")
    cells = [cell.strip() for cell in first]
    numbered = tuple(f"column{number}" for number in range(1, len(cells) + 1))
    named_by_user = names & {cell.lower() for cell in cells}
    # If the user requests columns by number, the file has no header.
    by_number = bool(names & set(numbered)) and not named_by_user
    if named_by_user or (not by_number and logs_csv.has_header(cells, is_usual_name)):
        return Layout(file, tuple(cells), dialect, header=True)
    return Layout(file, numbered, dialect, header=False)


def _inspect_json(file: LogFile, sample: str, encoding: str) -> Layout:
    if sample.lstrip().startswith("["):
        advice = "Use JSON Lines, one object per line (convert with jq -c '.[]')."
        raise DataError(file.path, "the file is a JSON array", advice)
    with open_text(file, encoding) as (text, _):
        names = logs_json.key_names(itertools.islice(text, _SAMPLE_OBJECTS))
    if not names:
        raise DataError(file.path, "none of the first lines is a JSON object", "Use JSON Lines, one object per line.")
    return Layout(file, tuple(names))


def _inspect_parquet(file: LogFile) -> Layout:
    with duckdb.connect() as connection:
        try:
            # With hive partitioning, a folder named user=bob would replace the file's own column.
            select = "SELECT * FROM read_parquet(?, hive_partitioning = false)"
            described = connection.execute(f"DESCRIBE {select}", [escape_pattern(file.path)]).fetchall()
        except duckdb.Error as error:
            raise damaged_parquet(file, error) from None
    types = {name: kind for name, kind, *_ in described}
    return Layout(file, tuple(types), types=types)


def damaged_parquet(file: LogFile, error: duckdb.Error) -> DataError:
    """The error of a Parquet file that the database cannot read."""
    return DataError(file.path, f"not a complete Parquet file ({str(error).splitlines()[0]})", "Download it again.")


def column_index(layout: Layout, column: str) -> int:
    """Find the index of a column.

    Raises:
        DataError: If the column is missing or not unique.
    """
    found = [index for index, name in enumerate(layout.columns) if name == column]
    if len(found) == 1:
        return found[0]
    if found:
        advice = "Give each column a unique name."
        raise DataError(layout.file.path, f"two columns are named '{printable(column)}'", advice)
    columns = ", ".join(map(printable, layout.columns))
    problem = f"no column '{printable(column)}', which the first file has"
    raise DataError(layout.file.path, problem, f"The columns are {columns}.")
