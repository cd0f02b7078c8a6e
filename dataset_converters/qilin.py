"""Qilin: logs of searches and recommendations of the same users of Xiaohongshu, with the notes' texts.

Each clicked note of a recommendation is an interaction; each query is a search, and its clicked notes are its items.

https://huggingface.co/datasets/THUIR/Qilin, Chen et al., SIGIR 2025. GSERec's authors process it otherwise (their
notebooks in https://github.com/TengShi-RUC/GSERec); ``choices.AS_PUBLISHED`` does as they do.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import duckdb

from dataset_converters.bad_rows import BadRows
from dataset_converters.choices import QILIN, QILIN_DEFAULTS, Options, QilinReading
from dataset_converters.conversion import convert
from dataset_converters.qilin_events import choose_clicks, drop_textless, fill_events
from dataset_converters.qilin_results import (
    NOTES,
    RECOMMENDATIONS,
    SEARCHES,
    files_of,
    find_files,
    read_notes,
    read_results,
)
from recbole_gserec.errors import SettingError


def convert_qilin(
    output_dir: str | Path,
    source: str | Path,
    name: str = QILIN,
    reading: QilinReading | None = None,
    *,
    options: Options | None = None,
) -> Path:
    """Make a search-extended dataset from Qilin.

    Args:
        output_dir: Folder of all datasets (RecBole's ``data_path``).
        source: Folder with the folders ``recommendation_train``, ``recommendation_test``, ``search_train``,
            ``search_test`` and ``notes``.
        name: The new dataset's name.
        reading: How the logs are understood.
        options: Of the conversion.

    Returns:
        The dataset's folder ``<output_dir>/<name>``. If it already holds the same dataset, nothing is done.

    Raises:
        DataError: If the source is missing or malformed, or the folder holds anything else.
        SettingError: If an option cannot be used.
    """
    reading, options = reading or QilinReading(), options or QILIN_DEFAULTS
    if reading.raw_times and (options.filters.since, options.filters.until) != (None, None):
        raise SettingError("since and until need times in one unit: leave out raw_times, or as_published.")
    files = find_files(Path(source))

    def read(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
        left_out = []
        for side in (RECOMMENDATIONS, SEARCHES):
            shown = read_results(
                connection,
                side,
                files_of(files, side.folders),
                options.bad_rows,
                raw_times=reading.raw_times,
                as_listed=reading.as_listed,
            )
            left_out += shown + choose_clicks(connection, side, reading)
        connection.execute(
            f"""
            CREATE TABLE mentioned AS
            SELECT item FROM {RECOMMENDATIONS.clicks} UNION SELECT item FROM {SEARCHES.clicks}
            """
        )
        left_out += read_notes(
            connection,
            files_of(files, [NOTES]),
            options.bad_rows,
            wanted=None if options.all_items else "mentioned",
            content_length=reading.content_length,
        )
        if reading.drop_textless:
            left_out += drop_textless(connection)
        return left_out + fill_events(connection, reading)

    return convert(
        output_dir,
        name,
        "qilin",
        files,
        read,
        options,
        settings=dataclasses.asdict(reading),
        mixed_units=reading.raw_times,
    )
