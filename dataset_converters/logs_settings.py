"""Which logs are to be read, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dataset_converters import logs_tables
from dataset_converters.logs_columns import Columns, known_names, resolve
from dataset_converters.logs_files import find, is_empty
from dataset_converters.logs_layout import Layout, inspect
from dataset_converters.logs_text import NO_QUERY
from dataset_converters.logs_time import TimeSettings
from recbole_gserec.errors import DataError, SettingError

_NAMES_SHOWN = 3


@dataclass(frozen=True)
class LogSettings:
    """How the logs are to be read; what is not said is found in the files.

    Args:
        columns: For ``interactions``, ``searches`` and ``items``, the columns of each meaning.
        encoding: Of texts.
        delimiter: Between the cells of separated text.
        quote: Around cells of separated text; the empty text or ``none`` says that nothing is quoted.
        click_separator: Between the clicked items in a cell.
        time_unit: Of numbers (:data:`dataset_converters.choices.UNITS`).
        time_format: Of dates, as for ``strptime``.
        time_zone: Of dates that name none.
        no_query: Texts that stand for no query, in any case.
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
                raise SettingError(f"{name} '{value}' is not one character.")

    def of_cells(self, columns: Columns) -> logs_tables.Settings:
        """What is said of the cells of some columns."""
        joined = len(columns.get("time", ())) > 1
        times = TimeSettings(self.time_unit, self.time_format, self.time_zone, joined)
        return logs_tables.Settings(times, self.click_separator, self.replace_spaces, self.no_query)

    def recorded(self, columns: Mapping[str, object]) -> dict[str, object]:
        """What determines the result, as plain values.

        Args:
            columns: Those of each log.

        Returns:
            All settings, in their order; records of former versions have no ``no_query``, which is left out if it is
            the default.
        """
        values = asdict(self) | {"columns": dict(columns)}
        no_query = values.pop("no_query")
        return values if self.no_query == NO_QUERY else values | {"no_query": list(no_query)}


@dataclass(frozen=True)
class Log:
    """One log that is to be read.

    Args:
        role: ``interactions``, ``searches`` or ``items``.
        layouts: Of its files.
        columns: Of each meaning.
        empty: Names of parts that hold nothing.
    """

    role: str
    layouts: list[Layout]
    columns: Columns
    empty: tuple[str, ...] = ()

    @property
    def paths(self) -> dict[str, Path]:
        """Its files by the names under which their rows are told of."""
        return {layout.file.name: layout.file.path for layout in self.layouts}

    @property
    def path(self) -> Path:
        """Its first file."""
        return self.layouts[0].file.path

    def empty_parts(self) -> str | None:
        """What to say of parts that hold nothing; None if there are none."""
        if not self.empty:
            return None
        more = f" and {len(self.empty) - _NAMES_SHOWN:,} more" if len(self.empty) > _NAMES_SHOWN else ""
        told = ", ".join(self.empty[:_NAMES_SHOWN]) + more
        hold, are = ("holds", "is") if len(self.empty) == 1 else ("hold", "are")
        return f"{len(self.empty):,} of the files of {self.role} {hold} nothing, and {are} left out: {told}."

    def named_columns(self) -> dict[str, list[str]]:
        """Its columns as plain values."""
        return {meaning: list(names) for meaning, names in self.columns.items()}


def inspect_logs(
    interactions: str | Path, searches: str | Path, items: str | Path | None, settings: LogSettings
) -> list[Log]:
    """Find the files of the logs, how they are laid out and what their columns mean; rows are not read.

    Raises:
        DataError: If there is no such file, or it cannot be understood.
    """
    given = {"interactions": interactions, "searches": searches, "items": items}
    return [_inspect(role, place, settings) for role, place in given.items() if place is not None]


def _inspect(role: str, place: str | Path, settings: LogSettings) -> Log:
    given = settings.columns.get(role, {})
    delimiter = "\t" if settings.delimiter == r"\t" else settings.delimiter
    quote = "" if settings.quote == "none" else settings.quote
    files = find(place)
    # Systems that write parts leave empty ones where a worker had nothing to write.
    filled = [file for file in files if not is_empty(file)]
    if not filled:
        all_of_them = "the file is" if len(files) == 1 else f"all {len(files):,} files are"
        raise DataError(
            files[0].path if len(files) == 1 else Path(place), f"{all_of_them} empty", "Give files with rows."
        )
    layouts = [inspect(file, settings.encoding, delimiter, quote, known_names([given])) for file in filled]
    empty = tuple(file.name for file in files if file not in filled)
    return Log(role, layouts, resolve(role, layouts[0].file.path, layouts[0].columns, given), empty)
