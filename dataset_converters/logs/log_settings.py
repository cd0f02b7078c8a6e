"""Settings of a conversion of logs, and the layout of the files they name."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import duckdb

from dataset_converters.choices import NO_QUERY
from dataset_converters.logs.columns import Columns, is_usual_name, printable, requested_names, resolve_columns
from dataset_converters.logs.csv_text import Dialect, detect_dialect, first_row, has_header
from dataset_converters.logs.sources import LogFile, find_log_files, is_empty, key_names, open_text, reject_utf16
from dataset_converters.logs.sql_tables import CellSettings
from dataset_converters.logs.times import TimeSettings
from dataset_converters.workspace import escape_pattern
from recbole_gserec.errors import DataError, SettingError

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
    dialect = detect_dialect(sample, delimiter, quote)
    first = first_row(sample, dialect)
    if first is None:
        raise DataError(file.path, "no row can be read", "Use a CSV file, or set --quote and --delimiter.")
    cells = [cell.strip() for cell in first]
    numbered = tuple(f"column{number}" for number in range(1, len(cells) + 1))
    named_by_user = names & {cell.lower() for cell in cells}
    # If the user requests columns by number, the file has no header.
    by_number = bool(names & set(numbered)) and not named_by_user
    if named_by_user or (not by_number and has_header(cells, is_usual_name)):
        return Layout(file, tuple(cells), dialect, header=True)
    return Layout(file, numbered, dialect, header=False)


def _inspect_json(file: LogFile, sample: str, encoding: str) -> Layout:
    if sample.lstrip().startswith("["):
        advice = "Use JSON Lines, one object per line (convert with jq -c '.[]')."
        raise DataError(file.path, "the file is a JSON array", advice)
    with open_text(file, encoding) as (text, _):
        names = key_names(itertools.islice(text, _SAMPLE_OBJECTS))
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


_NAMES_SHOWN = 3


@dataclass(frozen=True)
class LogSettings:
    """How to read the logs. Values of None are detected from the files.

    Args:
        columns: For ``interactions``, ``searches`` and ``items``, the columns of each meaning.
        encoding: Encoding of text files.
        delimiter: Delimiter of the cells in CSV files.
        quote: Quotation mark around cells in CSV files. The empty text or ``none`` means no quotes.
        click_separator: Separator of the clicked items in a cell.
        time_unit: Unit of numeric times (:data:`dataset_converters.choices.UNITS`).
        time_format: Format of dates, as for ``strptime``.
        time_zone: Time zone of dates without one.
        no_query: Texts that mean "no query", upper or lower case.
        replace_spaces: Replace white space in item ids by ``_``.
        allow_disjoint_times: Accept logs that do not overlap in time.
    """

    columns: Mapping[str, Columns] = field(default_factory=dict)
    encoding: str = "utf-8"
    delimiter: str | None = None
    quote: str | None = None
    click_separator: str | None = None
    time_unit: str | None = None
    time_format: str | None = None
    time_zone: str = "UTC"
    no_query: tuple[str, ...] = NO_QUERY
    replace_spaces: bool = False
    allow_disjoint_times: bool = False

    def __post_init__(self) -> None:
        for name, value in (("delimiter", self.delimiter), ("quote", self.quote)):
            if value and len(value) != 1 and (name, value) not in (("delimiter", r"\t"), ("quote", "none")):
                raise SettingError(f"{name} '{value}' must be a single character.")

    def cell_settings(self, columns: Columns) -> CellSettings:
        """The settings for the cells of some columns."""
        joined = len(columns.get("time", ())) > 1
        times = TimeSettings(self.time_unit, self.time_format, self.time_zone, joined)
        return CellSettings(times, self.click_separator, self.replace_spaces, self.no_query)

    def to_record(self, columns: Mapping[str, object]) -> dict[str, object]:
        """The settings that affect the result, as plain values for the dataset's record.

        Args:
            columns: Columns of each log.

        Returns:
            All settings in order. ``no_query`` is left out if it is the default, as in records of earlier versions.
        """
        values = asdict(self) | {"columns": dict(columns)}
        no_query = values.pop("no_query")
        return values if self.no_query == NO_QUERY else values | {"no_query": list(no_query)}


@dataclass(frozen=True)
class Log:
    """One inspected log.

    Args:
        role: ``interactions``, ``searches`` or ``items``.
        layouts: Layouts of its files.
        columns: Columns of each meaning.
        empty: Names of empty files.
    """

    role: str
    layouts: list[Layout]
    columns: Columns
    empty: tuple[str, ...] = ()

    @property
    def paths(self) -> dict[str, Path]:
        """Paths of the files, keyed by their names in messages."""
        return {layout.file.name: layout.file.path for layout in self.layouts}

    @property
    def path(self) -> Path:
        """Path of the first file."""
        return self.layouts[0].file.path

    def empty_files_warning(self) -> str | None:
        """A warning about empty files; None if there are none."""
        if not self.empty:
            return None
        more = f" and {len(self.empty) - _NAMES_SHOWN:,} more" if len(self.empty) > _NAMES_SHOWN else ""
        names = ", ".join(self.empty[:_NAMES_SHOWN]) + more
        are = "is" if len(self.empty) == 1 else "are"
        return f"{len(self.empty):,} of the files of {self.role} {are} empty and left out: {names}."

    def named_columns(self) -> dict[str, list[str]]:
        """Columns as plain values."""
        return {meaning: list(names) for meaning, names in self.columns.items()}


def inspect_logs(
    interactions: str | Path, searches: str | Path, items: str | Path | None, settings: LogSettings
) -> list[Log]:
    """Find the files of the logs and detect their layouts and the meaning of their columns, without reading all rows.

    Raises:
        DataError: If a file is missing or cannot be interpreted.
    """
    paths = {"interactions": interactions, "searches": searches, "items": items}
    return [_inspect(role, path, settings) for role, path in paths.items() if path is not None]


def _inspect(role: str, path: str | Path, settings: LogSettings) -> Log:
    requested = settings.columns.get(role, {})
    delimiter = "\t" if settings.delimiter == r"\t" else settings.delimiter
    quote = "" if settings.quote == "none" else settings.quote
    files = find_log_files(path)
    # Distributed systems write an empty file if a worker has no rows.
    filled = [file for file in files if not is_empty(file)]
    if not filled:
        all_of_them = "the file is" if len(files) == 1 else f"all {len(files):,} files are"
        raise DataError(
            files[0].path if len(files) == 1 else Path(path), f"{all_of_them} empty", "Give files with rows."
        )
    layouts = [inspect_file(file, settings.encoding, delimiter, quote, requested_names([requested])) for file in filled]
    empty = tuple(file.name for file in files if file not in filled)
    return Log(role, layouts, resolve_columns(role, layouts[0].file.path, layouts[0].columns, requested), empty)
