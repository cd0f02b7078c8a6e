"""Settings for reading logs, and the inspection of their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dataset_converters import logs_tables
from dataset_converters.logs_columns import Columns, requested_names, resolve_columns
from dataset_converters.logs_files import find_log_files, is_empty
from dataset_converters.logs_layout import Layout, inspect_file
from dataset_converters.logs_text import NO_QUERY
from dataset_converters.logs_time import TimeSettings
from recbole_gserec.errors import DataError, SettingError

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

    def cell_settings(self, columns: Columns) -> logs_tables.CellSettings:
        """The settings for the cells of some columns."""
        joined = len(columns.get("time", ())) > 1
        times = TimeSettings(self.time_unit, self.time_format, self.time_zone, joined)
        return logs_tables.CellSettings(times, self.click_separator, self.replace_spaces, self.no_query)

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
