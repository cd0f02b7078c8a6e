"""Anybody's own logs of interactions and searches: CSV, Parquet or JSON Lines, whatever their columns are named.

The files are read as text into tables (:mod:`~dataset_converters.logs_reader`), every cell is checked
(:mod:`~dataset_converters.logs_tables`), and what was understood is told (:mod:`~dataset_converters.logs_summary`).
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import duckdb

from dataset_converters import bad_rows, logs_steps
from dataset_converters.bad_rows import BadRows
from dataset_converters.choices import Options
from dataset_converters.conversion import convert
from dataset_converters.logs_settings import Log, LogSettings, inspect_logs
from dataset_converters.logs_summary import describe
from dataset_converters.logs_tables import REMEDIES
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
        name: The new dataset's name.
        interactions: File, folder of parts or pattern such as ``part-*.csv``.
        searches: Likewise.
        items: Likewise, with the texts of items; without it they have none.
        settings: How the logs are to be read.
        options: Of the conversion.

    Returns:
        The dataset's folder ``<output_dir>/<name>``. If it already holds the same dataset, nothing is done.

    Raises:
        DataError: If the logs cannot be understood or used, or the folder holds anything else.
        SettingError: If a setting or an option cannot be used.
    """
    settings, options = settings or LogSettings(), options or Options()
    logs = inspect_logs(interactions, searches, items, settings)

    def read(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
        def settle(table: str, log: Log) -> list[BadRows]:
            return bad_rows.settle(connection, table, log.paths, options.bad_rows, REMEDIES)

        understood = logs_steps.read(connection, logs, settings, settle, options.words)
        warnings = logs_steps.check(connection, logs, understood, settings)
        longest = logs_steps.fill(connection, understood, settings)
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s", describe(connection, understood, longest))
        for warning in warnings:
            logger.warning("warning: %s", warning)
        logs_steps.drop(connection)
        return [bad for log in understood for bad in log.bad_rows]

    return convert(
        output_dir,
        name,
        "logs",
        {f"{log.role}/{file}": path for log in logs for file, path in log.paths.items()},
        read,
        options,
        settings=settings.recorded({log.role: log.named_columns() for log in logs}),
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
    """Tell what a conversion would understand, and what it would refuse; nothing is written.

    Args:
        interactions: As for :func:`convert_logs`.
        searches: As for :func:`convert_logs`.
        items: As for :func:`convert_logs`.
        settings: How the logs are to be read.
        options: Of the conversion; the filters are not applied.
        folder: In which the database lies for the time being; the system's temporary folder by default.

    Returns:
        Several lines.

    Raises:
        DataError: If the logs cannot be understood at all.
        SettingError: If a setting or an option cannot be used.
    """
    settings, options = settings or LogSettings(), options or Options()
    logs = inspect_logs(interactions, searches, items, settings)
    with workspace(folder or tempfile.gettempdir(), options.memory, options.threads) as connection:
        understood = logs_steps.read(
            connection, logs, settings, lambda table, _: bad_rows.take_out(connection, table), options.words
        )
        try:
            problems = [f"warning: {text}" for text in logs_steps.check(connection, logs, understood, settings)]
        except GSERecError as error:
            problems = [f"would be refused: {error}"]
        longest = logs_steps.fill(connection, understood, settings)
        told = describe(connection, understood, longest)
    bad = sum(log.bad for log in understood)
    if bad and options.bad_rows == "error":
        problems.append(f"would be refused: {bad:,} bad rows. Mend them, or leave them out: --bad-rows skip.")
    return "\n".join([told, *problems])
