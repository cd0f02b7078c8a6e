"""Converter of Qilin: search and recommendation logs of the same users of Xiaohongshu, with the texts of notes.

Each clicked recommended note is an interaction. Each query is a search, and its clicked notes are its items.

https://huggingface.co/datasets/THUIR/Qilin, Chen et al., SIGIR 2025. GSERec's authors process the data differently
(notebooks in https://github.com/TengShi-RUC/GSERec). ``choices.AS_PUBLISHED`` reproduces their processing.
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
    files_in,
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
        name: Name of the new dataset.
        reading: How to interpret the logs.
        options: Options of the conversion.

    Returns:
        The dataset's folder ``<output_dir>/<name>``. An existing identical dataset is kept.

    Raises:
        DataError: If the source is missing or malformed, or the output folder has other content.
        SettingError: If an option is invalid.
    """
    reading, options = reading or QilinReading(), options or QILIN_DEFAULTS
    if reading.raw_times and (options.filters.since, options.filters.until) != (None, None):
        raise SettingError("since and until need all times in one unit. Remove raw_times or as_published.")
    files = find_files(Path(source))

    def read(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
        left_out = []
        for side in (RECOMMENDATIONS, SEARCHES):
            shown = read_results(
                connection,
                side,
                files_in(files, side.folders),
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
            files_in(files, [NOTES]),
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
