"""A DuckDB database in a temporary folder, in which raw logs become a dataset within bounded memory."""

from __future__ import annotations

import glob
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from tqdm import tqdm

from recbole_gserec.errors import NO_ROOM, DataError, SettingError
from recbole_gserec.files import scratch_folder

_POLL_SECONDS = 0.5
_MEMORY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:[KMGT]i?B|%)\s*", re.IGNORECASE)
_MOST_THREADS = 1024


@contextmanager
def workspace(
    folder: str | Path, memory: str = "2GB", threads: int | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to an empty database beside the results; it goes when the block ends.

    Tables live in a file, and what exceeds the memory spills to the disk, so a conversion needs free disk space of
    about the size of the uncompressed source, and no more memory for a larger one.

    Args:
        folder: In which the temporary folder is made: the one that the dataset will be in, where there is room for it.
        memory: Limit of the database's memory, like ``2GB``.
        threads: Of the database; as many as processors by default.

    Raises:
        SettingError: If ``memory`` or ``threads`` cannot be used.
        DataError: If the memory is not enough, the folder cannot be written or the disk is full.
        KeyboardInterrupt: If the user interrupts a statement, for which DuckDB has errors of its own.
    """
    _check_resources(memory, threads)
    folder = Path(folder)
    try:
        with scratch_folder(folder, "converting") as temporary:
            connection = duckdb.connect(temporary / "workspace.duckdb")
            try:
                _configure(connection, temporary, memory, threads)
                yield connection
            finally:
                connection.close()
    except (duckdb.Error, OSError, RuntimeError) as error:
        told = _told(error, folder, memory)
        if told is None:
            raise
        raise told from error


def _told(error: Exception, folder: Path, memory: str) -> BaseException | None:
    """What an error means to the user; none if it is about something else."""
    if isinstance(error, duckdb.InterruptException) or str(error) == "Query interrupted":
        return KeyboardInterrupt()
    if isinstance(error, duckdb.OutOfMemoryException) and "max_temp_directory_size" not in str(error):
        return DataError(folder, f"the memory of {memory} is not enough", "Give more by --memory, or fewer --threads.")
    if isinstance(error, duckdb.OutOfMemoryException):
        return DataError(folder, "the disk is full", "Make room: about the size of the uncompressed source.")
    # A transaction that cannot be written to the disk has an error of its own kind.
    no_room = any(os.strerror(number) in str(error) for number in NO_ROOM)
    if not no_room and not isinstance(error, (duckdb.IOException, OSError)):
        return None
    path = getattr(error, "filename", None)
    path = path if isinstance(path, (str, Path)) else folder
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return DataError(path, f"the conversion cannot read or write ({reason})", "Check the disk and rights.")


def one_file(path: Path) -> str:
    """The path as DuckDB's readers have to be given it: they take ``[``, ``*`` and ``?`` in a name for a pattern."""
    return glob.escape(str(path))


def _check_resources(memory: str, threads: int | None) -> None:
    # DuckDB takes -1 for no limit, and aborts the process where it cannot start as many threads as asked for.
    given = _MEMORY.fullmatch(memory)
    if given is None or not float(given[1]):
        raise SettingError(f"memory '{memory}' cannot be used. Give one like 2GB.")
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise SettingError(f"threads {threads} cannot be used. Give 1 to {_MOST_THREADS}.")


def _configure(connection: duckdb.DuckDBPyConnection, folder: Path, memory: str, threads: int | None) -> None:
    try:
        connection.execute("SET memory_limit = ?", [memory])
        if threads is not None:
            connection.execute("SET threads = ?", [threads])
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"memory '{memory}' or threads {threads} cannot be used: {reason}") from None
    connection.execute("SET temp_directory = ?", [str(folder / "spill")])
    # Rows keep the order of their file: interactions of equal time are ordered by it.
    connection.execute("SET preserve_insertion_order = true")
    # Where it takes the session for an interactive one, DuckDB prints a bar of its own.
    connection.execute("SET enable_progress_bar_print = false")
    # Nothing is fetched from anywhere.
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    connection.execute("SET TimeZone = 'UTC'")


def run(connection: duckdb.DuckDBPyConnection, sql: str, parameters: list | None = None, *, label: str = "") -> None:
    """Execute a long statement under a progress bar.

    Args:
        connection: Of the workspace.
        sql: One statement.
        parameters: Its values.
        label: What it does, for the bar, which is shown in a terminal only.
    """
    with tqdm(total=100, desc=label, unit="%", leave=False, disable=not (label and sys.stderr.isatty())) as bar:
        done = threading.Event()

        def poll() -> None:
            while not done.wait(_POLL_SECONDS):
                bar.update(max(0, round(connection.query_progress()) - bar.n))

        poller = threading.Thread(target=poll, daemon=True)
        poller.start()
        try:
            connection.execute(sql, parameters or [])
        finally:
            done.set()
            poller.join()


def count(connection: duckdb.DuckDBPyConnection, sql: str, parameters: list | None = None) -> int:
    """The single number that a query returns."""
    return only_row(connection, sql, parameters)[0]


def only_row(connection: duckdb.DuckDBPyConnection, sql: str, parameters: list | None = None) -> tuple[Any, ...]:
    """The single row that a query returns."""
    # All of it is fetched: DuckDB registers nothing while a result waits.
    return connection.execute(sql, parameters or []).fetchall()[0]
