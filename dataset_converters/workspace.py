"""A DuckDB database in a temporary folder, in which raw logs become a dataset within bounded memory."""

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


def literal(text: str) -> str:
    """Quote a text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


_POLL_SECONDS = 0.5
_MEMORY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:[KMGT]i?B|%)\s*", re.IGNORECASE)
_MOST_THREADS = 1024


@contextmanager
def workspace(
    folder: str | Path, memory: str = "2GB", threads: int | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to an empty database, which is deleted at the end of the block.

    Tables are stored in a file, and DuckDB moves data to the disk when it reaches the memory limit. A conversion
    therefore needs about as much free disk space as the uncompressed source, but no more memory for a larger source.

    Args:
        folder: Folder for the temporary database. Use the output folder, which has room for the dataset.
        memory: Memory limit of the database, like ``2GB``.
        threads: Number of database threads. The default is one per processor.

    Raises:
        SettingError: If ``memory`` or ``threads`` is invalid.
        DataError: If the memory is not enough, the folder cannot be written or the disk is full.
        KeyboardInterrupt: If the user interrupts a statement. DuckDB itself raises other errors for this.
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
        user_error = _user_error(error, folder, memory)
        if user_error is None:
            raise
        raise user_error from error


def _user_error(error: Exception, folder: Path, memory: str) -> BaseException | None:
    """Translate an error about memory, disk or interruption for the user; None for other errors."""
    if isinstance(error, duckdb.InterruptException) or str(error) == "Query interrupted":
        return KeyboardInterrupt()
    if isinstance(error, duckdb.OutOfMemoryException) and "max_temp_directory_size" not in str(error):
        return DataError(folder, f"the memory of {memory} is not enough", "Increase --memory, or reduce --threads.")
    if isinstance(error, duckdb.OutOfMemoryException):
        return DataError(folder, "the disk is full", "Free about as much space as the uncompressed source needs.")
    # If DuckDB cannot write a transaction to the disk, it raises another error class.
    no_room = any(os.strerror(number) in str(error) for number in NO_ROOM)
    if not no_room and not isinstance(error, (duckdb.IOException, OSError)):
        return None
    path = getattr(error, "filename", None)
    path = path if isinstance(path, (str, Path)) else folder
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return DataError(path, f"the conversion cannot read or write ({reason})", "Check the disk and the permissions.")


def escape_pattern(path: Path) -> str:
    """Escape a path for DuckDB's readers, which treat ``[``, ``*`` and ``?`` as a pattern."""
    return glob.escape(str(path))


def _check_resources(memory: str, threads: int | None) -> None:
    # DuckDB reads -1 as no limit, and aborts the process if it cannot start all the threads.
    parsed = _MEMORY.fullmatch(memory)
    if parsed is None or not float(parsed[1]):
        raise SettingError(f"memory '{memory}' is invalid. Give a limit like 2GB.")
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise SettingError(f"threads {threads} is invalid. Give 1 to {_MOST_THREADS}.")


def _configure(connection: duckdb.DuckDBPyConnection, folder: Path, memory: str, threads: int | None) -> None:
    try:
        connection.execute("SET memory_limit = ?", [memory])
        if threads is not None:
            connection.execute("SET threads = ?", [threads])
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"memory '{memory}' or threads {threads} is invalid: {reason}") from None
    connection.execute("SET temp_directory = ?", [str(folder / "spill")])
    # Rows must keep the order of their file, because it orders interactions of equal time.
    connection.execute("SET preserve_insertion_order = true")
    # In a session that it considers interactive, DuckDB would print its own progress bar.
    connection.execute("SET enable_progress_bar_print = false")
    # DuckDB must not download extensions.
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    connection.execute("SET TimeZone = 'UTC'")


def run(connection: duckdb.DuckDBPyConnection, sql: str, parameters: list | None = None, *, label: str = "") -> None:
    """Execute a long statement with a progress bar.

    Args:
        connection: Connection to the workspace.
        sql: One SQL statement.
        parameters: Values of the statement's parameters.
        label: Label of the progress bar. Without a label or a terminal, no bar appears.
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
    # Fetch the whole result, because DuckDB cannot register tables while a result is pending.
    return connection.execute(sql, parameters or []).fetchall()[0]
