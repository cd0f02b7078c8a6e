"""Converter of your own logs of interactions and searches: CSV, Parquet or JSON Lines, with any column names.

The files are read as text into tables (:mod:`~dataset_converters.logs.reader`). Every cell is checked
(:mod:`~dataset_converters.logs.sql_tables`), and the interpretation is reported
(:mod:`~dataset_converters.logs.evidence`).
"""

import logging
import tempfile
from pathlib import Path

import duckdb

from dataset_converters.bad_rows import BadRows, handle_bad_rows, remove_bad_rows
from dataset_converters.choices import Options
from dataset_converters.conversion import convert
from dataset_converters.logs.evidence import describe
from dataset_converters.logs.log_settings import Log, LogSettings, inspect_logs
from dataset_converters.logs.sql_tables import ADVICE
from dataset_converters.logs.steps import check_logs, drop_tables, fill_tables, read_logs
from dataset_converters.workspace import workspace
from recbole_gserec.errors import GSERecError

logger = logging.getLogger(__name__)


def convert_logs(
    output_dir: str | Path,
    name: str,
    interactions: str | Path,
    searches: str | Path,
    items: str | Path | None = None,
    *,
    settings: LogSettings | None = None,
    options: Options | None = None,
) -> Path:
    """Make a search-extended dataset from logs.

    Args:
        output_dir: Folder of all datasets (RecBole's ``data_path``).
        name: Name of the new dataset.
        interactions: A file, a folder of files, or a pattern such as ``part-*.csv``.
        searches: As for ``interactions``.
        items: As for ``interactions``, with the texts of items. Without it, items have no texts.
        settings: How to read the logs.
        options: Options of the conversion.

    Returns:
        The dataset's folder ``<output_dir>/<name>``. An existing identical dataset is kept.

    Raises:
        DataError: If the logs are ambiguous or cannot be used, or the output folder has other content.
        SettingError: If a setting or an option is invalid.
    """
    settings, options = settings or LogSettings(), options or Options()
    logs = inspect_logs(interactions, searches, items, settings)

    def read(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
        def handle_bad_rows_of(table: str, log: Log) -> list[BadRows]:
            return handle_bad_rows(connection, table, log.paths, options.bad_rows, ADVICE)

        interpretations = read_logs(connection, logs, settings, handle_bad_rows_of, options.words)
        warnings = check_logs(connection, logs, interpretations, settings)
        longest = fill_tables(connection, interpretations, settings)
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s", describe(connection, interpretations, longest))
        for warning in warnings:
            logger.warning("warning: %s", warning)
        drop_tables(connection)
        return [bad for log in interpretations for bad in log.bad_rows]

    return convert(
        output_dir,
        name,
        "logs",
        {f"{log.role}/{file}": path for log in logs for file, path in log.paths.items()},
        read,
        options,
        settings=settings.to_record({log.role: log.named_columns() for log in logs}),
    )


def explain_logs(
    interactions: str | Path,
    searches: str | Path,
    items: str | Path | None = None,
    *,
    settings: LogSettings | None = None,
    options: Options | None = None,
    folder: str | Path | None = None,
) -> str:
    """Describe how a conversion would interpret the logs and what it would reject, without writing a dataset.

    Args:
        interactions: As for :func:`convert_logs`.
        searches: As for :func:`convert_logs`.
        items: As for :func:`convert_logs`.
        settings: How to read the logs.
        options: Options of the conversion. The filters are ignored.
        folder: Folder for the temporary database. The default is the system's temporary folder.

    Returns:
        A text of several lines.

    Raises:
        DataError: If the logs cannot be interpreted at all.
        SettingError: If a setting or an option is invalid.
    """
    settings, options = settings or LogSettings(), options or Options()
    logs = inspect_logs(interactions, searches, items, settings)
    with workspace(folder or tempfile.gettempdir(), options.memory, options.threads) as connection:
        interpretations = read_logs(
            connection, logs, settings, lambda table, _: remove_bad_rows(connection, table), options.words
        )
        try:
            problems = [f"warning: {text}" for text in check_logs(connection, logs, interpretations, settings)]
        except GSERecError as error:
            problems = [f"would be rejected: {error}"]
        longest = fill_tables(connection, interpretations, settings)
        description = describe(connection, interpretations, longest)
    bad = sum(log.n_bad_rows for log in interpretations)
    if bad and options.bad_rows == "error":
        problems.append(f"would be rejected: {bad:,} bad rows. Fix them, or leave them out: --bad-rows skip.")
    return "\n".join([description, *problems])
